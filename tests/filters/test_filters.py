"""Filters as people write them: what they mean, and that nonsense is named with its place."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from semsearch.errors import FilterError
from semsearch.filters.expression import parse_filter, quote
from semsearch.filters.tree import Filter, check_size, field_values, normalize_value

CONDITION: TypeAdapter[Filter] = TypeAdapter(Filter)


def as_json(condition: Filter) -> Any:
    return CONDITION.dump_python(condition, mode="json", by_alias=True, exclude_none=True)


def is_one(name: str) -> Any:
    return {"field": name, "eq": "1"}


@pytest.mark.parametrize(
    ("expression", "meaning"),
    [
        ("kind = mammal", {"field": "kind", "eq": "mammal"}),
        ('"a b" != "c d"', {"not": {"field": "a b", "eq": "c d"}}),
        ("year >= 2020", {"field": "year", "gte": "2020"}),
        ("source ^= docs/", {"field": "source", "prefix": "docs/"}),
        ("draft exists", {"field": "draft", "exists": True}),
        ("lang IN (de, 'f r')", {"field": "lang", "in": ["de", "f r"]}),
        ("lang not in (de)", {"not": {"field": "lang", "in": ["de"]}}),
        ("notes = 1", {"field": "notes", "eq": "1"}),
        ('"in" = and', {"field": "in", "eq": "and"}),
        (r'title = "say \"so\" \\"', {"field": "title", "eq": 'say "so" \\'}),
        ("a=1 and not b=1 or c=1", {"or": [{"and": [is_one("a"), {"not": is_one("b")}]}, is_one("c")]}),
        ("a=1 and (b=1 or c=1)", {"and": [is_one("a"), {"or": [is_one("b"), is_one("c")]}]}),
    ],
)
def test_an_expression_means_a_condition(expression: str, meaning: Any) -> None:
    condition = parse_filter(expression)
    assert as_json(condition) == meaning
    assert CONDITION.validate_python(meaning) == condition


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("", "at its end"),
        ("kind =", "at its end"),
        ("kind = a b", "at 'b'"),
        ("a in ()", r"at '\)'"),
        ('a = "open', "at '\"open'"),
        ("=" * 9, "at '========='"),
        ("a=1 and " * 100 + "a=1", "101 comparisons"),
        ("not " * 30 + "a=1", "31 deep"),
        ("(" * 3000, "cannot be read"),
        ("a=1 or " * 1000, "at most 4000 are read"),
    ],
)
def test_nonsense_is_named_with_its_place(expression: str, complaint: str) -> None:
    with pytest.raises(FilterError, match=complaint) as caught:
        parse_filter(expression)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"field": "a"}, "give one of eq, in, prefix, exists, or bounds"),
        ({"field": "a", "eq": 1, "lt": 2}, "give one of"),
        ({"field": "a", "gt": 1, "gte": 2}, "one bound on either side"),
        ({"field": "a", "gt": "x", "lt": 3}, "nothing lies between"),
        ({"field": "a", "eq": [1]}, "valid"),
        ({"and": []}, "at least 1 item"),
        ({"or": [{"field": "a", "eq": 1}], "not": {"field": "a", "eq": 1}}, "Extra inputs"),
        ({"field": "", "eq": 1}, "at least 1 character"),
        (7, "Unable to extract tag"),
    ],
)
def test_json_that_is_no_condition_is_refused(body: Any, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        CONDITION.validate_python(body)


def test_conditions_are_bounded() -> None:
    with pytest.raises(ValueError, match="101 comparisons"):
        check_size(CONDITION.validate_python({"or": [{"field": "a", "eq": n} for n in range(101)]}))


@pytest.mark.parametrize(
    ("value", "compared"),
    [
        ("2024", 2024),
        ("-1.50", -1.5),
        ("007", "007"),
        ("1e5", "1e5"),
        ("12345678901234567890", "12345678901234567890"),
        (2**70, float(2**70)),
        (True, "true"),
        ("2024-03-01T12:00:00+02:00", "2024-03-01T10:00:00+00:00"),
        ("2024-03-01T10:00:00Z", "2024-03-01T10:00:00+00:00"),
        ("2024-99-01T10:00:00Z", "2024-99-01T10:00:00Z"),
        ("x" * 300, "x" * 200),
    ],
)
def test_values_are_compared_alike_whatever_file_they_came_from(value: Any, compared: Any) -> None:
    assert normalize_value(value) == compared
    assert type(normalize_value(value)) is type(compared)


def test_everything_in_metadata_has_a_name() -> None:
    metadata: Any = {"a": [1, "x", [2.5]], "b": {"c": None, "d": {"e": False}}, "f": "", "g": []}
    assert sorted(field_values(metadata), key=str) == [("a", "x"), ("a", 1), ("a", 2.5), ("b.d.e", "false")]


@pytest.mark.parametrize("value", ["plain", 'a "b" \\ c', "and", "", "ü 数", 'x" or 1=1'])
def test_what_is_quoted_comes_back(value: str) -> None:
    assert as_json(parse_filter(f"{quote(value or 'x')} = {quote(value)}"))["eq"] == value
