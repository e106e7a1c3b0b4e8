"""What users write, checked by mypy: the types that the public API promises. Not run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

import numpy as np

from semsearch import (
    AdaptResult,
    Comparison,
    Document,
    Domain,
    Filter,
    Hit,
    Index,
    IndexInfo,
    Mode,
    Outcome,
    Query,
    Recipe,
    TextEncoder,
    parse_filter,
)
from semsearch.domains.suggesting import Suggestions
from semsearch.ingest.building import BuildEvent
from semsearch.storage.kept_queries import KeptQuery


class OwnEncoder:
    """Anything of this form is an encoder."""

    dimension = 3

    def encode_queries(self, texts: object) -> np.ndarray:
        """Vectors of queries."""
        return np.ones((1, 3))

    def encode_documents(self, texts: object) -> np.ndarray:
        """Vectors of documents."""
        return np.ones((1, 3))


def uses(folder: Path, recipe: Recipe, encoder: TextEncoder) -> None:
    """Every use of the README, and the forms that its comments name."""
    documents = [{"id": "a", "text": "How to reset a PIN", "metadata": {"lang": "en"}}]
    index = Index.build("help", documents, title="Help centre")
    assert_type(index, Index)
    Index.build(documents=[Document("a", "A", "text", "here"), {"text": "b"}, "docs/", folder])
    Index.build(folder, recipe)
    Index.build(folder, "index/python.toml", encoder="all-MiniLM-L6-v2")
    Index.build(documents=documents, encoder=encoder, vectors=np.ones((1, 3)))
    Index.build(documents=documents, encoder=OwnEncoder())
    assert_type(Index.building(folder, documents), Iterator[BuildEvent])
    assert_type(index.search("reset my pin", k=3, filter="lang = en"), list[Hit])
    assert_type(index.search("pin", mode="keyword", sort="-title", passages=2, collapse=True), list[Hit])
    tree: Filter = parse_filter("lang = en")
    assert_type(index.search("pin", filter=tree, mode=Mode.HYBRID), list[Hit])
    assert_type(index.search_many(["reset my pin", "when do you open"], k=3), list[list[Hit]])
    assert_type(index.execute([Query("pin")], explain=True), list[Outcome])
    team = index.domain("team")
    assert_type(team, Domain)
    team.label("reset my pin", "a")
    team.label("reset my pin", "a", 0.0)
    team.label_many([("reset my pin", "a"), ("opening hours", "b", 2.0)])
    team.click("reset my pin", "a", shown=["b", "a"])
    result = team.adapt()
    assert_type(result, AdaptResult)
    assert_type(result.improvement, float | None)
    assert_type(result.interval, tuple[float, float] | None)
    assert_type(team.search("pin", 3), list[Hit])
    assert_type(team.compare("pin"), Comparison)
    assert_type(team.suggest(k=3, results=2), Suggestions)
    assert_type(team.kept_queries(), list[KeptQuery])
    assert_type(team.forget_queries(), bool)
    index.add([{"id": "c", "text": "Order a card"}])
    index.delete(["b"])
    index.compact()
    assert_type(index.info(), IndexInfo)
    with Index.open("help") as again:
        assert_type(again, Index)
