"""Support sets: their contents, their order, and the judgments that are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from semsearch.adapters.losses import listwise_loss, residuals, support_ndcg
from semsearch.adapters.ndcg import ndcg
from semsearch.adapters.support import UNJUDGED_WEIGHT, Judgments, build_support
from semsearch.errors import LabelError
from tests.adapters.worlds import DIMENSION, unit

DOCUMENTS = unit(np.random.default_rng(0).normal(size=(400, DIMENSION)))
QUERIES = unit(np.random.default_rng(1).normal(size=(5, DIMENSION)))
JUDGMENTS: list[Judgments] = [{0: 1.0}, {7: 2.0, 399: 1.0}, {7: 1.0}, {200: 1.0}, {3: 0.5}]


def test_it_holds_every_relevant_document_with_its_relevance() -> None:
    support = build_support(DOCUMENTS, QUERIES, JUDGMENTS, max_documents=50)
    for query, relevance in zip(support.queries, support.relevance, strict=True):
        [original] = np.flatnonzero((query.numpy() == QUERIES).all(axis=1))
        judged = {
            int(np.flatnonzero((support.documents[column].numpy() == DOCUMENTS).all(axis=1))[0]): float(
                relevance[column]
            )
            for column in torch.nonzero(relevance)[:, 0]
        }
        assert judged == JUDGMENTS[original]


def test_the_order_of_labels_does_not_matter() -> None:
    order = [3, 0, 4, 1, 2]
    support = build_support(DOCUMENTS, QUERIES, JUDGMENTS, max_documents=50)
    permuted = build_support(DOCUMENTS, QUERIES[order], [JUDGMENTS[row] for row in order], max_documents=50)
    for name in ("queries", "documents", "relevance", "log_sampling_weight"):
        assert torch.equal(getattr(support, name), getattr(permuted, name))


def test_sampled_documents_represent_all_that_were_not_sampled() -> None:
    support = build_support(DOCUMENTS, QUERIES, JUDGMENTS, max_documents=50)
    assert float(support.log_sampling_weight.exp().sum()) == pytest.approx(400)
    assert len(support.documents) <= 50


def test_a_small_corpus_is_not_sampled() -> None:
    support = build_support(DOCUMENTS, QUERIES, JUDGMENTS, max_documents=400)
    assert torch.equal(support.documents, torch.from_numpy(DOCUMENTS))
    assert not support.log_sampling_weight.any()


@pytest.mark.parametrize(
    ("judgments", "message"),
    [
        ([{0: 1.0}] * 4, "5 queries and 4 sets"),
        ([{0: 1.0}] * 4 + [{}], "query 4 has no relevant document"),
        ([{0: 1.0}] * 4 + [{400: 1.0}], "row 400 of a corpus of 400"),
        ([{-1: 1.0}] + [{0: 1.0}] * 4, "row -1"),
        ([{0: 0.0}] + [{0: 1.0}] * 4, "query 0 has no relevant document"),
        ([{0: -1.0}] + [{0: 1.0}] * 4, "the relevance is -1.0"),
        ([{0: float("nan")}] + [{0: 1.0}] * 4, "the relevance is nan"),
    ],
)
def test_invalid_judgments_are_refused(judgments: list[Judgments], message: str) -> None:
    with pytest.raises(LabelError, match=message):
        build_support(DOCUMENTS, QUERIES, judgments)


def test_unjudged_documents_are_left_out_of_the_rankings_of_partially_judged_queries() -> None:
    judgments = [{int(row): 0.0 for row in order[:5]} for order in np.argsort(-(QUERIES @ DOCUMENTS.T), axis=1)]
    for number, judged in enumerate(judgments):
        judged[list(judged)[4]] = float(number + 1)
    partial = build_support(DOCUMENTS, QUERIES, judgments, partially_judged=[True] * 4 + [False])
    assert partial.unjudged is not None
    complete = build_support(DOCUMENTS, QUERIES, judgments)
    assert complete.unjudged is None
    known = ~partial.unjudged
    assert sorted(known.sum(dim=1).tolist()) == [5, 5, 5, 5, 400]
    # of five judged documents the fifth is relevant: nDCG is 1 / log2(6), as if there were no others
    values = support_ndcg(partial.queries, partial)
    assert values[known.sum(dim=1) == 5].tolist() == pytest.approx([1 / np.log2(6)] * 4, abs=1e-6)
    rows = torch.tensor([2, 0])
    few = partial.select(rows).subsample_negatives(200).to(torch.float64)
    assert few.unjudged is not None
    assert few.unjudged.shape == few.relevance.shape


@pytest.mark.parametrize("clicked_rank", [0, 1, 9, 399])
def test_in_a_loss_unjudged_documents_are_weak_negatives(clicked_rank: int) -> None:
    """A click alone must pull its query toward the clicked document, less than a label that makes
    all other documents irrelevant."""
    clicks = [{int(row): 1.0} for row in np.argsort(-(QUERIES @ DOCUMENTS.T), axis=1)[:, clicked_rank]]
    partial = build_support(DOCUMENTS, QUERIES, clicks, partially_judged=[True] * 5)
    complete = build_support(DOCUMENTS, QUERIES, clicks)
    temperature = torch.tensor(0.05)
    weights = torch.where(complete.relevance > 0, 1.0, UNJUDGED_WEIGHT)
    exponentials = weights * (complete.scores(complete.queries) / temperature).exp()
    probabilities = exponentials / exponentials.sum(dim=1, keepdim=True)
    torch.testing.assert_close(
        listwise_loss(partial.queries, partial, temperature),
        -(probabilities * (complete.relevance > 0)).sum(dim=1).log(),
    )
    torch.testing.assert_close(
        residuals(partial.queries, partial, temperature), (complete.targets - probabilities) @ complete.documents
    )
    assert (listwise_loss(partial.queries, partial, temperature) > 0).all()
    assert (
        listwise_loss(partial.queries, partial, temperature) < listwise_loss(complete.queries, complete, temperature)
    ).all()


def test_chance_is_the_mean_ndcg_of_random_orders_of_the_judged_documents() -> None:
    nearest = np.argsort(-(QUERIES @ DOCUMENTS.T), axis=1)
    marks = [[1], [0, 1, 0], [3, 0, 1, 0, 0], [1] * 6 + [0] * 8, [0, 1]]
    judgments = [
        dict(zip(rows.tolist(), map(float, of_query), strict=False))
        for rows, of_query in zip(nearest, marks, strict=True)
    ]
    support = build_support(DOCUMENTS, QUERIES, judgments, partially_judged=[True] * 4 + [False])
    # the queries are sorted by their vectors
    order = np.lexsort(QUERIES.T[::-1]).tolist()
    rng = np.random.default_rng(0)
    for chance, index in zip(support.chance_ndcg.tolist(), order, strict=True):
        if index == 4:  # fully judged
            assert chance == 0
            continue
        shuffled = np.array([rng.permutation(marks[index]) for _ in range(20_000)])
        assert chance == pytest.approx(float(ndcg(shuffled, shuffled).mean()), abs=0.01)
    assert build_support(DOCUMENTS, QUERIES, JUDGMENTS).chance_ndcg.tolist() == [0] * 5


def test_lexical_scores_are_held_with_their_documents_and_added_to_the_cosines() -> None:
    lexical_scores = [dict.fromkeys((50 * n, 50 * n + 1), 0.1 * (n + 1)) for n in range(5)]
    support = build_support(DOCUMENTS, QUERIES, JUDGMENTS, lexical_scores=lexical_scores, max_documents=120)
    assert support.lexical_scores is not None
    for part in (support, support.select(torch.tensor([3, 1])), support.subsample_negatives(60)):
        assert part.lexical_scores is not None
        for query, scores in zip(part.queries, part.lexical_scores, strict=True):
            [original] = np.flatnonzero((query.numpy() == QUERIES).all(axis=1))
            documents = part.documents[scores > 0].numpy()
            rows = [int(np.flatnonzero((document == DOCUMENTS).all(axis=1))[0]) for document in documents]
            assert set(rows) <= set(lexical_scores[original])
            assert len(rows) == 2 or part is not support
        torch.testing.assert_close(part.scores(part.queries), part.queries @ part.documents.T + part.lexical_scores)


def test_queries_without_keyword_matches_have_no_lexical_scores_in_a_sampled_corpus() -> None:
    lexical_scores: list[dict[int, float]] = [{}, {7: 0.5}, {}, {}, {}]
    support = build_support(DOCUMENTS, QUERIES, JUDGMENTS, lexical_scores=lexical_scores, max_documents=120)
    assert support.lexical_scores is not None
    assert support.lexical_scores.sum() == 0.5


def test_lexical_scores_change_the_ranking() -> None:
    lexical_scores = [{next(row for row, value in judged.items() if value): 3.0} for judged in JUDGMENTS]
    dense = build_support(DOCUMENTS, QUERIES, JUDGMENTS)
    hybrid = build_support(DOCUMENTS, QUERIES, JUDGMENTS, lexical_scores=lexical_scores)
    assert float(support_ndcg(dense.queries, dense).mean()) < 0.3
    assert float(support_ndcg(hybrid.queries, hybrid).mean()) > 0.95
