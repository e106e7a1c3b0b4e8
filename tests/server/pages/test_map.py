"""The map of an index that changes: after any changes it has the points of the live documents and no others."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from flask.testing import FlaskClient

from semsearch.encoders.encoder import Encoder
from semsearch.ingest.updating import compact
from semsearch.search.engine import SearchEngine
from semsearch.server.app import create_app
from semsearch.server.runtime.service import AdaptationSettings, SearchService
from semsearch.storage.generations import current, stale_paths
from tests.conftest import ANIMALS, build_index, write_jsonl

IDS = [str(animal["id"]) for animal in ANIMALS]
SEQUENCES = [
    "add owl",
    "delete cat",
    "add owl; delete owl",
    "add owl; delete owl; compact",
    "add cat; add cat; delete cat",
    "add many; delete cat; delete owl",
    "add many; delete many; add owl; compact; delete owl",
    f"delete {' '.join(IDS)}; compact; add owl",
]
MANY = [f"many{number}" for number in range(20)]
"""More passages than a segment of ANIMALS may have to be merged with them: two segments."""


class Server:
    """A server of an index, and the documents that should be live."""

    def __init__(self, index: Path, encoder: Encoder) -> None:
        self.index = index
        self.encoder = encoder
        self.live = set(IDS)
        self.added = 0
        self.start()

    def start(self) -> None:
        # no reference to an engine stays: the server alone decides which generations are in use
        app = create_app(
            {"zoo": SearchEngine.open(self.index, encoder=self.encoder, threads=1)},
            adaptation=AdaptationSettings(after=0),
        )
        self.service: SearchService = app.extensions["semsearch"]
        self.client: FlaskClient = app.test_client()

    def close(self) -> None:
        self.service.close()
        self.service.index("zoo").engine.close()

    def do(self, step: str) -> None:
        """Make one change over HTTP, and remove the generations that it left unused."""
        verb, *ids = step.split()
        ids = [*ids, *MANY] if "many" in ids else ids
        ids = [doc_id for doc_id in ids if doc_id != "many"]
        match verb:
            case "add":
                self.added += 1
                text = f"An animal of edition {self.added}"
                documents = [{"id": doc_id, "text": f"{text}, called {doc_id}."} for doc_id in ids]
                assert self.client.put("/api/documents", json={"documents": documents}).status_code == 200
                self.live |= set(ids)
            case "delete":
                query = "&".join(f"id={doc_id}" for doc_id in ids)
                assert self.client.delete(f"/api/documents?{query}").status_code == 200
                self.live -= set(ids)
            case "compact":
                list(compact(self.index, encoder=self.encoder, threads=1))
                self.service.index("zoo").switch()
            case "restart":
                self.close()
                self.start()
        gc.collect()
        until = monotonic() + 20
        while stale_paths(self.index):  # the adaptation worker removes them too
            assert monotonic() < until
            self.service.index("zoo").refresh()

    def check(self) -> None:
        """Compare the map with the live documents."""
        assert "<canvas" in self.client.get("/map").text
        response = self.client.get("/api/map/points")
        assert response.status_code == 200
        points = np.frombuffer(response.data, "<u2").reshape(-1, 2)
        drawn = np.flatnonzero((points < 0xFFFF).all(axis=1)).tolist()
        shown = [self.passage(response.headers["X-Generation"], row) for row in drawn]
        assert sorted(map(str, shown)) == sorted(self.live)
        for row in set(range(len(points))) - set(drawn):
            assert (points[row] == 0xFFFF).all()
            assert self.passage(response.headers["X-Generation"], row) is None
        results = self.client.get("/api/map/query?query=animal").get_json()["results"]
        assert {result["id"] for result in results} <= self.live
        assert all(0 <= value <= 1 for result in results for value in result["point"])
        assert bool(results) == bool(self.live)

    def passage(self, generation: str, row: int) -> str | None:
        """Id of the document of a point; None if there is no such point."""
        response = self.client.get(f"/api/map/passage?generation={generation}&row={row}")
        assert response.status_code in {200, 404}
        return str(response.get_json()["id"]) if response.status_code == 200 else None


@pytest.fixture
def server(animals: Path, tmp_path: Path, tiny_encoder: Encoder) -> Iterator[Server]:
    started = Server(shutil.copytree(animals, tmp_path / "zoo"), tiny_encoder)
    yield started
    started.close()


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_a_map_that_is_first_read_after_changes_has_exactly_the_live_documents(server: Server, sequence: str) -> None:
    for step in sequence.split("; "):
        server.do(step)
    server.check()


def test_a_map_that_is_read_between_changes_has_exactly_the_live_documents(server: Server) -> None:
    steps = ["add owl", "delete owl", "add many", "restart", "delete many cat", "compact", f"delete {' '.join(IDS)}"]
    for step in steps:
        server.check()
        server.do(step)
    server.check()


def test_an_index_without_a_map_says_so_after_any_changes(
    tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder
) -> None:
    source = write_jsonl(tmp_path / "animals.jsonl", ANIMALS)
    build_index(tmp_path / "zoo", source, model=tiny_model, map=False)
    server = Server(tmp_path / "zoo", tiny_encoder)
    for step in ("add owl", "delete owl", "compact"):
        server.do(step)
        assert not (current(tmp_path / "zoo") / "map.safetensors").exists()
        assert "has no map" in server.client.get("/map").text
        for route in ("/api/map/points", "/api/map/query?query=animal"):
            refused = server.client.get(route)
            assert (refused.status_code, "this index has no map" in refused.text) == (404, True)
    server.close()
