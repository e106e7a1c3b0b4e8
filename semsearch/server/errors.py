"""Error responses: `application/problem+json` (RFC 9457) for the API, an HTML page for a browser; never a traceback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

import structlog
from flask import Flask, Response, render_template, request
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from semsearch.errors import (
    ConflictError,
    IndexBusyError,
    InputError,
    LabelError,
    OverloadedError,
    QueryError,
    StateError,
    StorageError,
)
from semsearch.server.i18n import texts
from semsearch.server.runtime.batching import AbandonedError
from semsearch.server.runtime.served_index import NotWritableError
from semsearch.server.runtime.service import UnknownIndexError
from semsearch.server.schemas.search import FieldError, Problem

log = structlog.get_logger("semsearch.server")

PAGES = frozenset({"search_page", "document_page", "domain_page", "status_page", "map_page"})
"""Blueprints whose errors are rendered as HTML pages."""


class FieldProblem(Exception):  # noqa: N818 - a client's mistake, not a failure of the server
    """An invalid request, with one error for each invalid field."""

    def __init__(self, errors: Sequence[FieldError], *, status: HTTPStatus = HTTPStatus.UNPROCESSABLE_ENTITY) -> None:
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in errors))
        self.errors = tuple(errors)
        self.status = status

    @classmethod
    def of(cls, error: ValidationError) -> FieldProblem:
        """Convert a validation error: pydantic's messages and the client's field names, without the values."""
        # values are left out: they could be a whole body, and bytes cannot be rendered as JSON
        details = error.errors(include_input=False, include_url=False, include_context=False)
        malformed = any(detail["type"] == "json_invalid" for detail in details)
        return cls(
            [
                FieldError(
                    field=".".join(str(key) for key in detail["loc"]),
                    message=detail["msg"].removeprefix("Value error, "),
                )
                for detail in details
            ],
            status=HTTPStatus.BAD_REQUEST if malformed else HTTPStatus.UNPROCESSABLE_ENTITY,
        )


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
    InputError: _Rule(HTTPStatus.UNPROCESSABLE_ENTITY),
    LabelError: _Rule(HTTPStatus.UNPROCESSABLE_ENTITY),
    StateError: _Rule(HTTPStatus.UNPROCESSABLE_ENTITY),
    UnknownIndexError: _Rule(HTTPStatus.NOT_FOUND, field="index"),
    NotWritableError: _Rule(HTTPStatus.NOT_FOUND),
    IndexBusyError: _Rule(HTTPStatus.CONFLICT),
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


def _fields(error: FieldProblem) -> Response:
    return _answer(error.status, str(error), errors=error.errors)


def _abandoned(_error: AbandonedError) -> Response:
    # the client has disconnected, so no body is rendered
    return Response(status=HTTPStatus.SERVICE_UNAVAILABLE)


def _http(error: HTTPException) -> Response:
    status = HTTPStatus(error.code or 500)
    response = _answer(status, error.description or status.description)
    for name, value in error.get_headers():
        if name.lower() in {"allow", "retry-after", "www-authenticate"}:
            response.headers[name] = value
    return response


def _unexpected(error: Exception) -> Response:
    log.error("request failed", path=request.path, exc_info=error)
    return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error: see the server's log")


def _answer(status: HTTPStatus, detail: str, *, errors: Sequence[FieldError] = ()) -> Response:
    if request.blueprint in PAGES and not request.path.startswith("/api/"):
        t = texts()
        key = f"error.{status.value}"
        page = render_template(
            "error.html", status=status.value, title=t(key if key in t.keys else "error.other"), detail=detail
        )
        return Response(page, status=status, mimetype="text/html")
    problem = Problem(title=status.phrase, status=status.value, detail=detail, errors=tuple(errors))
    return Response(problem.model_dump_json(), status=status, content_type="application/problem+json")
