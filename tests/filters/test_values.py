"""Values of metadata: their kinds, their order, and how they are found in documents."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semsearch.filters.values import (
    Kind,
    date_key,
    document_values,
    field_values,
    parse_number,
    typed,
    typed_texts,
)

NUMBERS = st.one_of(
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**70), 2**70),
    st.sampled_from(
        [0, -0.0, 1, 1.0, 2**53, float(2**53), 2**53 + 1, 2**63 - 1, 2**63, float(2**63), -(2**63), 10**400]
    ),
)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, Kind.BOOLEAN),
        (1, Kind.NUMBER),
        (1.5, Kind.NUMBER),
        (2**63, Kind.LARGE_POSITIVE),
        (-(2**63) - 1, Kind.LARGE_NEGATIVE),
        (1e300, Kind.LARGE_POSITIVE),
        ("2024", Kind.TEXT),
        ("1.10", Kind.TEXT),
        ("true", Kind.TEXT),
        ("2024-03", Kind.DATE),
        ("2024-03-01", Kind.DATE),
        ("2024-03-01 10:00", Kind.DATE),
        ("2024-03-01T10:00:00.5+02:00", Kind.DATE),
        ("2024-13-01", Kind.TEXT),
        ("2024-03-01T25:00", Kind.TEXT),
        ("0001-01-01T00:00:00+23:59", Kind.TEXT),
        ("10000 EUR", Kind.TEXT),
        ("", Kind.TEXT),
    ],
)
def test_every_value_has_one_kind(value: Any, kind: Kind) -> None:
    assert typed(value).kind is kind
    assert typed(value).value == value
    assert type(typed(value).value) is type(value)


@given(NUMBERS, NUMBERS)
def test_numbers_are_equal_and_ordered_as_in_python(one: float, other: float) -> None:
    assert (typed(one) == typed(other)) is (one == other)
    assert (typed(one) < typed(other)) is (one < other)
    assert one != other or hash(typed(one)) == hash(typed(other))


def test_values_of_different_kinds_are_never_equal() -> None:
    values: list[Any] = [True, 1, "1", "true", False, 0, "0", "2024", 2024, "2024-01-01"]
    assert all(typed(one) != typed(other) for one, other in combinations(values, 2))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        typed(value)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0), ("-1", -1), ("+5", 5), ("0.8472317894561234", 0.8472317894561234), ("1e-05", 1e-05),
        ("2.5e+10", 2.5e10), (".5", 0.5), ("5.", 5.0), ("1234567890123456789", 1234567890123456789),
        ("9" * 400, int("9" * 400)), ("007", None), ("-01", None), ("1e999", None), ("nan", None), ("inf", None),
        ("1_0", None), ("0x10", None), ("1.10.3", None), (" 1", None), ("", None), ("\u0661", None), ("9" * 5000, None),
    ],
)  # fmt: skip
def test_texts_that_are_numbers(text: str, number: float | None) -> None:
    assert parse_number(text) == number
    assert type(parse_number(text)) is type(number)


def test_dates_are_ordered_by_time_in_utc() -> None:
    # two hours east of Greenwich, one o'clock is an hour of the day before
    in_order = [
        "2023-12", "2024-02", "2024-03-01T01:00:00+02:00", "2024-03", "2024-03-01", "2024-03-01T00:30",
        "2024-03-01T00:30:00.25Z", "2024-03-02",
    ]  # fmt: skip
    assert [value.text for value in sorted(map(typed, in_order))] == in_order
    assert date_key("2024-03-01T10:00:00Z") == date_key("2024-03-01 12:00+02:00") == date_key("2024-03-01T10:00")


def test_texts_are_equal_in_their_composed_form() -> None:
    assert typed("cafe\u0301") == typed("caf\u00e9")
    [(name, _)] = field_values({"re\u0301gion": 1})
    assert name == "r\u00e9gion"


def test_every_value_in_metadata_has_a_field_name() -> None:
    metadata: Any = {"a": [1, "x", [2.5]], "b": {"c": None, "d": {"e": False}}, "f": "", "g": [], "h": math.nan}
    values = sorted((name, value.text) for name, value in field_values(metadata))
    assert values == [("a", "1"), ("a", "2.5"), ("a", "x"), ("b.d.e", "false"), ("f", "")]


def test_a_document_has_its_own_fields_and_those_of_its_metadata() -> None:
    metadata: Any = {"id": 7, "title": {"de": "Katze"}, "source": "wiki", "kind": "x"}
    values = [
        (name, value.value) for name, value in document_values(doc_id="1.1", title="", source="f", metadata=metadata)
    ]
    assert sorted(values, key=str) == [
        ("id", "1.1"), ("kind", "x"), ("metadata.id", 7), ("metadata.source", "wiki"), ("metadata.title.de", "Katze"),
        ("source", "f"),
    ]  # fmt: skip


def test_texts_of_former_indexes_that_are_spelled_as_in_json_are_numbers_and_booleans() -> None:
    metadata: Any = {
        "a": "2024", "b": "1.10", "c": ["-1.5", "x", True, "true"], "d": {"e": "007", "f": "1e5"}, "g": 3, "h": "false",
        "i": "True",
    }  # fmt: skip
    assert typed_texts(metadata) == {
        "a": 2024, "b": "1.10", "c": [-1.5, "x", True, True], "d": {"e": "007", "f": "1e5"}, "g": 3, "h": False,
        "i": "True",
    }  # fmt: skip
