"""Sentences about invalid requests: what was sent, what is allowed, and the remedy; never pydantic's own words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from semsearch.server.schemas.search import FieldError

MAX_ERRORS = 20
"""Errors listed in one response."""
MAX_SHOWN_CHARS = 60
"""Length of a value or a name in a message; the rest is left out."""

_OTHER_NAMES = {
    "q": "query",
    "text": "query",
    "fold": "collapse",
    "limit": "k",
    "size": "k",
    "top_k": "k",
    "n": "k",
    "start": "offset",
    "skip": "offset",
    "doc_id": "id",
}
"""Names of parameters in earlier versions and in other search engines, and the names that they have here."""

_EXPECTED = {
    "string_type": "a text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "none_required": "null",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "an object",
    "mapping_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "union_tag_not_found": "an object",
    "datetime_type": "a date and time, such as 2024-03-01T12:00:00Z",
    "datetime_parsing": "a date and time, such as 2024-03-01T12:00:00Z",
    "datetime_from_date_parsing": "a date and time, such as 2024-03-01T12:00:00Z",
    "timezone_aware": "a date and time with its time zone, such as 2024-03-01T12:00:00Z",
}
"""What a field takes, by the type of pydantic's error about a value of another type."""

_SENTENCES = {
    "missing": "missing: this field is required",
    "greater_than_equal": "{value} is too small: give at least {ge:,}",
    "greater_than": "{value} is too small: give more than {gt:,}",
    "less_than_equal": "{value} is too large: give at most {le:,}",
    "less_than": "{value} is too large: give less than {lt:,}",
    "int_parsing_size": "the number has too many digits: give a smaller one",
    "string_too_short": "the text is empty: give at least one character",
    "string_too_long": "the text has {length:,} characters: give at most {max_length:,}",
    "string_unicode": "the text is not valid Unicode: send UTF-8",
    "too_short": "the list is empty: give at least one entry",
    "too_long": "the list is too long: give at most {max_length:,} entries",
    "enum": "{value} is not allowed: give one of {expected}",
    "json_invalid": "the body is not valid JSON: {error}",
    "value_error": "{error}",
    "recursion_loop": "the value is nested too deeply: nest it less",
}
"""The sentences about other errors, by pydantic's type; `length` is that of a text, and the bounds are pydantic's."""


def field_errors(error: ValidationError, model: type[BaseModel], content: object) -> list[FieldError]:
    """Return one error for each invalid field. Those after the first MAX_ERRORS are only counted: they have no message.

    model: the model that refused the request. content: the request as a JSON value, to tell the client's own names from
    pydantic's names for the members of a union.
    """
    by_path: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        by_path.setdefault(_path(detail, content), []).append(detail)
    parents = {path[:length] for path in by_path for length in range(len(path))}
    errors: list[FieldError] = []
    for path, details in by_path.items():
        # a value with an invalid part is reported by its part: pydantic also reports the list that lacks it, and the
        # members of a union that have another type
        if path in parents:
            continue
        if len(errors) >= MAX_ERRORS:
            errors.append(FieldError(field="", message=""))
            continue
        others = [detail for detail in details if detail["type"] not in _EXPECTED]
        messages = [_message(detail, model, path) for detail in others] or [_wrong_type(details, path)]
        errors += [FieldError(field=_dotted(path), message=message) for message in dict.fromkeys(messages)]
    return errors


def shown(value: object) -> str:
    """Return a value as JSON, on one line and cut to MAX_SHOWN_CHARS; texts in single quotation marks."""
    if isinstance(value, str):
        cut = value if len(value) <= MAX_SHOWN_CHARS else f"{value[: MAX_SHOWN_CHARS - 1]}…"
        return repr(cut)
    if isinstance(value, bool | int | float) or value is None:
        text = json.dumps(value)
        return text if len(text) <= MAX_SHOWN_CHARS else f"{text[: MAX_SHOWN_CHARS - 1]}…"
    return _kind(value)


def nearest(name: str, known: Sequence[str]) -> str | None:
    """Return the known name that is most like `name`; None if none is."""
    lower = name.lower()
    if _OTHER_NAMES.get(lower) in known:
        return _OTHER_NAMES[lower]
    close = get_close_matches(lower[:200], known, n=1, cutoff=0.6)
    longer = [candidate for candidate in known if len(lower) >= 2 and candidate.startswith(lower)]
    return next(iter(close or longer), None)


def unknown_parameter(name: str, known: Sequence[str]) -> str:
    """Return the sentence about a parameter that a request does not have."""
    if not known:
        return "unknown parameter: this request has none"
    suggestion = nearest(name, known)
    meant = f"did you mean `{suggestion}`? " if suggestion is not None else ""
    listed = ", ".join(f"`{other}`" for other in sorted(known))
    return f"unknown parameter: {meant}{'K' if meant else 'k'}nown ones are {listed}"


def _path(detail: ErrorDetails, content: object) -> tuple[str | int, ...]:
    """Return the location of an error in the request, without pydantic's names for the members of unions."""
    location = detail["loc"]
    path: list[str | int] = []
    value, is_after_kind = content, False
    for number, key in enumerate(location):
        is_last = number == len(location) - 1
        if isinstance(value, Mapping) and key in value:
            # the name of a filter's kind is a key of the filter, and precedes a key of it
            if not is_after_kind and not is_last and location[number + 1] in value:
                is_after_kind = True
                continue
            value, is_after_kind = value[key], False
        elif isinstance(value, list | tuple) and isinstance(key, int) and key < len(value):
            value = value[key]
        elif not (is_last and detail["type"] in {"missing", "extra_forbidden"}):
            continue
        path.append(key)
    return tuple(path)


def _dotted(path: Sequence[str | int]) -> str:
    return ".".join(str(key)[:MAX_SHOWN_CHARS] for key in path)


def _wrong_type(details: Sequence[ErrorDetails], path: Sequence[str | int]) -> str:
    """Return the sentence about a value of another type than those that are allowed."""
    value = details[0]["input"]
    allowed = list(dict.fromkeys(_EXPECTED[detail["type"]] for detail in details))
    if "a number" in allowed and "a whole number" in allowed:
        allowed.remove("a whole number")
    choices = allowed[0] if len(allowed) == 1 else f"{', '.join(allowed[:-1])} or {allowed[-1]}"
    if value is None:
        return f"null is not allowed: give {choices}{', or leave the field out' if path else ''}"
    if isinstance(value, list | tuple | Mapping):
        return f"{_kind(value)} is not allowed: give {choices}"
    if details[0]["type"].endswith("_type") and isinstance(value, str):
        return f"{shown(value)} is a text: give {choices}"
    return f"{shown(value)} is not {choices}"


def _message(detail: ErrorDetails, model: type[BaseModel], path: Sequence[str | int]) -> str:
    """Return the sentence about any other error."""
    value = detail["input"]
    if detail["type"] == "extra_forbidden":
        return unknown_parameter(str(path[-1]), _known_names(model, path[:-1]))
    sentence = _SENTENCES.get(detail["type"], f"{{value}} is not allowed ({detail['type'].replace('_', ' ')})")
    # bounds of fractions are floats, also where they are whole
    bounds = {
        name: int(bound) if isinstance(bound, float) and bound.is_integer() else bound
        for name, bound in detail.get("ctx", {}).items()
    }
    # a number in a query string is a text
    text = shown(value).strip("'") if "_than" in detail["type"] else shown(value)
    return sentence.format(value=text, length=len(value) if isinstance(value, str) else 0, **bounds)


def _known_names(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """Return the names of the fields that the model has at a location."""
    models = [model]
    for key in path:
        if isinstance(key, str):
            fields = [field for parent in models for name, field in _fields(parent) if name == key]
            models = list(dict.fromkeys(inner for field in fields for inner in _models_in(field.annotation)))
    return list(dict.fromkeys(name for parent in models for name, _ in _fields(parent)))


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    return ((field.alias or name, field) for name, field in model.model_fields.items())


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield the models that occur in a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _kind(value: object) -> str:
    return "an object" if isinstance(value, Mapping) else "a list" if isinstance(value, list | tuple) else "this value"
