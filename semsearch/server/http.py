"""Parse requests into models and render models as responses, for every API route."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flask import Response, request
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from werkzeug.exceptions import UnsupportedMediaType

from semsearch.server.errors import FieldProblem
from semsearch.server.schemas.search import FieldError

Model = TypeVar("Model", bound=BaseModel)


def from_body(model: type[Model], *, optional: bool = False) -> Model:
    """Parse the request's JSON body. If `optional`, an empty body means all defaults.

    Raises FieldProblem if the body is invalid, and UnsupportedMediaType unless it is application/json, which also keeps
    other sites' forms from posting.
    """
    content = request.get_data()
    if optional and not content:
        content = b"{}"
    elif request.mimetype != "application/json":
        raise UnsupportedMediaType(f"the body is {request.mimetype or 'of no type'}: send application/json")
    try:
        return model.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise FieldProblem.of(error) from None


def body_has(field: str) -> bool:
    """Whether the body is a JSON object with this field; false for a body that `from_body` refuses.

    Parsed by pydantic's parser, whose depth is limited: Python's own raises RecursionError for deep nesting.
    """
    try:
        body = from_json(request.get_data() or b"null")
    except ValueError:
        return False
    return isinstance(body, dict) and field in body


def from_query_string(model: type[Model], *, many: frozenset[str] = frozenset()) -> Model:
    """Parse the query string. A field may occur once, or any number of times if `many` names it.

    Raises FieldProblem.
    """
    values: dict[str, object] = {}
    for field, texts in request.args.lists():
        if field in many:
            values[field] = tuple(texts)
        elif len(texts) > 1:
            raise FieldProblem([FieldError(field=field, message="given more than once")])
        else:
            values[field] = texts[0]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise FieldProblem.of(error) from None


def answer(model: BaseModel, status: int = 200) -> Response:
    """Render a model as a JSON response."""
    return Response(model.model_dump_json(), status=status, mimetype="application/json")


def client_disconnected() -> Callable[[], bool]:
    """Return a function that returns whether the client has disconnected; always false if the server cannot tell."""
    disconnected: Callable[[], bool] = request.environ.get("waitress.client_disconnected", lambda: False)
    return disconnected
