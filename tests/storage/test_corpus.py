"""Several segments as one corpus: rows, filters and facets, compared with a brute force over all documents."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from semsearch.filters.tree import And, Comparison, Filter, Not, Or, field_values, normalize_value
from semsearch.storage.corpus import Corpus, Segment
from semsearch.storage.documents import DocumentStore, DocumentWriter
from semsearch.storage.fulltext import FullText
from semsearch.storage.manifest import IndexRecord
from semsearch.storage.vectors import VectorIndex
from semsearch.types import Document, Passage
from tests.adapters.test_adapter import unit_rows

DIMENSION = 16
FILTER: TypeAdapter[Filter] = TypeAdapter(Filter)
SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le,
}  # fmt: skip


def make_document(number: int) -> Document:
    metadata: dict[str, Any] = {
        "n": number,
        "text": str(number),
        "even": number % 2 == 0,
        "tags": ["all", f"t{number % 5}"],
    }
    if number % 3 == 0:
        metadata["author"] = {"name": f"a{number % 4}"}
    metadata["day"] = f"20{20 + number % 4}-{1 + number % 12:02}-{1 + number % 28:02}"
    return Document(
        f"d{number}", f"T{number % 7}", f"word{number} common other{number % 6}", f"file{number % 2}", metadata
    )


def segment(folder: Path, name: str, documents: list[Document], vectors: np.ndarray) -> Segment:
    path = folder / f"{name}.sqlite"
    with DocumentWriter(path) as writer:
        for document in documents:
            # every document in two passages
            half = len("common")
            parts = [(Passage(document.text[:half], 0, half), 1), (Passage(document.text[half:], half, 99), 1)]
            writer.add(document, "", parts)
        writer.close()
    index = VectorIndex.exact(DIMENSION)
    index.add(vectors)
    return Segment(name, index, DocumentStore(path), FullText(path), IndexRecord())


class World:
    """A corpus of three segments with deleted documents, and its content as plain values."""

    def __init__(self, folder: Path) -> None:
        self.documents = [make_document(number) for number in range(120)]
        self.vectors = unit_rows(240, dimension=DIMENSION)
        bounds = [0, 70, 100, 120]
        segments = [
            segment(folder, f"s-{begin}", self.documents[begin:end], self.vectors[2 * begin : 2 * end])
            for begin, end in pairwise(bounds)
        ]
        self.deleted = {"s-0": np.array([0, 5, 69]), "s-70": np.array([3])}
        self.deleted_numbers = {0, 5, 69, 73}
        self.corpus = Corpus(segments, self.deleted)

    def live(self, query_filter: Filter | None = None) -> set[int]:
        return {
            n
            for n in range(120)
            if n not in self.deleted_numbers and (query_filter is None or matches(self.documents[n], query_filter))
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    opened = World(tmp_path_factory.mktemp("world"))
    yield opened
    for opened_segment in opened.corpus.segments:
        opened_segment.close()


def matches(document: Document, query_filter: Filter) -> bool:
    """Whether a document matches a filter, in plain Python."""
    match query_filter:
        case Not(operand=part):
            return not matches(document, part)
        case And(all_of=parts):
            return all(matches(document, part) for part in parts)
        case Or(any_of=parts):
            return any(matches(document, part) for part in parts)
    fields = {"id": document.id, "title": document.title, "source": document.source, **document.metadata}
    values = [value for name, value in field_values(fields) if name == query_filter.field]
    if query_filter.exists is not None:
        within = any(name.startswith(f"{query_filter.field}.") for name, _ in field_values(fields))
        return (bool(values) or within) is query_filter.exists
    return any(_matches_comparison(value, query_filter) for value in values)


def _matches_comparison(value: Any, comparison: Comparison) -> bool:
    if comparison.prefix is not None:
        return isinstance(value, str) and value.startswith(comparison.prefix)
    one_of = comparison.one_of if comparison.eq is None else (comparison.eq,)
    if one_of is not None:
        return value in [normalize_value(allowed) for allowed in one_of]
    return all(_within_bound(value, sign, getattr(comparison, sign)) for sign in SIGNS)


def _within_bound(value: Any, sign: str, bound: Any) -> bool:
    if bound is None:
        return True
    bound = normalize_value(bound)
    if isinstance(bound, int) and 1000 <= bound <= 9999 and isinstance(value, str) and value[:1].isdigit():
        bound = str(bound)  # a year
    if isinstance(value, str) is not isinstance(bound, str):
        return False
    if isinstance(bound, str) and sign in {"gt", "lte"}:
        bound += "\U0010ffff"
    return SIGNS[sign](value, bound)


def random_filter(draw: random.Random, depth: int = 0) -> Any:
    """A random filter as JSON."""
    kind = draw.random()
    if depth < 3 and kind < 0.45:
        name = draw.choice(["and", "or", "not"])
        return {
            name: random_filter(draw, depth + 1)
            if name == "not"
            else [random_filter(draw, depth + 1) for _ in range(draw.randint(1, 3))]
        }
    number = draw.randint(-5, 125)
    return draw.choice(
        [
            {"field": "n", draw.choice(["gt", "gte"]): number},
            {"field": "text", draw.choice(["lt", "lte"]): str(number)},
            {"field": "n", "gt": number, "lte": number + 30},
            {"field": "even", "eq": draw.choice([True, False, "true"])},
            {"field": "tags", "in": draw.sample(["t0", "t1", "t2", "none", "all"], 2)},
            {"field": "author", "exists": draw.choice([True, False])},
            {"field": "author.name", "eq": f"a{number % 4}"},
            {"field": "title", "prefix": "T"},
            {"field": "id", "in": [f"d{number}", f"d{number + 1}"]},
            {"field": "source", "eq": "file1"},
            {"field": "day", "gte": draw.choice(["2021", 2022, "2021-06", "2020-03-04"])},
            {"field": "day", "lte": draw.choice(["2021", 2022, "2021-06", "2022-03-04"])},
            {"field": "day", "gt": "2020-05", "lt": 2023},
            {"field": "missing", "eq": 1},
        ]
    )


def test_a_filter_allows_the_documents_that_match_it(world: World) -> None:
    draw, sizes = random.Random(3), set()
    for _ in range(400):
        query_filter = FILTER.validate_python(random_filter(draw))
        allowed = world.corpus.allowed_rows(query_filter)
        expected = world.live(query_filter)
        assert set(world.corpus.document_of[np.flatnonzero(allowed.passages)].tolist()) == expected, query_filter
        assert (allowed.document_count, allowed.passage_count) == (len(expected), 2 * len(expected))
        sizes.add(len(expected))
    assert len(sizes) > 50


def test_a_filtered_search_returns_allowed_rows_only_and_all_of_them_if_k_is_larger(world: World) -> None:
    draw, queries = random.Random(4), unit_rows(3, dimension=DIMENSION, seed=9)
    for _ in range(60):
        query_filter = FILTER.validate_python(random_filter(draw))
        rows = np.array(sorted(row for n in world.live(query_filter) for row in (2 * n, 2 * n + 1)), np.int64)
        scores, nearest = world.corpus.search_vectors(queries, 12, allowed=world.corpus.allowed_rows(query_filter))
        for query, query_scores, query_rows in zip(queries, scores, nearest, strict=True):
            cosines = np.round(world.vectors[rows] @ query, 6)
            expected = rows[np.lexsort((rows, -cosines))][:12]
            assert query_rows[query_rows >= 0].tolist() == expected.tolist()
            assert np.isneginf(query_scores[len(expected) :]).all()
        keyword_rows, _ = world.corpus.search_keywords("common", 300, allowed=world.corpus.allowed_rows(query_filter))
        assert {row // 2 for row in keyword_rows.tolist()} == world.live(query_filter)


def test_every_method_uses_the_same_row_numbers(world: World) -> None:
    rows = np.array([239, 0, 141, 139, 200])
    np.testing.assert_array_equal(world.corpus.vectors(rows), world.vectors[rows])
    query = unit_rows(1, dimension=DIMENSION, seed=5)[0]
    np.testing.assert_allclose(world.corpus.cosine(query, rows), world.vectors[rows] @ query, atol=1e-6)
    assert world.corpus.doc_ids(rows) == [f"d{row // 2}" for row in rows]
    hits = world.corpus.hits([(row, float(row)) for row in rows.tolist()])
    assert [(hit.id, hit.score) for hit in hits] == [(f"d{row // 2}", row) for row in rows.tolist()]
    assert world.corpus.passage_rows("d110").tolist() == [220, 221]
    assert world.corpus.passage_rows("d5").tolist() == []
    live, vectors = world.corpus.live_passages()
    assert {row // 2 for row in live.tolist()} == world.live()
    np.testing.assert_array_equal(vectors, world.vectors[live])
    assert [doc_id for doc_id, _ in world.corpus.texts()] == [f"d{row // 2}" for row in live]
    assert (world.corpus.documents, world.corpus.passages, world.corpus.rows) == (116, 232, 240)


@pytest.mark.parametrize("query_filter", [None, {"field": "n", "lt": 80}, {"field": "n", "lt": -80}])
def test_facets_count_the_live_documents_that_match_the_filter(world: World, query_filter: Any) -> None:
    parsed = None if query_filter is None else FILTER.validate_python(query_filter)
    for name in ("tags", "even", "author.name", "day", "missing"):
        expected: dict[Any, int] = {}
        for n in world.live(parsed):
            for value in {value for field, value in field_values(world.documents[n].metadata) if field == name}:
                expected[value] = expected.get(value, 0) + 1
        assert world.corpus.facet_counts(name, parsed) == expected


def test_a_one_of_comparison_is_in_as_json() -> None:
    assert Comparison(field="a", one_of=("x",)) == FILTER.validate_python({"field": "a", "in": ["x"]})
