"""Filter expressions and filter trees: what they mean, and how invalid ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from semsearch.errors import FilterError
from semsearch.filters.expression import parse_filter, quote
from semsearch.filters.tree import Filter, check_size, field_values, normalize_value

FILTER: TypeAdapter[Filter] = TypeAdapter(Filter)


def as_json(tree: Filter) -> Any:
    return FILTER.dump_python(tree, mode="json", by_alias=True, exclude_none=True)


def equals_one(name: str) -> Any:
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
        ("a=1 and not b=1 or c=1", {"or": [{"and": [equals_one("a"), {"not": equals_one("b")}]}, equals_one("c")]}),
        ("a=1 and (b=1 or c=1)", {"and": [equals_one("a"), {"or": [equals_one("b"), equals_one("c")]}]}),
    ],
)
def test_an_expression_is_parsed_into_a_filter_tree(expression: str, meaning: Any) -> None:
    tree = parse_filter(expression)
    assert as_json(tree) == meaning
    assert FILTER.validate_python(meaning) == tree


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
        ("a=1 or " * 1000, "at most 4000 are allowed"),
    ],
)
def test_an_invalid_expression_is_refused_with_the_position(expression: str, complaint: str) -> None:
    with pytest.raises(FilterError, match=complaint) as caught:
        parse_filter(expression)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"field": "a"}, "give one of eq, in, prefix, exists, or bounds"),
        ({"field": "a", "eq": 1, "lt": 2}, "give one of"),
        ({"field": "a", "gt": 1, "gte": 2}, "one bound on each side"),
        ({"field": "a", "gt": "x", "lt": 3}, "two of the same kind"),
        ({"field": "a", "eq": [1]}, "valid"),
        ({"and": []}, "at least 1 item"),
        ({"or": [{"field": "a", "eq": 1}], "not": {"field": "a", "eq": 1}}, "Extra inputs"),
        ({"field": "", "eq": 1}, "at least 1 character"),
        (7, "Unable to extract tag"),
    ],
)
def test_json_that_is_not_a_filter_is_refused(body: Any, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        FILTER.validate_python(body)


@pytest.mark.parametrize("operand", [lambda tree: tree, lambda tree: {"not": tree}, lambda tree: {"and": [tree, tree]}])
def test_filters_on_values_that_are_equal_in_python_differ(operand: Callable[[Any], Any]) -> None:
    values: list[Any] = [True, 1, 1.0, "1", False, 0, "true"]
    trees = [FILTER.validate_python(operand({"field": "flag", "eq": value})) for value in values]
    assert len({*trees, *trees}) == len(values)
    assert all((one == other) is (one is other) for one in trees for other in trees)
    assert len({*(FILTER.validate_python({"field": "flag", "in": [value]}) for value in values)}) == len(values)


def test_the_number_of_comparisons_is_limited() -> None:
    with pytest.raises(ValueError, match="101 comparisons"):
        check_size(FILTER.validate_python({"or": [{"field": "a", "eq": n} for n in range(101)]}))


@pytest.mark.parametrize(
    ("value", "normalized"),
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
def test_values_are_normalized_for_comparison(value: Any, normalized: Any) -> None:
    assert normalize_value(value) == normalized
    assert type(normalize_value(value)) is type(normalized)


def test_every_value_in_metadata_has_a_field_name() -> None:
    metadata: Any = {"a": [1, "x", [2.5]], "b": {"c": None, "d": {"e": False}}, "f": "", "g": []}
    assert sorted(field_values(metadata), key=str) == [("a", "x"), ("a", 1), ("a", 2.5), ("b.d.e", "false")]


@pytest.mark.parametrize("value", ["plain", 'a "b" \\ c', "and", "", "ü 数", 'x" or 1=1'])
def test_quoted_values_are_parsed_unchanged(value: str) -> None:
    assert as_json(parse_filter(f"{quote(value or 'x')} = {quote(value)}"))["eq"] == value
