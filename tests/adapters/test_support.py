"""Support sets: what they hold, in which order, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from semsearch.adapters.losses import listwise_loss, residuals, support_ndcg
from semsearch.adapters.support import Judgments, build_support
from semsearch.errors import LabelError
from tests.adapters.worlds import DIMENSION, unit

DOCUMENTS = unit(np.random.default_rng(0).normal(size=(400, DIMENSION)))
QUERIES = unit(np.random.default_rng(1).normal(size=(5, DIMENSION)))
JUDGMENTS: list[Judgments] = [{0: 1.0}, {7: 2.0, 399: 1.0}, {7: 1.0}, {200: 1.0}, {3: 0.5}]


def test_it_holds_every_relevant_document_with_its_gain() -> None:
    support = build_support(DOCUMENTS, QUERIES, JUDGMENTS, most=50)
    for query, gains in zip(support.queries, support.relevance, strict=True):
        [original] = np.flatnonzero((query.numpy() == QUERIES).all(axis=1))
        judged = {
            int(np.flatnonzero((support.documents[column].numpy() == DOCUMENTS).all(axis=1))[0]): float(gains[column])
            for column in torch.nonzero(gains)[:, 0]
        }
        assert judged == JUDGMENTS[original]


def test_the_order_of_labels_does_not_matter() -> None:
    turn = [3, 0, 4, 1, 2]
    straight = build_support(DOCUMENTS, QUERIES, JUDGMENTS, most=50)
    turned = build_support(DOCUMENTS, QUERIES[turn], [JUDGMENTS[place] for place in turn], most=50)
    for name in ("queries", "documents", "relevance", "log_sampling_weight"):
        assert torch.equal(getattr(straight, name), getattr(turned, name))


def test_drawn_documents_stand_for_all_that_were_not_drawn() -> None:
    support = build_support(DOCUMENTS, QUERIES, JUDGMENTS, most=50)
    assert float(support.log_sampling_weight.exp().sum()) == pytest.approx(400)
    assert len(support.documents) <= 50


def test_a_small_corpus_is_held_whole() -> None:
    support = build_support(DOCUMENTS, QUERIES, JUDGMENTS, most=400)
    assert torch.equal(support.documents, torch.from_numpy(DOCUMENTS))
    assert not support.log_sampling_weight.any()


@pytest.mark.parametrize(
    ("judgments", "said"),
    [
        ([{0: 1.0}] * 4, "5 queries and 4 sets"),
        ([{0: 1.0}] * 4 + [{}], "query 4 has no relevant document"),
        ([{0: 1.0}] * 4 + [{400: 1.0}], "row 400 of a corpus of 400"),
        ([{-1: 1.0}] + [{0: 1.0}] * 4, "row -1"),
        ([{0: 0.0}] + [{0: 1.0}] * 4, "query 0 has no relevant document"),
        ([{0: -1.0}] + [{0: 1.0}] * 4, "the gain is -1.0"),
        ([{0: float("nan")}] + [{0: 1.0}] * 4, "the gain is nan"),
    ],
)
def test_labels_that_make_no_sense_are_refused(judgments: list[Judgments], said: str) -> None:
    with pytest.raises(LabelError, match=said):
        build_support(DOCUMENTS, QUERIES, judgments)


def test_what_nobody_judged_counts_neither_for_nor_against_a_query_that_was_judged_in_part() -> None:
    judgments = [{int(row): 0.0 for row in order[:5]} for order in np.argsort(-(QUERIES @ DOCUMENTS.T), axis=1)]
    for number, judged in enumerate(judgments):
        judged[list(judged)[4]] = float(number + 1)
    partial = build_support(DOCUMENTS, QUERIES, judgments, partial=[True] * 4 + [False])
    assert partial.unjudged is not None
    complete = build_support(DOCUMENTS, QUERIES, judgments)
    assert complete.unjudged is None
    known = ~partial.unjudged
    assert sorted(known.sum(dim=1).tolist()) == [5, 5, 5, 5, 400]
    # of five judged documents the fifth is the answer: nDCG is 1 / log2(6), as if there were no others
    values = support_ndcg(partial.queries, partial)
    assert values[known.sum(dim=1) == 5].tolist() == pytest.approx([1 / np.log2(6)] * 4, abs=1e-6)
    moved = residuals(partial.queries, partial, torch.tensor(0.05))
    assert torch.isfinite(moved).all()
    assert torch.isfinite(listwise_loss(partial.queries, partial, 0.05)).all()
    rows = torch.tensor([2, 0])
    few = partial.of(rows).subsample_negatives(200).to(torch.float64)
    assert few.unjudged is not None
    assert few.unjudged.shape == few.relevance.shape


def test_words_are_held_with_their_documents_and_added_to_the_scores() -> None:
    words = [dict.fromkeys((50 * place, 50 * place + 1), 0.1 * (place + 1)) for place in range(5)]
    support = build_support(DOCUMENTS, QUERIES, JUDGMENTS, words=words, most=120)
    assert support.lexical_scores is not None
    for part in (support, support.of(torch.tensor([3, 1])), support.subsample_negatives(60)):
        assert part.lexical_scores is not None
        for query, worth in zip(part.queries, part.lexical_scores, strict=True):
            [original] = np.flatnonzero((query.numpy() == QUERIES).all(axis=1))
            held = part.documents[worth > 0].numpy()
            rows = [int(np.flatnonzero((one == DOCUMENTS).all(axis=1))[0]) for one in held]
            assert set(rows) <= set(words[original])
            assert len(rows) == 2 or part is not support
        torch.testing.assert_close(part.scores(part.queries), part.queries @ part.documents.T + part.lexical_scores)


def test_words_may_answer_what_meaning_does_not() -> None:
    worth = [{next(row for row, gain in judged.items() if gain): 3.0} for judged in JUDGMENTS]
    plain, worded = (
        build_support(DOCUMENTS, QUERIES, JUDGMENTS),
        build_support(DOCUMENTS, QUERIES, JUDGMENTS, words=worth),
    )
    assert float(support_ndcg(plain.queries, plain).mean()) < 0.3
    assert float(support_ndcg(worded.queries, worded).mean()) > 0.95
