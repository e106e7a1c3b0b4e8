"""The filter tree: filters on documents' metadata, as values. Does not depend on storage or on the expression syntax.

A filter is one of

    {"field": "year", "gte": 2020, "lt": 2024}      a comparison: eq, in, gt, gte, lt, lte, prefix or exists
    {"and": [FILTER, …]}   {"or": [FILTER, …]}   {"not": FILTER}

A document matches a comparison if any of its values under that name does: one element of a list is enough, but it must
be within both bounds. Fields of nested objects have dotted names, as in `author.name`. `id`, `title` and `source` are
the document's own; metadata of that name is called `metadata.id` and so on. `semsearch.filters.values` says how values
compare.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Self, TypeAlias, Union

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from semsearch.filters.values import OWN_FIELDS, Key, Kind, Scalar, TypedValue, date_key, normalize, text_value, typed

MAX_NAME_CHARS = 200
"""Maximum length of a field name."""
MAX_COMPARISONS = 100
"""Maximum number of comparisons in one filter."""
MAX_VALUES = 5_000
"""Maximum number of values in one filter; SQLite limits the parameters of a statement."""
MAX_DEPTH = 20
"""Maximum depth of nested filters."""

_END = "\U0010ffff"
"""Sorts after any continuation of a date."""
_YEARS = range(1000, 10_000)


def _checked(value: Scalar) -> Scalar:
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"{value} is not a finite number: leave the bound out")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("a text holds half of a surrogate pair: send valid Unicode") from None
    return value


def _checked_bound(value: Scalar) -> Scalar:
    if isinstance(value, bool):
        raise ValueError("a boolean has no order: compare it with eq")  # noqa: TRY004 (pydantic expects ValueError)
    return value


Value: TypeAlias = Annotated[str | bool | int | float, AfterValidator(_checked)]
Bound: TypeAlias = Annotated[Value, AfterValidator(_checked_bound)]
Text: TypeAlias = Annotated[str, AfterValidator(_checked)]


@dataclass(frozen=True, slots=True)
class Range:
    """Values of one kind, or of the three kinds of numbers, within bounds."""

    first: Kind
    last: Kind
    bounds: tuple[tuple[str, Kind, Key], ...]
    """(sign, kind, key) for each bound."""


class _Node(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    # true and 1 are different values, but equal in Python: filters are compared by their JSON, also as keys of a cache
    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.model_dump_json() == other.model_dump_json()

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


class Comparison(_Node):
    """A condition on the values of one metadata field."""

    field: Annotated[Text, AfterValidator(normalize)] = Field(
        min_length=1, max_length=MAX_NAME_CHARS, description="Name of a metadata field, or `id`, `title` or `source`"
    )
    eq: Value | None = None
    one_of: tuple[Value, ...] | None = Field(None, alias="in", max_length=1_000, description="One of these values")
    gt: Bound | None = None
    gte: Bound | None = None
    lt: Bound | None = None
    lte: Bound | None = Field(None, description="A date such as 2024-03 includes all times within it")
    prefix: Text | None = Field(None, min_length=1, description="The beginning of a value's text")
    exists: bool | None = Field(None, description="Whether the field has any value")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        alone = [self.eq, self.one_of, self.prefix, self.exists]
        kinds = sum(value is not None for value in alone) + bool(self.bounds)
        if kinds != 1:
            raise ValueError("give one of eq, in, prefix, exists, or bounds (gt, gte, lt, lte)")
        if (self.gt is not None and self.gte is not None) or (self.lt is not None and self.lte is not None):
            raise ValueError("give one bound on each side: gt or gte, lt or lte")
        if self.bounds and not self.ranges:
            raise ValueError("one bound is a text and one a number: give two of the same kind")
        return self

    @property
    def bounds(self) -> dict[str, str | int | float]:
        """Sign → bound; a text, if the field is the document's own."""
        given = {">": self.gt, ">=": self.gte, "<": self.lt, "<=": self.lte}
        return {
            sign: typed(value).text if self._is_own else value for sign, value in given.items() if value is not None
        }

    @property
    def values(self) -> tuple[TypedValue, ...]:
        """The values of `eq` or `one_of`."""
        return tuple(map(self._typed, self.one_of or ())) if self.eq is None else (self._typed(self.eq),)

    @property
    def kinds(self) -> set[Kind]:
        """The kinds of the values that the comparison can match; empty if it does not depend on the kind."""
        ranges = self.ranges if self.bounds else ()
        of_ranges = {kind for values in ranges for kind in Kind if values.first <= kind <= values.last}
        return {value.kind for value in self.values} | of_ranges

    @property
    def ranges(self) -> tuple[Range, ...]:
        """The ranges that the bounds stand for; a value must be in one of them.

        Numbers are compared with numbers, texts with texts, and dates with dates. A year, such as 2024 or "2024", is
        compared with dates as well. Documents' own fields are texts only.
        """
        bounds = self.bounds
        dates = {sign: None if self._is_own else _date_bound(sign, bound) for sign, bound in bounds.items()}
        date_keys = tuple((sign, Kind.DATE, key) for sign, key in dates.items() if key is not None)
        are_dates = len(date_keys) == len(bounds)
        texts = {sign: bound for sign, bound in bounds.items() if isinstance(bound, str)}
        ranges = []
        if not texts:
            numbers = ((sign, typed(bound)) for sign, bound in bounds.items())
            keys = tuple((sign, number.kind, number.key) for sign, number in numbers)
            ranges.append(Range(Kind.LARGE_NEGATIVE, Kind.LARGE_POSITIVE, keys))
        elif len(texts) == len(bounds) and not (are_dates and any(not text.isdecimal() for text in texts.values())):
            keys = tuple((sign, Kind.TEXT, text_value(text).key) for sign, text in texts.items())
            ranges.append(Range(Kind.TEXT, Kind.TEXT, keys))
        return (*ranges, Range(Kind.DATE, Kind.DATE, date_keys)) if are_dates else tuple(ranges)

    @property
    def _is_own(self) -> bool:
        """Whether the field is the document's own, whose values are texts, whatever form they have."""
        return self.field in OWN_FIELDS

    def _typed(self, value: Scalar) -> TypedValue:
        value_typed = typed(value)
        return text_value(value_typed.text) if self._is_own else value_typed


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


def comparisons(tree: Filter) -> Iterator[tuple[Comparison, int]]:
    """Yield every comparison of a filter and its depth, from 1."""
    pending: list[tuple[Filter, int]] = [(tree, 1)]
    while pending:
        node, depth = pending.pop()
        if isinstance(node, Comparison):
            yield node, depth
        elif isinstance(node, Not):
            pending.append((node.operand, depth + 1))
        else:
            pending += [(part, depth + 1) for part in (node.all_of if isinstance(node, And) else node.any_of)]


def check_size(tree: Filter) -> Filter:
    """Return the filter unchanged. Raises ValueError if it exceeds MAX_COMPARISONS, MAX_VALUES or MAX_DEPTH."""
    count, values, deepest = 0, 0, 0
    for comparison, depth in comparisons(tree):
        count += 1
        values += len(comparison.one_of or ())
        deepest = max(deepest, depth)
    if count > MAX_COMPARISONS or deepest > MAX_DEPTH:
        raise ValueError(
            f"{count} comparisons, {deepest} deep: at most {MAX_COMPARISONS} and {MAX_DEPTH} are allowed; use"
            " `in` for many values of one field"
        )
    if values > MAX_VALUES:
        raise ValueError(f"{values} values: at most {MAX_VALUES} are allowed; send several requests")
    return tree


def without_field(tree: Filter | None, field: str) -> Filter | None:
    """Return the filter without the conditions that concern only `field`; None if nothing else is left.

    Conditions are the parts of the outermost `and`, or the whole filter.
    """
    if tree is None:
        return None
    parts = parts_of(tree)
    others = [part for part in parts if {comparison.field for comparison, _ in comparisons(part)} != {field}]
    return conjunction(others) if len(others) < len(parts) else tree


def parts_of(tree: Filter | None) -> tuple[Filter, ...]:
    """Return the filters that a document must match: the parts of the outermost `and`, or the filter itself."""
    if tree is None:
        return ()
    return tree.all_of if isinstance(tree, And) else (tree,)


def conjunction(parts: Sequence[Filter]) -> Filter | None:
    """Return the filter that matches what all parts match; None for no part."""
    return And(all_of=tuple(parts)) if len(parts) > 1 else next(iter(parts), None)


def _date_bound(sign: str, bound: Scalar) -> str | None:
    """The key of a bound that is a date or a year, which includes every time within it; None for other bounds."""
    text = "" if isinstance(bound, float) else str(bound)
    is_year = len(text) == len("2024") and text.isascii() and text.isdecimal() and int(text) in _YEARS
    key = text if is_year else date_key(text)
    return key and key + _END if sign in {">", "<="} else key
