"""The README's example of adapting the demo's index: real labels, the real encoder, the included weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from semsearch.adapters.adapter import Adapter
from semsearch.adapters.weights import Weights
from semsearch.domains.adapting import adapt
from semsearch.domains.judgments import JudgedQuery
from semsearch.encoders.encoder import Encoder
from semsearch.metalearn.datasets import read_labels
from semsearch.search.engine import SearchEngine
from semsearch.types import Query
from tests.conftest import build_index, hits_of, write_jsonl

EXAMPLE = Path(__file__).parents[2] / "docs" / "example"
UNLABELLED = {
    "what is in one group but not the other": "set.difference",
    "make the letters small": "str.lower",
    "put a thing at a certain place in a row": "list.insert",
}


@pytest.fixture(scope="module")
def builtins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the methods of the built-in types, a part of the demo's index."""
    folder = tmp_path_factory.mktemp("builtins")
    methods = {
        f"{kind.__name__}.{name}": str(method.__doc__)
        for kind in (str, bytes, list, dict, set, frozenset, int, float)
        for name, method in vars(kind).items()
        if not name.startswith("_") and getattr(method, "__doc__", None)
    }
    source = write_jsonl(
        folder / "builtins.jsonl", [{"id": name, "title": name, "text": text} for name, text in methods.items()]
    )
    build_index(folder / "builtins", source, model="all-MiniLM-L6-v2")
    return folder / "builtins"


def test_sixteen_labels_adapt_the_demo_to_plain_language(builtins: Path, real_encoder: Encoder) -> None:
    engine = SearchEngine.open(builtins, encoder=real_encoder)
    judged = [JudgedQuery(text, relevance) for text, relevance in read_labels(EXAMPLE)]
    outcome = adapt(engine, Weights.open().adapt, judged, encode=engine.encode_label)
    assert outcome.state is not None
    assert (outcome.learner, outcome.labels) == ("listwise", 16)
    engine.adapter = Adapter.from_states(engine.adapter.basis, {"plain": outcome.state})
    ranks = {}
    for name in ("default", "plain"):
        results = hits_of(engine, [Query(text, k=1000, domain=name) for text in UNLABELLED])
        ranks[name] = [
            [hit.id for hit in hits].index(wanted) for hits, wanted in zip(results, UNLABELLED.values(), strict=True)
        ]
    engine.close()
    assert sum(ranks["plain"]) < sum(ranks["default"])
    assert not set(UNLABELLED) & {query.text for query in judged}
