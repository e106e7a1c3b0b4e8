"""What a metadata value is: its kind, the key it is compared by, and its text. Does not depend on filters or storage.

Every comparison, filter, facet and sort order uses these values, so that one value means the same everywhere.

| kind | from | equal to, and ordered by |
|---|---|---|
| boolean | JSON true and false | the same boolean; false before true |
| number | JSON numbers of any size and precision | the number of the same value, 1 as 1.0 |
| date | texts in the form of ISO 8601 (`2024-03-01`, `2024-03-01T10:00:00+02:00`, `2024-03`) | the moment, in UTC |
| text | all other texts | the same characters after NFC normalisation, with their case; code points |

Values of different kinds are never equal, and no bound of one kind includes a value of another.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import IntEnum
from math import isfinite
from typing import TypeAlias

from pydantic import JsonValue

Scalar: TypeAlias = str | bool | int | float
"""A value of metadata that can be compared: not a list, an object or null."""
Key: TypeAlias = str | int | float

OWN_FIELDS = ("id", "title", "source")
"""Fields of the document itself. Metadata of the same name is called `metadata.id` and so on."""
OWN_PREFIX = "metadata."

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[+-]?0[0-9]")
_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}(-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9:]{2,6})?)?)?"
)


class Kind(IntEnum):
    """The kinds of values, in the order in which they are sorted. Three kinds are numbers, compared with one another.

    The integers beyond 64 bits need kinds of their own because SQLite has no numbers of their size.
    """

    BOOLEAN = 0
    LARGE_NEGATIVE = 1
    NUMBER = 2
    LARGE_POSITIVE = 3
    DATE = 4
    TEXT = 5

    @property
    def label(self) -> str:
        """What users call the kind."""
        return "number" if self in NUMBERS else self.name.lower()


NUMBERS = (Kind.LARGE_NEGATIVE, Kind.NUMBER, Kind.LARGE_POSITIVE)


@dataclass(frozen=True, slots=True, order=True)
class TypedValue:
    """One value. Two are equal, and have the same hash, if kind and key are."""

    kind: Kind
    key: Key
    """What it is compared by; only keys of the same kind may be compared."""
    text: str = field(compare=False)
    """The value as it is written: as in the document for a date or a text, as in JSON for the others."""

    @property
    def value(self) -> Scalar:
        """The value as it is given in JSON."""
        match self.kind:
            case Kind.BOOLEAN:
                return bool(self.key)
            case Kind.NUMBER:
                return self.key
            case Kind.LARGE_NEGATIVE | Kind.LARGE_POSITIVE:
                return parse_number(self.text) or 0
            case _:
                return self.text


def typed(value: Scalar) -> TypedValue:
    """Return what a value is. Raises ValueError for a number that is not finite."""
    if isinstance(value, bool):
        return TypedValue(Kind.BOOLEAN, int(value), "true" if value else "false")
    if isinstance(value, int | float):
        return _typed_number(value)
    text = normalize(value)
    moment = date_key(text)
    return TypedValue(Kind.TEXT, text, text) if moment is None else TypedValue(Kind.DATE, moment, text)


def parse_number(text: str) -> int | float | None:
    """Return the number that a text is, exactly if it is an integer; None for other texts and for `007`."""
    if not _NUMBER.fullmatch(text) or _LEADING_ZERO.match(text):
        return None
    try:
        return int(text)
    except ValueError:
        number = float(text)
    return number if isfinite(number) else None


def parse_boolean(text: str) -> bool | None:
    """Return the boolean that a text is, without regard to case; None for other texts."""
    return {"true": True, "false": False}.get(text.lower())


def date_key(text: str) -> str | None:
    """Return the key of a date in the form of ISO 8601, which sorts by time; None for other texts.

    Times are converted to UTC, in which times without a zone are taken to be. A day or a month sorts before the times
    within it, and is the beginning of their keys.
    """
    if not _DATE.fullmatch(text):
        return None
    try:
        if len(text) <= len("2024-03-01"):
            date.fromisoformat(text if len(text) > len("2024-03") else f"{text}-01")
            return text
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")


def field_values(metadata: Mapping[str, JsonValue]) -> Iterator[tuple[str, TypedValue]]:
    """Yield (field name, value) for every value in metadata: each element of a list, fields of objects by dotted names.

    A pair may repeat. Numbers that are not finite are left out.
    """
    pending: list[tuple[str, JsonValue]] = list(metadata.items())
    while pending:
        name, value = pending.pop()
        if isinstance(value, dict):
            pending += [(f"{name}.{key}", inner) for key, inner in value.items()]
        elif isinstance(value, list):
            pending += [(name, inner) for inner in value]
        elif value is not None and not (isinstance(value, float) and not isfinite(value)):
            yield normalize(name), typed(value)


def document_values(
    *, doc_id: str, title: str, source: str, metadata: Mapping[str, JsonValue]
) -> Iterator[tuple[str, TypedValue]]:
    """Yield (field name, value) of a document: its own fields, which are texts, and those of its metadata."""
    for name, text in zip(OWN_FIELDS, (doc_id, title, source), strict=True):
        if text:
            yield name, text_value(text)
    for name, value in field_values(metadata):
        yield (OWN_PREFIX + name if name.partition(".")[0] in OWN_FIELDS else name), value


def typed_texts(metadata: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return metadata in which each text that JSON would read as a number or a boolean is that number or boolean."""
    return {name: _typed_text(value) for name, value in metadata.items()}


def _typed_text(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return typed_texts(value)
    if isinstance(value, list):
        return [_typed_text(inner) for inner in value]
    if not isinstance(value, str):
        return value
    if value in {"true", "false"}:
        return value == "true"
    number = parse_number(value)
    return value if number is None or str(number) != value else number


def text_value(text: str) -> TypedValue:
    """Return a text as a value, whatever form it has."""
    text = normalize(text)
    return TypedValue(Kind.TEXT, text, text)


def normalize(text: str) -> str:
    """Return a text or a field name in the form in which it is compared."""
    return unicodedata.normalize("NFC", text)


def _typed_number(number: int | float) -> TypedValue:
    if isinstance(number, float):
        if not isfinite(number):
            raise ValueError(f"{number} is not a finite number: leave it out")
        text = repr(number)
    else:
        text = str(number)
    if -(2**63) <= number < 2**63:
        return TypedValue(Kind.NUMBER, number, text)
    # every float of this size is an integer
    digits = str(abs(int(number)))
    key = f"{len(digits):05d}{digits}"
    if number > 0:
        return TypedValue(Kind.LARGE_POSITIVE, key, text)
    return TypedValue(Kind.LARGE_NEGATIVE, key.translate(_COMPLEMENT), text)


_COMPLEMENT = str.maketrans("0123456789", "9876543210")
"""Reverses the order of keys with the same number of digits, and of their lengths."""
