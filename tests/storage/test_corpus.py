"""Several segments as one corpus: rows, filters and facets, compared with a brute force over all documents."""

from __future__ import annotations

import json
import operator
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from semsearch.filters.tree import And, Comparison, Filter, Not, Or
from semsearch.storage.corpus import PROXIMITY, Corpus, Segment
from semsearch.storage.deletions import Deletions
from semsearch.storage.documents import DocumentStore, DocumentWriter
from semsearch.storage.fulltext import FullText
from semsearch.storage.manifest import IndexRecord
from semsearch.storage.vectors import IndexType, VectorIndex
from semsearch.text.tokens import content_terms
from semsearch.types import Document, Mask, Passage, Rows, Scores, Vectors
from tests.adapters.test_adapter import unit_rows

DIMENSION = 16
FILTER: TypeAdapter[Filter] = TypeAdapter(Filter)
SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le,
}  # fmt: skip


MIXED: list[Any] = [
    True, False, "true", 0, 1, 1.1, "1.1", "1.10", "1", -1, 2024, "2024", 2000, "2024-03", "2024-03-01", "2023-12-31",
    "10000 EUR", "n.d.", "", "\u00e9", "x" * 250 + "1", "x" * 250 + "2", 2**53, 2**53 + 1, float(2**53), 2**63,
    -(2**63), 2**63 - 1, -(2**63) - 1, 10**30, 10**30 + 1, -(10**30), 1e30, 1e300, -1e300, 1e-08, 0.8472317894561234,
    "\U0010ffff", "\ud7ff", "\ue000",
]  # fmt: skip
OWN = ["T", "T1", "2024", "2024-03-01", "2024-03-01T10:00:00Z", "1.10", "1.1", "true", "7"]
"""Titles. Documents' own fields are texts, whatever form they have."""
BOUNDS = [value for value in MIXED if not isinstance(value, bool)]


def make_document(number: int) -> Document:
    metadata: dict[str, Any] = {
        "n": number,
        "text": str(number),
        "even": number % 2 == 0,
        "tags": ["all", f"t{number % 5}"],
    }
    if number % 3 == 0:
        metadata["author"] = {"name": f"a{number % 4}"}
    metadata["mixed"] = [MIXED[number % len(MIXED)], MIXED[7 * number % len(MIXED)]]
    metadata["day"] = f"20{20 + number % 4}-{1 + number % 12:02}-{1 + number % 28:02}"
    title = OWN[number % len(OWN)]
    return Document(f"d{number}", title, f"word{number} common other{number % 6}", f"file{number % 2}", metadata)


def segment(folder: Path, name: str, documents: list[Document], vectors: np.ndarray) -> Segment:
    path = folder / f"{name}.sqlite"
    with DocumentWriter(path, folder / name) as writer:
        for document in documents:
            # every document in two passages
            half = len("common")
            parts = [(Passage(document.text[:half], 0, half), 1), (Passage(document.text[half:], half, 99), 1)]
            writer.add(document, "", parts)
        writer.close()
    index = VectorIndex.exact(DIMENSION)
    index.add(vectors)
    return Segment(name, index, DocumentStore(path), FullText(folder / name), IndexRecord())


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
        self.deleted_numbers = {0, 5, 69, 73}
        self.corpus = Corpus(
            segments, {"s-0": self.deletions(np.array([0, 5, 69]), 0), "s-70": self.deletions(np.array([3]), 70)}
        )

    def deletions(self, rows: Rows, first: int) -> Deletions:
        texts = [self.documents[first + row].text for row in rows.tolist()]
        half = len("common")
        return Deletions().with_documents(rows, [part for text in texts for part in (text[:half], text[half:])])

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
    fields = [("id", document.id), ("title", document.title), ("source", document.source), *flat(document.metadata)]
    values = [value for name, value in fields if name == query_filter.field]
    own = query_filter.field in {"id", "title", "source"}
    if query_filter.exists is not None:
        within = any(name.startswith(f"{query_filter.field}.") for name, _ in fields)
        return (bool(values) or within) is query_filter.exists
    return any(_matches_comparison(value, query_filter, is_text=own) for value in values)


def flat(metadata: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in metadata with its dotted name."""
    for name, value in metadata.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield from ((prefix + name, inner) for inner in (value if isinstance(value, list) else [value]))


def kind(value: Any) -> str:
    """What a value is, in plain Python. The dates of these tests are days."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "date" if re.fullmatch(r"\d{4}-\d\d(-\d\d)?", value) else "text"


def _matches_comparison(value: Any, comparison: Comparison, *, is_text: bool) -> bool:
    if comparison.prefix is not None:
        return (value if isinstance(value, str) else json.dumps(value)).startswith(comparison.prefix)
    one_of = comparison.one_of if comparison.eq is None else (comparison.eq,)
    if is_text:
        texts = [one if isinstance(one, str) else json.dumps(one) for one in one_of or ()]
        return value in texts or (one_of is None and _within_text_bounds(value, comparison))
    if one_of is not None:
        return any(kind(value) == kind(allowed) and value == allowed for allowed in one_of)
    bounds = {sign: bound for sign in SIGNS if (bound := getattr(comparison, sign)) is not None}
    return all(_within_bound(value, sign, bound) for sign, bound in bounds.items())


def _within_text_bounds(value: str, comparison: Comparison) -> bool:
    bounds = {sign: bound for sign in SIGNS if (bound := getattr(comparison, sign)) is not None}
    return all(
        SIGNS[sign](value, bound if isinstance(bound, str) else json.dumps(bound)) for sign, bound in bounds.items()
    )


def _within_bound(value: Any, sign: str, bound: Any) -> bool:
    is_year = re.fullmatch(r"[1-9]\d{3}", str(bound)) is not None
    if kind(value) == "date" and (is_year or kind(bound) == "date"):
        # a bound includes the whole of its day, month or year
        return SIGNS[sign](value[: len(str(bound))] if sign in {"gt", "lte"} else value, str(bound))
    return kind(value) == kind(bound) and SIGNS[sign](value, bound)


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
            {"field": "title", "prefix": draw.choice(["T", "2024", "1"])},
            {"field": "title", "eq": draw.choice([*OWN, 7, 1.1, True, 2024])},
            {"field": "title", "in": draw.sample(OWN, 3)},
            {"field": "title", draw.choice(["gt", "gte"]): draw.choice([*OWN, 7, 2024])},
            {"field": "title", draw.choice(["lt", "lte"]): draw.choice([*OWN, 7, 2024])},
            {"field": "id", "in": [f"d{number}", f"d{number + 1}"]},
            {"field": "source", "eq": "file1"},
            {"field": "day", "gte": draw.choice(["2021", 2022, "2021-06", "2020-03-04"])},
            {"field": "day", "lte": draw.choice(["2021", 2022, "2021-06", "2022-03-04"])},
            {"field": "day", "gt": "2020-05", "lt": 2023},
            {"field": "missing", "eq": 1},
            {"field": "mixed", "in": draw.sample(MIXED, 3)},
            {"field": "mixed", "eq": draw.choice(MIXED)},
            {"field": "mixed", draw.choice(["gt", "gte"]): draw.choice(BOUNDS)},
            {"field": "mixed", draw.choice(["lt", "lte"]): draw.choice(BOUNDS)},
            {"field": "mixed", "prefix": draw.choice(["1", "1.1", "t", "2024", "-", "x" * 250])},
        ]
    )


def test_a_filter_allows_the_documents_that_match_it(world: World) -> None:
    draw, sizes = random.Random(3), set()
    for _ in range(1500):
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
    live = world.corpus.live_rows
    assert {row // 2 for row in live.tolist()} == world.live()
    np.testing.assert_array_equal(world.corpus.vectors(live), world.vectors[live])
    assert [doc_id for doc_id, _ in world.corpus.texts()] == [f"d{row // 2}" for row in live]
    assert (world.corpus.documents, world.corpus.passages, world.corpus.rows) == (116, 232, 240)


@pytest.fixture(scope="module")
def furniture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    """Two segments of texts in which "red chair" stands together, apart, in the other order, or not at all."""
    folder = tmp_path_factory.mktemp("furniture")
    texts = ["chair red sofa lamp", "red lamp chair sofa", "lamp sofa red chair", "lamp sofa", "the red, the chair"]
    segments = []
    for name, repeated in (("s-0", texts), ("s-1", texts * 45)):
        with DocumentWriter(folder / f"{name}.sqlite", folder / name) as writer:
            for number, text in enumerate(repeated):
                document = Document(f"{name}-{number}", "", text, "")
                writer.add(document, "", [(Passage(text, 0, len(text)), 1)])
            writer.close()
        index = VectorIndex.exact(DIMENSION)
        index.add(unit_rows(len(repeated), dimension=DIMENSION))
        documents = DocumentStore(folder / f"{name}.sqlite")
        segments.append(Segment(name, index, documents, FullText(folder / name), IndexRecord()))
    opened = Corpus(segments)
    yield opened
    for opened_segment in opened.segments:
        opened_segment.close()


def test_passages_in_which_neighbouring_words_are_neighbours_score_higher(furniture: Corpus) -> None:
    rows, scores = furniture.search_keywords("red chair", 300)
    assert len(rows) == 4 * 46
    # all texts have four words, so that BM25 is the same for all
    bm25 = scores.min()
    expected = np.where(np.isin(rows % 5, [2, 4]), (1 + PROXIMITY) * bm25, bm25)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


@pytest.mark.parametrize("query", ["red chair", "the red lamp chair", "sofa", '"red chair" lamp sofa'])
def test_later_pages_of_a_keyword_search_never_change_earlier_ones(furniture: Corpus, query: str) -> None:
    all_rows, all_scores = furniture.search_keywords(query, 400)
    assert (np.diff(all_scores) <= 0).all()
    for k in (1, 7, 199, 200, 201, 225):
        rows, scores = furniture.search_keywords(query, k)
        assert rows.tolist() == all_rows[:k].tolist()
        assert scores.tolist() == all_scores[:k].tolist()


@pytest.mark.parametrize("seed", range(30))
def test_some_rows_have_all_terms_if_the_text_of_one_has_them(world: World, seed: int) -> None:
    draw = random.Random(seed)
    live = world.corpus.live_rows.tolist()
    rows = np.array(draw.sample(live, 10), np.int64)
    texts = world.corpus.encoder_texts(rows)
    others = world.corpus.encoder_texts(np.array(draw.sample(live, 2), np.int64))
    known = [
        term
        for text in (draw.choice([*texts, others[0]]), draw.choice([*texts, others[1]]))
        for term in content_terms(text)
    ]
    terms = draw.sample(known, min(len(known), draw.randint(1, 3)))
    expected = any({*terms} <= {*content_terms(text)} for text in texts)
    assert world.corpus.has_all_terms(rows, terms) is expected
    assert not world.corpus.has_all_terms(rows, [*terms, ("unknown",)])
    assert not world.corpus.has_all_terms(rows[:0], terms)


def test_a_term_of_two_characters_is_found_in_what_few_deletions_have_left(tmp_path: Path) -> None:
    texts = ["数据库", "睡觉"] * 5
    documents = [Document(f"d{number}", "", text, "", {}) for number, text in enumerate(texts)]
    with DocumentWriter(tmp_path / "a.sqlite", tmp_path / "a") as writer:
        for document in documents:
            writer.add(document, "", [(Passage(document.text, 0, 3), 1)])
        writer.close()
    index = VectorIndex.exact(DIMENSION)
    index.add(unit_rows(10, dimension=DIMENSION))
    opened = Segment("a", index, DocumentStore(tmp_path / "a.sqlite"), FullText(tmp_path / "a"), IndexRecord())
    rows = np.arange(9)
    corpus = Corpus([opened], {"a": Deletions().with_documents(rows, texts[:9])})
    assert corpus.has_all_terms(np.array([9]), [("睡", "觉")])
    assert not corpus.has_all_terms(np.array([9]), [("数", "据")])
    opened.close()


@pytest.mark.parametrize("query_filter", [None, {"field": "n", "lt": 80}, {"field": "n", "lt": -80}])
@pytest.mark.parametrize(
    ("most_read", "most_values"), [(1_000, 1_000), (1, 1_000), (7, 0)], ids=["metadata", "bitmaps", "batches"]
)
def test_facets_count_the_live_documents_that_match_the_filter(
    world: World, query_filter: Any, most_read: int, most_values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semsearch.storage.documents.MAX_READ_DOCUMENTS", most_read)
    monkeypatch.setattr("semsearch.storage.metadata.MAX_FACET_VALUES", most_values)
    parsed = None if query_filter is None else FILTER.validate_python(query_filter)
    for name in ("tags", "even", "author.name", "day", "missing", "mixed"):
        counts = Counter(
            value
            for n in world.live(parsed)
            for value in {(kind(value), value) for field, value in flat(world.documents[n].metadata) if field == name}
        )
        documents = np.unique(world.corpus.document_of[world.corpus.allowed_rows(parsed).passages])
        facets = world.corpus.facet_counts(name, documents)
        assert {(value.kind.label, value.value): count for value, count in facets.items()} == counts


def test_a_one_of_comparison_is_in_as_json() -> None:
    assert Comparison(field="a", one_of=("x",)) == FILTER.validate_python({"field": "a", "in": ["x"]})


class RecordedIndex(VectorIndex):
    """Remembers the `ef_search` of the last search."""

    last: int | None = None

    def search(
        self, queries: Vectors, k: int, *, ef_search: int | None = None, allowed: Mask | None = None
    ) -> tuple[Scores, Rows]:
        self.last = ef_search
        return super().search(queries, k, ef_search=ef_search, allowed=allowed)


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (("hnsw", "exact", "ivf"), (7, None, 300)),
        (("ivf", "hnsw", "hnsw"), (7, 200, 300)),
        (("ivf", "ivf", "exact"), (7, 7, None)),
        (("exact", "hnsw", "ivf"), (7, 200, 300)),
    ],
)
def test_ef_search_overrides_that_of_segments_of_the_largest_ones_type(
    types: tuple[IndexType, ...], expected: tuple[int | None, ...], tmp_path: Path
) -> None:
    vectors = unit_rows(40, dimension=DIMENSION)
    segments = []
    for number, (index_type, documents) in enumerate(
        zip(types, (range(10), range(10, 15), range(15, 20)), strict=True)
    ):
        rows = vectors[2 * documents.start : 2 * documents.stop]
        one = segment(tmp_path, f"s-{number}", [make_document(n) for n in documents], rows)
        measured = None if index_type == "exact" else 100 * (number + 1)
        one.index = IndexRecord(type=index_type, ef_search=measured)
        one.vectors = RecordedIndex.exact(DIMENSION)
        one.vectors.add(rows)
        segments.append(one)
    corpus = Corpus(segments)
    corpus.search_vectors(vectors[:1], 3, ef_search=7)
    assert tuple(one.vectors.last for one in segments if isinstance(one.vectors, RecordedIndex)) == expected
    corpus.search_vectors(vectors[:1], 3)
    assert [one.vectors.last for one in segments if isinstance(one.vectors, RecordedIndex)] == [
        one.index.ef_search for one in segments
    ]
    for one in segments:
        one.close()
