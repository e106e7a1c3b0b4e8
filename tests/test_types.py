"""Values are validated, errors have one base class, and the package exports its names."""

from __future__ import annotations

from typing import Any

import pytest

import semsearch
from semsearch.errors import DeadlineError, OverloadedError, QueryError, SemsearchError
from semsearch.types import MAX_METADATA_DEPTH, Document, Query, Sort, document_problem, is_unicode


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"text": ""}, "empty"),
        ({"text": " \n\t"}, "empty"),
        ({"text": "half \ud800"}, "surrogate"),
        ({"text": "x", "k": 0}, "k is 0"),
        ({"text": "x", "offset": -1}, "offset is -1"),
    ],
)
def test_an_invalid_query_is_refused_with_the_reason(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(QueryError, match=complaint):
        Query(**values)  # type: ignore[arg-type]


def test_a_lone_surrogate_is_not_unicode() -> None:
    assert (is_unicode("😀 \x00"), is_unicode("\udc80")) == (True, False)


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


def containing_itself() -> Any:
    value: list[Any] = []
    value += [value, {"a": value}]
    return value


def doubled(depth: int) -> Any:
    """A list of 2 ** depth texts that takes depth * 2 references."""
    value: Any = "x"
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        pytest.param("x", None, id="text"),
        pytest.param({"a": [1, 2.5, None, True, {"b": "é"}]}, None, id="mixed"),
        pytest.param(10**400, None, id="long integer"),
        pytest.param(nested(MAX_METADATA_DEPTH), None, id="deepest"),
        pytest.param(nested(MAX_METADATA_DEPTH + 1), "nested more than 32 levels", id="too deep"),
        pytest.param(nested(200_000), "nested more than 32 levels", id="far too deep"),
        pytest.param(containing_itself(), "nested more than 32 levels", id="contains itself"),
        pytest.param(doubled(100), "nested more than 32 levels", id="doubled"),
        pytest.param(float("inf"), "not finite", id="infinite"),
        pytest.param([{"a": float("nan")}], "not finite", id="nan"),
        pytest.param(10**5_000, "too many digits", id="too many digits"),
        pytest.param("\udc80", "surrogate", id="surrogate"),
        pytest.param({"\ud800": 1}, "surrogate", id="surrogate in a key"),
        pytest.param({1, 2}, "not JSON", id="set"),
    ],
)
def test_metadata_that_no_search_could_return_are_refused(value: Any, problem: str | None) -> None:
    found = document_problem(Document("a", "", "text", "a", {"field": value}))
    assert found == problem or (found is not None and problem is not None and problem in found)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"k": 0}, "k is 0: ask for at least 1"),
        ({"k": 10**20}, f"k is {10**20}: ask for at most 100,000 results"),
        ({"offset": -1}, "offset is -1: it counts from 0"),
        ({"offset": 10**20}, f"offset is {10**20}: skip at most 1,000,000 documents"),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_bound(values: dict[str, int], problem: str) -> None:
    with pytest.raises(QueryError, match=problem) as caught:
        Query("x", **values)  # type: ignore[arg-type]
    assert [caught.value.field] == list(values)


@pytest.mark.parametrize("text", ["", " - ", "\udcff", "-\udcff"])
def test_an_order_of_no_valid_field_is_refused(text: str) -> None:
    with pytest.raises(QueryError, match=r"the (order|sort field)") as caught:
        Sort.parse(text)
    assert caught.value.field == "sort"


def test_every_error_has_the_same_base_class() -> None:
    assert issubclass(DeadlineError, OverloadedError)
    assert issubclass(OverloadedError, SemsearchError)


def test_the_package_exports_its_names_and_no_others() -> None:
    assert {name for name in semsearch.__all__ if getattr(semsearch, name) is None} == set()
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = semsearch.nonsense
