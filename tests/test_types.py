"""Values are validated, errors have one base class, and the package exports its names."""

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
def test_an_invalid_query_is_refused_with_the_reason(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(QueryError, match=complaint):
        Query(**values)  # type: ignore[arg-type]


def test_a_lone_surrogate_is_not_unicode() -> None:
    assert (is_unicode("😀 \x00"), is_unicode("\udc80")) == (True, False)


def test_every_error_has_the_same_base_class() -> None:
    assert issubclass(DeadlineError, OverloadedError)
    assert issubclass(OverloadedError, SemsearchError)


def test_the_package_exports_its_names_and_no_others() -> None:
    assert {name for name in semsearch.__all__ if getattr(semsearch, name) is None} == set()
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = semsearch.nonsense
