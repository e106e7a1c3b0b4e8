"""Values that make no sense cannot be made."""

from __future__ import annotations

import pytest

import semsearch
from semsearch.errors import DeadlineError, OverloadedError, QueryError, SemsearchError
from semsearch.types import Query, is_unicode


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
def test_a_senseless_query_is_refused_with_its_reason(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(QueryError, match=complaint):
        Query(**values)  # type: ignore[arg-type]


def test_a_lone_surrogate_is_no_unicode() -> None:
    assert (is_unicode("😀 \x00"), is_unicode("\udc80")) == (True, False)


def test_every_error_of_ours_can_be_caught_as_one() -> None:
    assert issubclass(DeadlineError, OverloadedError)
    assert issubclass(OverloadedError, SemsearchError)


def test_the_package_gives_its_names_and_no_others() -> None:
    assert {name for name in semsearch.__all__ if getattr(semsearch, name) is None} == set()
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = semsearch.nonsense
