"""Filter expressions and filter trees: what they mean, and how invalid ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from semsearch.errors import FilterError
from semsearch.filters.expression import parse_filter, quote, write_filter, write_value
from semsearch.filters.tree import Filter, check_size, conjunction, parts_of, without_field

FILTER: TypeAdapter[Filter] = TypeAdapter(Filter)


def as_json(tree: Filter) -> Any:
    return FILTER.dump_python(tree, mode="json", by_alias=True, exclude_none=True)


def equals_one(name: str) -> Any:
    return {"field": name, "eq": 1}


@pytest.mark.parametrize(
    ("expression", "meaning"),
    [
        ("kind = mammal", {"field": "kind", "eq": "mammal"}),
        ('"a b" != "c d"', {"not": {"field": "a b", "eq": "c d"}}),
        ("year >= 2020", {"field": "year", "gte": 2020}),
        ("year >= '2020'", {"field": "year", "gte": "2020"}),
        ("serial = 1234567890123456789", {"field": "serial", "eq": 1234567890123456789}),
        ("serial = 12345678901234567890123", {"field": "serial", "eq": 12345678901234567890123}),
        ("x > 1e-08", {"field": "x", "gt": 1e-08}),
        ("x in (-5, +5, .5, 2.5e+10, 007)", {"field": "x", "in": [-5, 5, 0.5, 2.5e10, "007"]}),
        ("version = 1.10", {"field": "version", "eq": 1.1}),
        ('version = "1.10"', {"field": "version", "eq": "1.10"}),
        ("version ^= 1.", {"field": "version", "prefix": "1."}),
        (
            "flag = true and other != False",
            {"and": [{"field": "flag", "eq": True}, {"not": {"field": "other", "eq": False}}]},
        ),
        ("flag = 'true'", {"field": "flag", "eq": "true"}),
        ("id = 7", {"field": "id", "eq": "7"}),
        ("title in (1984, true)", {"field": "title", "in": ["1984", "true"]}),
        ("a >= 5 and a < 10", {"field": "a", "gte": 5, "lt": 10}),
        ("a < 10 and b = c and (a >= 5)", {"and": [{"field": "a", "gte": 5, "lt": 10}, {"field": "b", "eq": "c"}]}),
        ("day > 2023-05 and day <= 2024", {"field": "day", "gt": "2023-05", "lte": 2024}),
        ("a > 1 and a > 2", {"and": [{"field": "a", "gt": 1}, {"field": "a", "gt": 2}]}),
        ("a > 1 and a < x", {"and": [{"field": "a", "gt": 1}, {"field": "a", "lt": "x"}]}),
        ("a > 1 or a < 0", {"or": [{"field": "a", "gt": 1}, {"field": "a", "lt": 0}]}),
        ("source ^= docs/", {"field": "source", "prefix": "docs/"}),
        ("draft exists", {"field": "draft", "exists": True}),
        ("lang IN (de, 'f r')", {"field": "lang", "in": ["de", "f r"]}),
        ("lang not in (de)", {"not": {"field": "lang", "in": ["de"]}}),
        ("notes = 1", {"field": "notes", "eq": 1}),
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
        ("kind = null", "null is not a value: write `not kind exists`"),
        ("flag > true", "a boolean has no order"),
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
        ({"field": "a", "gt": True}, "a boolean has no order"),
        ({"field": "a", "gt": float("inf")}, "not a finite number"),
        ({"field": "a", "eq": float("nan")}, "not a finite number"),
        ({"field": "a", "eq": "\ud800"}, "half of a surrogate pair"),
        ({"field": "\ud800", "exists": True}, "valid string"),
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


def test_the_number_of_values_is_limited() -> None:
    many = {"or": [{"field": "a", "in": list(range(1000))} for _ in range(6)]}
    with pytest.raises(ValueError, match="6000 values: at most 5000"):
        check_size(FILTER.validate_python(many))


@pytest.mark.parametrize(
    "expression",
    [
        "a = 1 and (b = 2 or not c in (3, x)) and d exists",
        "not (a = 1 and b = 2)",
        "not not a exists",
        "not a exists or b ^= 'x y'",
        "(a > 1 and a < 3 or b = 4) and c >= 2024-03-01",
        '"a b" = "c \\" d" and a in (1.5, true, "true", 12345678901234567890123)',
        "not (a > 1 and a <= 2)",
        '"and" = and',
    ],
)
def test_a_written_filter_is_parsed_unchanged(expression: str) -> None:
    tree = parse_filter(expression)
    assert parse_filter(write_filter(tree)) == tree


@pytest.mark.parametrize(
    ("expression", "others"),
    [
        ("kind = a", None),
        ("kind = a and year > 2020", "year > 2020"),
        ("(kind = a or kind = b) and not kind = c and x = 1 and y = 2", "x = 1 and y = 2"),
        ("kind = a or year > 2020", "kind = a or year > 2020"),
        ("year > 2020", "year > 2020"),
    ],
)
def test_the_conditions_on_one_field_are_left_out(expression: str, others: str | None) -> None:
    left = without_field(parse_filter(expression), "kind")
    assert left == (None if others is None else parse_filter(others))
    assert conjunction(parts_of(left)) == left


@pytest.mark.parametrize("value", ["plain", 'a "b" \\ c', "and", "", "ü 数", 'x" or 1=1'])
def test_quoted_values_are_parsed_unchanged(value: str) -> None:
    assert as_json(parse_filter(f"{quote(value or 'x')} = {quote(value)}"))["eq"] == value


@pytest.mark.parametrize("value", [1, -1.5, 1e-08, 1e300, 2**70, True, False, "1", "true", "null", "2024-03-01"])
def test_a_written_value_has_the_same_kind_again(value: Any) -> None:
    parsed = as_json(parse_filter(f"a = {write_value(value)}"))["eq"]
    assert (parsed, type(parsed)) == (value, type(value))
