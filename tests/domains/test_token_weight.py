"""The weight of late interaction is chosen on labelled queries, with evidence, and is part of the domain's state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semsearch.domains.adapting import adapt
from semsearch.domains.judgments import JudgedQuery
from semsearch.domains.token_weight import WEIGHTS, RankedQuery, choose_token_weight
from semsearch.encoders.encoder import Encoder
from semsearch.ingest.building import build
from semsearch.ingest.recipe import Recipe
from semsearch.search.engine import SearchEngine
from semsearch.types import Document


def ranked(*, boosted: int, relevant: int, partially_judged: bool = False) -> RankedQuery:
    """A query with 12 passages, of which late interaction raises one far enough at any weight but 0."""
    boosts = np.zeros(12, np.float32)
    boosts[boosted] = 10
    scores = np.linspace(1, 0, 12, dtype=np.float32)
    return RankedQuery(np.arange(12) + 100, scores, boosts, {relevant + 100: 1.0}, partially_judged)


@pytest.mark.parametrize(
    ("queries", "default", "chosen"),
    [
        ([ranked(boosted=9, relevant=9)] * 20, 1.0, 1.0),
        ([ranked(boosted=9, relevant=9)] * 20, 0.0, 0.3),
        ([ranked(boosted=9, relevant=0)] * 20, 1.0, 0.0),
        # one query is no evidence, nor are queries that contradict each other
        ([ranked(boosted=9, relevant=0)], 1.0, 1.0),
        ([ranked(boosted=9, relevant=0), ranked(boosted=9, relevant=9)] * 10, 1.0, 1.0),
        # of partially judged queries with one judged document each, nothing can be told
        ([ranked(boosted=9, relevant=0, partially_judged=True)] * 20, 1.0, 1.0),
        # what is not found is not ranked
        ([ranked(boosted=9, relevant=50)] * 20, 1.0, 1.0),
    ],
)
def test_a_weight_is_chosen_where_it_ranks_labelled_queries_better(
    queries: list[RankedQuery], default: float, chosen: float
) -> None:
    assert choose_token_weight(queries, default) == chosen


WORDS = [f"word{number}" for number in range(200)]


@pytest.mark.parametrize(("default", "answers"), [(0.0, "diluted"), (4.0, "short")])
def test_adapting_chooses_the_weight_of_a_domain(
    tmp_path: Path, token_encoder: Encoder, default: float, answers: str
) -> None:
    """Of two documents of each query one is short and has most of its words, one has all among many others: the first
    one's vector is nearer, the second one's tokens."""
    rng = np.random.default_rng(0)
    words = [rng.choice(WORDS, 4, replace=False).tolist() for _ in range(24)]
    queries = [" ".join(of_query) for of_query in words]
    documents = {
        "short": [" ".join(of_query[:3]) for of_query in words],
        "diluted": [" ".join([*of_query, *rng.choice(WORDS, 40)]) for of_query in words],
    }
    records = [
        Document(f"{kind}{row}", "", text, "test")
        for kind, texts in documents.items()
        for row, text in enumerate(texts)
    ]
    recipe = Recipe.model_validate({"search": {"lexical_weight": 0, "token_weight": default}})
    for _ in build(recipe, tmp_path / "index", records=records, encoder=token_encoder, threads=1):
        pass
    engine = SearchEngine.open(tmp_path / "index", encoder=token_encoder, threads=1)
    judged = [JudgedQuery(text, {f"{answers}{row}": 1.0}) for row, text in enumerate(queries)]
    adaptation = adapt(engine, None, judged, encode=engine.encode_label)
    again = adapt(engine, None, judged[::-1], encode=engine.encode_label)
    engine.close()
    assert adaptation.state is not None
    assert again.state is not None
    assert again.state.to_bytes({}) == adaptation.state.to_bytes({})
    chosen = adaptation.state.token_weight
    assert chosen in WEIGHTS
    assert (chosen > default) is (answers == "diluted")
    assert f"Comparing tokens counts {chosen:g} here instead of {default:g}." in adaptation.explanation
