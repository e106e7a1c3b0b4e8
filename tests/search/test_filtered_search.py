"""Filtered searches: the answer of a filter is that of plain Python, in any order of queries and in any batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from semsearch.encoders.encoder import Encoder
from semsearch.errors import FilterError, QueryError
from semsearch.filters.tree import Filter
from semsearch.search.engine import SearchEngine
from semsearch.types import Document, Mode, Query, Sort
from tests.conftest import build_index, write_jsonl
from tests.storage.test_corpus import BOUNDS, MIXED, matches

FILTER: TypeAdapter[Filter] = TypeAdapter(Filter)
DOCUMENTS = [
    {"id": f"d{number}", "text": f"honey number {number}", "x": value, "y": [MIXED[number * 5 % len(MIXED)], number]}
    for number, value in enumerate(MIXED)
]

COMPARISONS = st.one_of(
    st.builds(lambda field, value: {"field": field, "eq": value}, st.sampled_from("xy"), st.sampled_from(MIXED)),
    st.builds(
        lambda field, values: {"field": field, "in": values},
        st.sampled_from("xy"),
        st.lists(st.sampled_from(MIXED), min_size=1, max_size=4),
    ),
    st.builds(
        lambda field, sign, bound: {"field": field, sign: bound},
        st.sampled_from("xy"),
        st.sampled_from(["gt", "gte", "lt", "lte"]),
        st.sampled_from(BOUNDS),
    ),
    st.builds(lambda low, high: {"field": "y", "gte": low, "lt": high}, st.integers(0, 40), st.integers(0, 40)),
)
FILTERS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.builds(lambda operand: {"not": operand}, inner),
        st.builds(lambda parts: {"and": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"or": parts}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_encoder: Encoder) -> Iterator[SearchEngine]:
    folder = tmp_path_factory.mktemp("filtered")
    build_index(folder / "zoo", write_jsonl(folder / "in.jsonl", DOCUMENTS), model=tiny_model, map=False)
    opened = SearchEngine.open(folder / "zoo", encoder=tiny_encoder, threads=1)
    yield opened
    opened.close()


def expected(query_filter: Filter) -> set[str]:
    documents = [Document(str(fields["id"]), "", str(fields["text"]), "in", fields_of(fields)) for fields in DOCUMENTS]
    return {document.id for document in documents if matches(document, query_filter)}


def fields_of(fields: dict[str, Any]) -> dict[str, Any]:
    # the reader leaves an empty text out
    return {name: value for name, value in fields.items() if name in "xy" and value != ""}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(FILTERS, min_size=1, max_size=4), st.sampled_from(list(Mode)))
def test_a_batch_of_filters_answers_as_plain_python(engine: SearchEngine, bodies: list[Any], mode: Mode) -> None:
    filters = [FILTER.validate_python(body) for body in bodies]
    queries = [Query("honey number", k=100, filter=query_filter, mode=mode) for query_filter in filters]
    for outcome, query_filter in zip(engine.search(queries), filters, strict=True):
        assert {hit.id for hit in outcome.hits} == expected(query_filter)


@pytest.mark.parametrize("descending", [False, True])
def test_documents_are_sorted_by_kind_and_value(engine: SearchEngine, descending: bool) -> None:
    [outcome] = engine.search([Query("honey", k=100, sort=Sort("x", descending))])
    values = [hit.metadata.get("x") for hit in outcome.hits]
    kinds = [kind_rank(value) for value in values if value is not None]
    assert kinds == sorted(kinds, reverse=descending)
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    assert numbers == sorted(numbers, reverse=descending)
    assert values[-1] is None
    [of_lists] = engine.search([Query("honey", k=100, sort=Sort("y", descending))])
    assert len(of_lists.hits) == len(DOCUMENTS)


def kind_rank(value: Any) -> int:
    if isinstance(value, bool):
        return 0
    if isinstance(value, int | float):
        return 1
    return 2 if value.startswith("20") and len(value) > 4 else 3


def test_prices_are_sorted_as_numbers(tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder) -> None:
    (tmp_path / "in.csv").write_text("id,text,price\na,one,9.5\nb,two,10\nc,three,100\nd,four,\n", encoding="utf-8")
    build_index(tmp_path / "zoo", tmp_path / "in.csv", model=tiny_model)
    engine = SearchEngine.open(tmp_path / "zoo", encoder=tiny_encoder, threads=1)
    [ascending] = engine.search([Query("one", sort=Sort("price"))])
    [descending] = engine.search([Query("one", sort=Sort("price", descending=True))])
    engine.close()
    assert [hit.id for hit in ascending.hits] == ["a", "b", "c", "d"]
    assert [hit.id for hit in descending.hits] == ["c", "b", "a", "d"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"filter": {"field": "z", "eq": 1}}, FilterError, "'z' is in no document"),
        ({"filter": {"not": {"field": "z", "exists": True}}}, FilterError, "the fields are id, title, source, x, y"),
        ({"sort": Sort("z")}, QueryError, "the sort field 'z' is in no document"),
    ],
)
def test_a_field_that_no_document_has_is_an_error(
    engine: SearchEngine, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    if "filter" in options:
        options = {"filter": FILTER.validate_python(options["filter"])}
    with pytest.raises(error, match=message):
        engine.search([Query("honey"), Query("honey", **options)])
