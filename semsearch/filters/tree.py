"""The filter tree: filters on documents' metadata, as values. Does not depend on storage or on the expression syntax.

A filter is one of

    {"field": "year", "gte": 2020, "lt": 2024}      a comparison: eq, in, gt, gte, lt, lte, prefix or exists
    {"and": [FILTER, …]}   {"or": [FILTER, …]}   {"not": FILTER}

A document matches a comparison if any of its values under that name does: one element of a list is enough. Fields of
nested objects have dotted names, as in `author.name`. `id`, `title` and `source` can be filtered on as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Self, TypeAlias, Union

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag, model_validator

MAX_VALUE_CHARS = 200
"""Texts are compared by their first characters, at most this many."""
MAX_COMPARISONS = 100
"""Maximum number of comparisons in one filter."""
MAX_DEPTH = 20
"""Maximum depth of nested filters."""

Value: TypeAlias = str | bool | int | float
FieldValue: TypeAlias = str | int | float
"""A value in the form in which it is compared, see `normalize_value`."""

_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+(Z|[+-][0-9:]+)")
_DAY = re.compile(r"[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?")
_END = "\U0010ffff"
"""Sorts after any continuation of a text."""


class _Node(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    # true and 1 are different values, but equal in Python: filters are compared by their JSON, also as keys of a cache
    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.model_dump_json() == other.model_dump_json()

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


class Comparison(_Node):
    """A condition on the values of one metadata field."""

    field: str = Field(
        min_length=1, max_length=MAX_VALUE_CHARS, description="Name of a metadata field, or `id`, `title` or `source`"
    )
    eq: Value | None = None
    one_of: tuple[Value, ...] | None = Field(None, alias="in", max_length=1_000, description="One of these values")
    gt: Value | None = None
    gte: Value | None = None
    lt: Value | None = None
    lte: Value | None = Field(None, description="A date such as 2024-03 includes all times within it")
    prefix: str | None = Field(None, min_length=1, description="The beginning of a text")
    exists: bool | None = Field(None, description="Whether the field has any value")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        alone = [self.eq, self.one_of, self.prefix, self.exists]
        kinds = sum(value is not None for value in alone) + bool(self.bounds)
        if kinds != 1:
            raise ValueError("give one of eq, in, prefix, exists, or bounds (gt, gte, lt, lte)")
        if (self.gt is not None and self.gte is not None) or (self.lt is not None and self.lte is not None):
            raise ValueError("give one bound on each side: gt or gte, lt or lte")
        if len({isinstance(bound, str) for bound in self.bounds.values()}) > 1:
            raise ValueError("one bound is a text and one a number: give two of the same kind")
        return self

    @property
    def bounds(self) -> dict[str, FieldValue]:
        """Sign → bound, in the form in which it is compared."""
        given = {">": self.gt, ">=": self.gte, "<": self.lt, "<=": self.lte}
        bounds: dict[str, FieldValue] = {
            sign: normalize_value(value) for sign, value in given.items() if value is not None
        }
        if any(isinstance(bound, str) for bound in bounds.values()):
            bounds = {sign: _as_date(sign, bound) for sign, bound in bounds.items()}
        return bounds

    @property
    def year_bounds(self) -> dict[str, FieldValue]:
        """`bounds` as dates, if all of them are years, which are numbers as well; otherwise empty."""
        dates = {sign: _as_date(sign, bound) for sign, bound in self.bounds.items() if isinstance(bound, int)}
        year_bounds: dict[str, FieldValue] = {sign: date for sign, date in dates.items() if isinstance(date, str)}
        return year_bounds if len(year_bounds) == len(self.bounds) else {}


class And(_Node):
    """Matches a document that matches all parts."""

    all_of: tuple[Filter, ...] = Field(alias="and", min_length=1)


class Or(_Node):
    """Matches a document that matches at least one part."""

    any_of: tuple[Filter, ...] = Field(alias="or", min_length=1)


class Not(_Node):
    """Matches a document that does not match the operand."""

    operand: Filter = Field(alias="not")


_KINDS: Mapping[object, str] = {Comparison: "comparison", And: "and", Or: "or", Not: "not"}


def _kind(value: object) -> str | None:
    if isinstance(value, Mapping):
        return next((name for name in ("and", "or", "not") if name in value), "comparison")
    return _KINDS.get(type(value))


Filter: TypeAlias = Annotated[
    Union[  # noqa: UP007 (the models refer to this name before it exists)
        Annotated[Comparison, Tag("comparison")],
        Annotated[And, Tag("and")],
        Annotated[Or, Tag("or")],
        Annotated[Not, Tag("not")],
    ],
    Discriminator(_kind),
]
And.model_rebuild()
Or.model_rebuild()
Not.model_rebuild()


def check_size(tree: Filter) -> Filter:
    """Return the filter unchanged. Raises ValueError if it exceeds MAX_COMPARISONS or MAX_DEPTH."""
    comparisons, deepest = 0, 0
    pending: list[tuple[Filter, int]] = [(tree, 1)]
    while pending:
        node, depth = pending.pop()
        deepest = max(deepest, depth)
        if isinstance(node, Comparison):
            comparisons += 1
        elif isinstance(node, Not):
            pending.append((node.operand, depth + 1))
        else:
            pending += [(part, depth + 1) for part in (node.all_of if isinstance(node, And) else node.any_of)]
    if comparisons > MAX_COMPARISONS or deepest > MAX_DEPTH:
        raise ValueError(
            f"{comparisons} comparisons, {deepest} deep: at most {MAX_COMPARISONS} and {MAX_DEPTH} are allowed; use"
            " `in` for many values of one field"
        )
    return tree


def normalize_value(value: Value) -> FieldValue:
    """Return a value in the form in which it is compared.

    Numeric texts become numbers, because tables hold only texts and a number must compare equally whichever file format
    it was read from. Times are converted to UTC, and long texts are cut to MAX_VALUE_CHARS.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else float(value)
    if isinstance(value, float):
        return value
    if _NUMBER.fullmatch(value):
        return float(value) if "." in value else int(value)
    if _MOMENT.fullmatch(value):
        try:
            return datetime.fromisoformat(value).astimezone(UTC).isoformat()
        except (ValueError, OverflowError):
            pass
    return value[:MAX_VALUE_CHARS]


def _as_date(sign: str, bound: FieldValue) -> FieldValue:
    """Return a bound for the comparison with dates: a day, a month or a year includes every time within it."""
    text = str(bound) if isinstance(bound, int) else bound
    if not isinstance(text, str) or not _DAY.fullmatch(text):
        return bound
    return text + _END if sign in {">", "<="} else text


def field_values(metadata: Mapping[str, JsonValue]) -> Iterator[tuple[str, FieldValue]]:
    """Yield (field name, value) for every comparable value in a document's metadata. A pair may repeat."""
    pending: list[tuple[str, JsonValue]] = list(metadata.items())
    while pending:
        name, value = pending.pop()
        if isinstance(value, dict):
            pending += [(f"{name}.{key}", inner) for key, inner in value.items()]
        elif isinstance(value, list):
            pending += [(name, inner) for inner in value]
        elif value is not None and value != "":
            yield name, normalize_value(value)
