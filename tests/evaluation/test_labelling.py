"""Users of a served search, who label or click what it shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from semsearch.adapters.weights import DEFAULT_WEIGHTS, Weights
from semsearch.evaluation.dataset_index import DatasetIndex, document_id
from semsearch.evaluation.labelling import RESULTS, LabelSource, collect_entries, merge_entries
from semsearch.types import Click, Label, Rows
from tests.adapters.worlds import domain

SEARCHED = np.arange(21)


@pytest.fixture(scope="module")
def weights() -> Weights:
    return Weights.open(DEFAULT_WEIGHTS)


@pytest.fixture(scope="module")
def index() -> Iterator[DatasetIndex]:
    with DatasetIndex.build(domain(0, queries=60)) as index:
        yield index


def shown_to_the_first(index: DatasetIndex) -> list[str]:
    [rows] = index.search("semantic", SEARCHED[:1], k=RESULTS)
    return [document_id(row) for row in rows.tolist()]


def test_first_results_are_judged_and_nothing_else(index: DatasetIndex, weights: Weights) -> None:
    entries = collect_entries(index, "semantic", weights, SEARCHED, LabelSource.FIRST_RESULTS, 0)
    assert len(entries) == len(SEARCHED)
    texts = index.dataset.texts
    for row, labels in zip(SEARCHED.tolist(), entries, strict=True):
        assert len(labels) == RESULTS
        relevant = {document_id(document): value for document, value in texts.judgments[row].items()}
        for label in labels:
            assert isinstance(label, Label)
            assert (label.query, label.relevance) == (texts.queries[row], relevant.get(label.document, 0.0))
    assert [label.document for label in entries[0]] == shown_to_the_first(index)
    for query in merge_entries(entries):
        assert query.partially_judged
        assert len(query.relevance) + len(query.negatives) == RESULTS


def test_a_query_without_a_relevant_result_has_negatives_only(weights: Weights) -> None:
    dataset = domain(0, queries=4)
    farthest = [int(np.argmin(dataset.documents @ query)) for query in dataset.queries]
    dataset = replace(dataset, texts=replace(dataset.texts, judgments=[{row: 1.0} for row in farthest]))
    with DatasetIndex.build(dataset) as index:
        entries = collect_entries(index, "semantic", weights, np.array([2]), LabelSource.FIRST_RESULTS, 0)
    [query] = merge_entries(entries)
    assert query.relevance == {}
    assert len(query.negatives) == RESULTS


def test_a_click_is_on_the_first_examined_relevant_result(index: DatasetIndex, weights: Weights) -> None:
    entries = collect_entries(index, "semantic", weights, SEARCHED, LabelSource.CLICKS, 0)
    positions = []
    for row, [click] in zip(SEARCHED.tolist(), entries, strict=True):
        assert isinstance(click, Click)
        assert len(click.shown) == RESULTS
        if click.document is None or click.position is None:
            assert (click.document, click.position) == (None, None)
            continue
        assert click.shown[click.position - 1] == click.document
        assert click.document in {document_id(document) for document in index.dataset.texts.judgments[row]}
        positions.append(click.position)
        # the first result is always examined
        assert click.position == 1 or click.shown[0] not in {
            document_id(document) for document in index.dataset.texts.judgments[row]
        }
    assert 0 < len(positions) < len(SEARCHED)
    judged = merge_entries(entries)
    assert len(judged) == len(positions)
    assert all(len(query.relevance) == 1 and query.partially_judged and not query.negatives for query in judged)


@pytest.mark.parametrize("source", [LabelSource.FIRST_RESULTS, LabelSource.CLICKS])
def test_the_first_queries_do_not_depend_on_later_ones(
    index: DatasetIndex, weights: Weights, source: LabelSource
) -> None:
    longer = collect_entries(index, "hybrid", weights, SEARCHED, source, 1)
    assert collect_entries(index, "hybrid", weights, SEARCHED[:9], source, 1) == longer[:9]
    if source is LabelSource.CLICKS:
        assert collect_entries(index, "hybrid", weights, SEARCHED, source, 2) != longer


def test_the_domain_is_adapted_whenever_its_queries_have_doubled(
    index: DatasetIndex, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapted, searched = [], []
    adapt, search = DatasetIndex.adapt, DatasetIndex.search

    def count_adaptations(index: DatasetIndex, name: str, weights: Weights, judged: list[object]) -> object:
        adapted.append(len(judged))
        return adapt(index, name, weights, judged)  # type: ignore[arg-type]

    def record_searches(index: DatasetIndex, name: str, queries: Rows, state: object = None, *, k: int) -> list[Rows]:
        searched.append((len(queries), state is not None))
        return search(index, name, queries, state, k=k)  # type: ignore[arg-type]

    monkeypatch.setattr(DatasetIndex, "adapt", count_adaptations)
    monkeypatch.setattr(DatasetIndex, "search", record_searches)
    collect_entries(index, "semantic", weights, SEARCHED, LabelSource.FIRST_RESULTS, 0)
    assert adapted == [1, 2, 4, 8, 16]
    assert searched == [(1, False), (1, True), (2, True), (4, True), (8, True), (5, True)]
