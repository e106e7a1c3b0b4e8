"""Parse requests into models and render models as responses, for every API route."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from flask import Response, current_app, request
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

from semsearch.server.errors import FieldProblem
from semsearch.server.schemas.search import FieldError
from semsearch.server.validation import shown, unknown_parameter

Model = TypeVar("Model", bound=BaseModel)

_GZIP = 16 + zlib.MAX_WBITS
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def from_body(model: type[Model], *, optional: bool = False) -> Model:
    """Parse the request's JSON body. If `optional`, an empty body means all defaults.

    Raises FieldProblem if the body is invalid, and UnsupportedMediaType unless it is application/json in UTF-8, which
    also keeps other sites' forms from posting. Other errors are those of `read_body`.
    """
    content = read_body().removeprefix(_BYTE_ORDER_MARK)
    if not content.strip():
        if not optional:
            raise BadRequest("the body is empty: send a JSON object")
        content = b"{}"
    else:
        _check_content_type()
    try:
        return model.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise FieldProblem.of(error, model, _json_value(content)) from None


def body_has(field: str) -> bool:
    """Whether the body is a JSON object with this field. Raises as `read_body`."""
    body = _json_value(read_body().removeprefix(_BYTE_ORDER_MARK))
    return isinstance(body, dict) and field in body


def read_body() -> bytes:
    """Return the request's body, decompressed.

    Raises UnsupportedMediaType for a compression other than gzip, RequestEntityTooLarge for a body over the limit, and
    BadRequest for one that is not valid gzip.
    """
    content = request.get_data()
    header = request.headers.get("Content-Encoding", "")
    codings = [coding for part in header.split(",") if (coding := part.strip().lower()) not in {"", "identity"}]
    if not codings:
        return content
    if codings not in (["gzip"], ["x-gzip"]):
        raise UnsupportedMediaType(f"the body's Content-Encoding is {shown(header)}: send gzip, or no compression")
    limit: int = current_app.config["MAX_CONTENT_LENGTH"]
    unpacker = zlib.decompressobj(_GZIP)
    try:
        # one byte above the limit tells that there is more, whatever the size of the rest
        unpacked = unpacker.decompress(content, limit + 1)
    except zlib.error:
        raise BadRequest(
            "the body is not valid gzip, although its Content-Encoding says so: compress it, or leave the header out"
        ) from None
    if len(unpacked) > limit:
        raise RequestEntityTooLarge(f"the body has more than {limit:,} bytes, the limit, when it is decompressed")
    if not unpacker.eof or unpacker.unused_data:
        raise BadRequest("the body is not one complete gzip stream: send all of it, and nothing else")
    return unpacked


def from_query_string(model: type[Model], *, many: frozenset[str] = frozenset()) -> Model:
    """Parse the query string. A field may occur once, or any number of times if `many` names it.

    Raises FieldProblem.
    """
    values: dict[str, object] = {}
    known = [field.alias or name for name, field in model.model_fields.items()]
    errors: list[FieldError] = []
    for field, texts in request.args.lists():
        if field not in known:
            errors.append(FieldError(field=field[:200], message=unknown_parameter(field, known)))
        elif field in many:
            values[field] = tuple(texts)
        elif len(texts) > 1:
            errors.append(FieldError(field=field, message=f"given {len(texts)} times: give it once"))
        else:
            values[field] = texts[0]
    if errors:
        raise FieldProblem(errors)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise FieldProblem.of(error, model, values) from None


def check_encoding() -> None:
    """Check that the path and the query string of the request are UTF-8, with or without percent-encoding.

    Raises FieldProblem. Otherwise, invalid bytes would be replaced silently.
    """
    for name, text in (("path", request.environ["PATH_INFO"]), ("query string", request.environ["QUERY_STRING"])):
        content = text.encode("latin-1")
        if name == "query string":
            content = unquote_to_bytes(content)
        try:
            content.decode()
        except UnicodeDecodeError as error:
            message = (
                f"the {name} is not UTF-8 (byte 0x{content[error.start]:02X}): percent-encode the UTF-8 of the text"
            )
            raise FieldProblem([FieldError(field="", message=message)], status=HTTPStatus.BAD_REQUEST) from None


def answer(model: BaseModel, status: int = 200) -> Response:
    """Render a model as a JSON response."""
    return Response(model.model_dump_json(), status=status, mimetype="application/json")


def client_disconnected() -> Callable[[], bool]:
    """Return a function that returns whether the client has disconnected; always false if the server cannot tell."""
    disconnected: Callable[[], bool] = request.environ.get("waitress.client_disconnected", lambda: False)
    return disconnected


def _check_content_type() -> None:
    if request.mimetype != "application/json":
        given = shown(request.mimetype) if request.mimetype else "missing"
        raise UnsupportedMediaType(f"the body's Content-Type is {given}: send application/json")
    charset = request.mimetype_params.get("charset", "utf-8")
    if charset.lower() not in {"utf-8", "utf8", "us-ascii"}:
        raise UnsupportedMediaType(f"the body's charset is {shown(charset)}: send JSON in UTF-8")


def _json_value(content: bytes) -> object:
    """Return the value of a JSON text; None if it cannot be read."""
    try:
        value: object = from_json(content)
    except ValueError:
        return None
    return value
