"""Error responses: `application/problem+json` (RFC 9457) for the API, an HTML page for a browser; never a traceback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

import structlog
from flask import Flask, Response, current_app, render_template, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import (
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
    UnsupportedMediaType,
)

from semsearch.errors import (
    ConflictError,
    IndexBusyError,
    IndexFolderError,
    LabelError,
    OverloadedError,
    QueryError,
    StateError,
    StateFileError,
    StorageError,
)
from semsearch.server.i18n import Texts, texts
from semsearch.server.runtime.batching import AbandonedError
from semsearch.server.runtime.served_index import NotWritableError
from semsearch.server.runtime.service import UnknownIndexError
from semsearch.server.runtime.storage_problem import IndexUnavailableError
from semsearch.server.schemas.search import FieldError, Problem
from semsearch.server.validation import MAX_ERRORS, field_errors, nearest, shown

log = structlog.get_logger("semsearch.server")

UNAVAILABLE_RETRY_S = 30
"""Seconds after which a client should try again if an index cannot be changed."""
PAGES = frozenset({"search_page", "document_page", "domain_page", "status_page", "map_page", "teaching_page"})
"""Blueprints whose errors are rendered as HTML pages."""


class FieldProblem(Exception):  # noqa: N818 - a client's mistake, not a failure of the server
    """An invalid request, with one error for each invalid field."""

    def __init__(self, errors: Sequence[FieldError], *, status: HTTPStatus = HTTPStatus.UNPROCESSABLE_ENTITY) -> None:
        """Report the first MAX_ERRORS errors, and the number of the others."""
        listed = [f"{error.field}: {error.message}" if error.field else error.message for error in errors[:MAX_ERRORS]]
        if len(errors) > MAX_ERRORS:
            listed.append(f"and {len(errors) - MAX_ERRORS:,} more errors")
        super().__init__("; ".join(listed))
        self.errors = tuple(errors[:MAX_ERRORS])
        self.status = status

    @classmethod
    def of(cls, error: ValidationError, model: type[BaseModel], content: object) -> FieldProblem:
        """Convert a validation error. model: the one that refused the request. content: the request as a JSON value."""
        malformed = any(detail["type"] == "json_invalid" for detail in error.errors(include_url=False))
        status = HTTPStatus.BAD_REQUEST if malformed else HTTPStatus.UNPROCESSABLE_ENTITY
        return cls(field_errors(error, model, content), status=status)


@dataclass(frozen=True, slots=True)
class _Rule:
    """How one class of errors is answered."""

    status: HTTPStatus
    field: str | None = None
    """The request field that the error is about."""
    detail: str | None = None
    """Sent instead of the error's own message, which is then logged as an error."""


_RULES: Mapping[type[Exception], _Rule] = {
    QueryError: _Rule(HTTPStatus.UNPROCESSABLE_ENTITY),
    LabelError: _Rule(HTTPStatus.UNPROCESSABLE_ENTITY),
    StateError: _Rule(HTTPStatus.UNPROCESSABLE_ENTITY),
    StateFileError: _Rule(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        detail="the domain's files are damaged, or belong to another encoder: `semsearch domains list` says how",
    ),
    UnknownIndexError: _Rule(HTTPStatus.NOT_FOUND, field="index"),
    NotWritableError: _Rule(HTTPStatus.NOT_FOUND),
    IndexFolderError: _Rule(
        HTTPStatus.SERVICE_UNAVAILABLE,
        detail="the index on disk is damaged: its operator finds the reason in the server's log, and builds it again",
    ),
    IndexBusyError: _Rule(HTTPStatus.CONFLICT, detail="another build or change is writing the index: try again later"),
    ConflictError: _Rule(HTTPStatus.CONFLICT),
    OverloadedError: _Rule(HTTPStatus.SERVICE_UNAVAILABLE),
    StorageError: _Rule(
        HTTPStatus.INSUFFICIENT_STORAGE, detail="the request could not be stored; see the server's log"
    ),
}
"""Errors of the library, and how each is answered. For a subclass, Flask uses the rule of its nearest listed class."""


def register(app: Flask) -> None:
    """Register the error handlers of `app`."""
    for error_class, rule in _RULES.items():
        app.register_error_handler(error_class, partial(_apply_rule, rule))
    app.register_error_handler(IndexUnavailableError, _unavailable)
    app.register_error_handler(FieldProblem, _fields)
    app.register_error_handler(AbandonedError, _abandoned)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


def _apply_rule(rule: _Rule, error: Exception) -> Response:
    if rule.detail is not None:
        log.error("request failed", path=request.path, error=str(error))
    detail = rule.detail or str(error)
    field = error.field if isinstance(error, QueryError) else rule.field
    response = _answer(rule.status, detail, errors=() if field is None else (FieldError(field=field, message=detail),))
    if isinstance(error, OverloadedError):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def _unavailable(error: IndexUnavailableError) -> Response:
    is_away = error.problem in {"missing", "read-only"}
    response = _answer(HTTPStatus.SERVICE_UNAVAILABLE if is_away else HTTPStatus.INSUFFICIENT_STORAGE, str(error))
    response.headers["Retry-After"] = str(UNAVAILABLE_RETRY_S)
    return response


def _fields(error: FieldProblem) -> Response:
    return _answer(error.status, str(error), errors=error.errors)


def _abandoned(_error: AbandonedError) -> Response:
    # the client has disconnected, so no body is rendered
    return Response(status=HTTPStatus.SERVICE_UNAVAILABLE)


def _http(error: HTTPException) -> Response:
    status = HTTPStatus(error.code or 500)
    detail = error.description or status.description
    if detail == type(error).description:
        # the default texts of Werkzeug do not name what was sent
        detail = _standard_detail(error) or detail
    response = _answer(status, detail)
    for name, value in error.get_headers():
        if name.lower() in {"allow", "retry-after", "www-authenticate"}:
            response.headers[name] = value
    if isinstance(error, UnsupportedMediaType):
        response.headers["Accept-Encoding"] = "gzip"
    return response


def _standard_detail(error: HTTPException) -> str | None:
    """Return the sentence about an error that was raised by the framework; None for any other."""
    if isinstance(error, RequestEntityTooLarge):
        return too_large(request.content_length, current_app.config["MAX_CONTENT_LENGTH"])
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return f"{request.path!r} has no method {request.method}: use {allowed}"
    if isinstance(error, NotFound) and request.url_rule is None:
        routes = [rule.rule for rule in current_app.url_map.iter_rules() if "<" not in rule.rule]
        meant = nearest(request.path, sorted(routes))
        suggestion = (
            f"did you mean {meant}?" if meant is not None else "see /api/openapi.json for the addresses of the API"
        )
        return f"there is nothing at {shown(request.path)}: {suggestion}"
    return None


def too_large(size: int | None, limit: int) -> str:
    """Return the sentence about a body that is too large. size: bytes; None if they were not counted. limit: bytes."""
    given = "more" if size is None else f"{size:,} bytes, more"
    return f"the body has {given} than {limit:,} bytes, the limit of this server: send it in parts (--max-body-bytes)"


def _unexpected(error: Exception) -> Response:
    log.error("request failed", path=request.path, exc_info=error)
    return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error: see the server's log")


def _answer(status: HTTPStatus, detail: str, *, errors: Sequence[FieldError] = ()) -> Response:
    if _wants_page():
        t = texts()
        key = f"error.{status.value}"
        translated = _translated(t, detail, errors)
        page = render_template(
            "error.html",
            status=status.value,
            title=t(key if key in t.keys else "error.other"),
            detail=translated or detail,
            is_english=translated is None,
        )
        return Response(page, status=status, mimetype="text/html")
    problem = Problem(title=status.phrase, status=status.value, detail=detail, errors=tuple(errors))
    return Response(problem.model_dump_json(), status=status, content_type="application/problem+json")


def _translated(t: Texts, detail: str, errors: Sequence[FieldError]) -> str | None:
    """Return the detail of an error in the language of the page; None if it has no translation."""
    whole = t.translated(detail)
    if whole is not None or not errors:
        return whole
    messages = [t.translated(error.message) for error in errors]
    if None in messages:
        return None
    return "; ".join(
        f"{error.field}: {message}" if error.field else str(message)
        for error, message in zip(errors, messages, strict=True)
    )


def _wants_page() -> bool:
    """Whether the error is rendered as a page: for addresses of pages and unknown ones, if the client accepts HTML."""
    if request.path == "/api" or request.path.startswith("/api/"):
        return False
    accepted = request.accept_mimetypes
    if request.url_rule is None:
        # a client that names no type is a program
        return accepted.accept_html and accepted["text/html"] > accepted["application/json"]
    json_quality = max(accepted["application/json"], accepted["application/problem+json"])
    return request.blueprint in PAGES and accepted["text/html"] >= json_quality
