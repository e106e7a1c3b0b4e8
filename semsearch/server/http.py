"""Requests into models, models into answers; what every route of the endpoint does alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flask import Response, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import UnsupportedMediaType

from semsearch.server.errors import FieldProblem
from semsearch.server.schemas.search import FieldError

Model = TypeVar("Model", bound=BaseModel)


def from_body(model: type[Model], *, optional: bool = False) -> Model:
    """The request's JSON body; `optional`: nothing at all means every default.

    Raises UnsupportedMediaType, which also keeps pages of other sites from sending it unasked, and FieldProblem.
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


def from_address(model: type[Model], *, many: frozenset[str] = frozenset()) -> Model:
    """The fields in the request's address, every one at most once but those that may be given `many` times."""
    values: dict[str, object] = {}
    for field, given in request.args.lists():
        if field in many:
            values[field] = tuple(given)
        elif len(given) > 1:
            raise FieldProblem([FieldError(field=field, message="given more than once")])
        else:
            values[field] = given[0]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise FieldProblem.of(error) from None


def answer(model: BaseModel, status: int = 200) -> Response:
    """A model as JSON."""
    return Response(model.model_dump_json(), status=status, mimetype="application/json")


def client_gone() -> Callable[[], bool]:
    """Asks the server whether the client of the present request has hung up; never so where it cannot tell."""
    found: Callable[[], bool] = request.environ.get("waitress.client_disconnected", lambda: False)
    return found
