"""Failures as `application/problem+json` (RFC 9457), or as a page for a browser; never a traceback."""

from __future__ import annotations

from collections.abc import Sequence
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
    SemsearchError,
    StateError,
    StorageError,
)
from semsearch.server.i18n import texts
from semsearch.server.runtime.batching import AbandonedError
from semsearch.server.runtime.served_index import NotWritableError
from semsearch.server.runtime.service import UnknownIndexError
from semsearch.server.schemas.search import FieldError, Problem

log = structlog.get_logger("semsearch.server")

PAGES = frozenset({"page", "reading", "learned", "status", "map"})
"""Blueprints whose answers are for people."""


class FieldProblem(Exception):  # noqa: N818 - it is what the caller is told, not a failure of ours
    """A request that cannot be understood, field by field."""

    def __init__(self, errors: Sequence[FieldError], *, status: HTTPStatus = HTTPStatus.UNPROCESSABLE_ENTITY) -> None:
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in errors))
        self.errors = tuple(errors)
        self.status = status

    @classmethod
    def of(cls, error: ValidationError) -> FieldProblem:
        """The problem in pydantic's words, with the names a caller used and without the values."""
        # the values stay out: a whole body would come back, and bytes break the error itself
        found = error.errors(include_input=False, include_url=False, include_context=False)
        malformed = any(one["type"] == "json_invalid" for one in found)
        return cls(
            [
                FieldError(
                    field=".".join(str(part) for part in one["loc"]),
                    message=one["msg"].removeprefix("Value error, "),
                )
                for one in found
            ],
            status=HTTPStatus.BAD_REQUEST if malformed else HTTPStatus.UNPROCESSABLE_ENTITY,
        )


def register(app: Flask) -> None:
    """Answer every failure of `app` in one manner."""

    @app.errorhandler(FieldProblem)
    def _fields(error: FieldProblem) -> Response:
        return _answer(error.status, str(error), errors=error.errors)

    @app.errorhandler(QueryError)
    def _query(error: QueryError) -> Response:
        return _answer(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            str(error),
            errors=(FieldError(field="query", message=str(error)),),
        )

    @app.errorhandler(UnknownIndexError)
    def _index(error: UnknownIndexError) -> Response:
        return _answer(HTTPStatus.NOT_FOUND, str(error), errors=(FieldError(field="index", message=str(error)),))

    @app.errorhandler(NotWritableError)
    def _not_learning(error: NotWritableError) -> Response:
        return _answer(HTTPStatus.NOT_FOUND, str(error))

    @app.errorhandler(StateError)
    @app.errorhandler(LabelError)
    def _senseless(error: SemsearchError) -> Response:
        return _answer(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))

    @app.errorhandler(InputError)
    def _input(error: InputError) -> Response:
        return _answer(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))

    @app.errorhandler(IndexBusyError)
    @app.errorhandler(ConflictError)
    def _conflict(error: SemsearchError) -> Response:
        return _answer(HTTPStatus.CONFLICT, str(error))

    @app.errorhandler(StorageError)
    def _storage(error: StorageError) -> Response:
        log.error("nothing can be kept", error=str(error))
        return _answer(HTTPStatus.INSUFFICIENT_STORAGE, "what was sent cannot be kept; the server's log tells why")

    @app.errorhandler(OverloadedError)
    def _overloaded(error: OverloadedError) -> Response:
        response = _answer(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        response.headers["Retry-After"] = str(error.retry_after_s)
        return response

    @app.errorhandler(AbandonedError)
    def _abandoned(_error: AbandonedError) -> Response:
        # nobody reads it
        return Response(status=HTTPStatus.SERVICE_UNAVAILABLE)

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response:
        status = HTTPStatus(error.code or 500)
        response = _answer(status, error.description or status.description)
        for name, value in error.get_headers():
            if name.lower() in {"allow", "retry-after", "www-authenticate"}:
                response.headers[name] = value
        return response

    @app.errorhandler(Exception)
    def _unexpected(error: Exception) -> Response:
        log.error("request failed", path=request.path, exc_info=error)
        return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed at this request; its log tells why")


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
