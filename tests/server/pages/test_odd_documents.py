"""Documents with ids, titles and metadata of any kind: every page and route that shows one answers."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import JsonValue

from semsearch import Index
from semsearch.encoders.encoder import Encoder
from semsearch.search.engine import SearchEngine
from semsearch.server.app import create_app
from semsearch.server.runtime.service import AdaptationSettings
from semsearch.server.schemas.search import MAX_METADATA_DEPTH, limit_depth
from semsearch.storage.generations import current
from semsearch.system.files import sha256


def nested(depth: int, *, as_list: bool = False) -> JsonValue:
    value: JsonValue = "end"
    for _ in range(depth):
        value = [value] if as_list else {"a": value}
    return value


ODD: Mapping[str, Mapping[str, Any]] = {
    "a/b/../c": {"": 1, "a.b": 2, " ": 3, "and": "x", 'q"uote': "y", "\n": "z"},
    "..": {"kind": None, "list": [None, [], {}], "nested": {"a": {"b": [1, {"c": 2}]}}},
    "100%": {"url": "javascript:x", "author": 5},
    "%2F%00": {"url": "http://[", "title": "t", "id": "other", "source": "s"},
    "line\nbreak\ttab\r.": {"huge": "x" * 100_000},
    "?a=1&b=#frag+plus": {f"field {number}": number for number in range(2_000)},
    "a  b": {"big": 10**40, "neg": -1e308, "small": 5e-324, "bool": True},
    "é\u202e\U0001f600": {"\u202e": "\u2028"},
    "x" * 1_000: {"y" * 5_000: "z"},
    "<script>": {"<b>": "</script>"},
    "//evil.example": {"url": "//evil.example"},
    "150 deep": {"d": nested(150)},
    "150 lists": {"d": nested(150, as_list=True)},
}
DEEP = {"240 deep": ('{"a":', 240, "}"), "700 deep": ('{"a":', 700, "}"), "900 lists": ("[", 900, "]")}
"""Metadata that is written past the readers, as an earlier version may have done."""
IDS = [*ODD, *DEEP]


def write_metadata(index: Path) -> None:
    """Give the documents of DEEP their metadata, in the files of the index."""
    generation = current(index)
    manifest_path = generation / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    [name] = [name for name in manifest["files"] if name.endswith("documents.sqlite")]
    with closing(sqlite3.connect(generation / name)) as connection, connection:
        for doc_id, (opening, depth, closing_) in DEEP.items():
            metadata = f'{{"d": {opening * depth}"end"{closing_ * depth}}}'
            connection.execute("UPDATE documents SET metadata = ? WHERE id = ?", (metadata, doc_id))
    manifest["files"][name] = {"bytes": (generation / name).stat().st_size, "sha256": sha256(generation / name)}
    manifest_path.write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_encoder: Encoder) -> Iterator[FlaskClient]:
    folder = tmp_path_factory.mktemp("odd") / "odd"
    documents: list[dict[str, Any]] = [
        {"id": doc_id, "title": f"Honey {number}", "text": f"nectar and honey {number}", "metadata": metadata}
        for number, (doc_id, metadata) in enumerate(ODD.items())
    ]
    documents += [{"id": doc_id, "title": doc_id, "text": f"nectar and honey, {doc_id}"} for doc_id in DEEP]
    Index.build(folder, documents, encoder=str(tiny_model)).close()
    write_metadata(folder)
    engine = SearchEngine.open(folder, encoder=tiny_encoder)
    app = create_app({"odd": engine}, adaptation=AdaptationSettings(after=0))
    yield app.test_client()
    app.extensions["semsearch"].close()
    engine.close()


@pytest.mark.parametrize("doc_id", IDS, ids=range(len(IDS)))
def test_a_document_is_shown_by_every_route_and_page(client: FlaskClient, doc_id: str) -> None:
    one = json.dumps(doc_id)
    for path, parameters in (
        ("/api/document", {"id": doc_id}),
        ("/document", {"id": doc_id, "query": "honey"}),
        ("/explanation", {"id": doc_id, "query": "honey"}),
        ("/", {"query": "honey", "filter": f"id = {one}", "sort": "-d"}),
        ("/", {"query": "honey", "filter": f"id = {one}", "compare": "true"}),
        (
            "/api/search",
            {"query": "honey", "filter": f"id = {one}", "passages": "10", "explain": "true", "facets": "d"},
        ),
        ("/api/map/query", {"query": "honey", "filter": f"id = {one}"}),
    ):
        response = client.get(path, query_string=parameters)
        assert response.status_code == 200, (path, response.text[:300])
    assert client.get("/api/document", query_string={"id": doc_id}).get_json()["id"] == doc_id
    compared = client.post("/api/compare", json={"query": "honey", "filter": {"field": "id", "eq": doc_id[:200]}})
    assert compared.status_code == 200


def test_all_documents_together_are_shown(client: FlaskClient) -> None:
    answer = client.post("/api/search", json={"query": "nectar and honey", "k": 100, "collapse": True, "explain": True})
    assert answer.status_code == 200
    hits = answer.get_json()["results"][0]["hits"]
    assert {doc_id for hit in hits for doc_id in (hit["id"], *hit["duplicates"])} == set(IDS)
    generation = client.get("/api/map/points").headers["X-Generation"]
    for row in range(len(IDS)):
        passage = client.get("/api/map/passage", query_string={"generation": generation, "row": row})
        assert passage.status_code == 200
    for path in ("/map", "/status", "/learned", "/?query=honey", "/?query=honey&page=2"):
        page = client.get(path)
        assert page.status_code == 200
        for link in re.findall(r'class="open" data-panel href="([^"]+)"', page.text):
            assert client.get(unescape(link)).status_code == 200


def test_labels_and_recommendations_show_them(client: FlaskClient) -> None:
    for doc_id in IDS:
        assert client.post("/api/labels", json={"query": "honey", "document": doc_id}).status_code == 201
    for path in ("/learned", "/api/labels", "/api/recommend", "/api/domains/default"):
        assert client.get(path).status_code == 200
    for doc_id in IDS:
        response = client.delete("/api/labels", query_string={"document": doc_id})
        assert response.get_json()["retracted"] == {"default": 1}


def test_metadata_is_returned_as_it_is_down_to_a_depth(client: FlaskClient) -> None:
    for doc_id, metadata in ODD.items():
        returned = client.get("/api/document", query_string={"id": doc_id}).get_json()["metadata"]
        assert (returned == metadata) == (not doc_id.startswith("150"))
    for doc_id in ("150 deep", *DEEP):
        response = client.get("/api/document", query_string={"id": doc_id})
        assert "…" in response.text
        assert "end" not in response.text
    assert limit_depth(nested(MAX_METADATA_DEPTH)) == nested(MAX_METADATA_DEPTH)
    assert limit_depth([[[1]]], 2) == [["…"]]
