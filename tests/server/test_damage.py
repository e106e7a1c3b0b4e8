"""A served index with damaged files: no response names a path of the server, and none is a 500."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from semsearch.storage.fulltext import FullText
from tests.server.conftest import Serve

Damage = Callable[[Path], object]


def break_record(zoo: Path) -> None:
    (zoo / "domains" / "team" / "domain.json").write_text("{")


def break_state(zoo: Path) -> None:
    for state in (zoo / "domains" / "team").glob("*.safetensors"):
        state.write_bytes(state.read_bytes()[:-9])


def remove_states(zoo: Path) -> None:
    for state in (zoo / "domains" / "team").glob("*.safetensors"):
        state.unlink()


def break_kept_queries(zoo: Path) -> None:
    (zoo / "domains" / "team" / "queries.safetensors").write_bytes(b"nothing")


def change_encoder(zoo: Path) -> None:
    record = zoo / "domains" / "team" / "domain.json"
    record.write_text(re.sub(r'"encoder_sha256": "\w+"', '"encoder_sha256": "0"', record.read_text("utf-8")))


def break_labels(zoo: Path) -> None:
    for path in zoo.glob("labels.sqlite-*"):
        path.unlink()
    (zoo / "labels.sqlite").write_bytes(b"this is no database" * 100)


def change_version_of_labels(zoo: Path) -> None:
    with closing(sqlite3.connect(zoo / "labels.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 99")


def break_index(zoo: Path) -> None:
    (zoo / "current").write_text("g-000099\n")


def replace_by_a_file(zoo: Path) -> None:
    shutil.rmtree(zoo)
    zoo.write_text("")


DOMAIN_DAMAGES: list[Damage] = [break_record, break_state, remove_states, break_kept_queries, change_encoder]
LABEL_DAMAGES: list[Damage] = [break_labels, change_version_of_labels]
INDEX_DAMAGES: list[Damage] = [break_index, shutil.rmtree, replace_by_a_file]
BODIES: Mapping[str, Mapping[str, object]] = {
    "/api/search": {"query": "honey", "domain": "team", "explain": True},
    "/api/compare": {"query": "honey", "domain": "team"},
    "/api/documents": {"documents": [{"id": "owl", "text": "A bird that hunts at night."}]},
    "/api/labels": {"query": "honey", "document": "bee", "domain": "team"},
    "/api/clicks": {"query": "honey", "document": "bee", "position": 1, "domain": "team"},
    "/api/domains/team/parent": {"parent": "other"},
}
QUERY = {"id": "bee", "query": "honey", "generation": "g", "row": 0, "domain": "team"}
PAGES = ["/", "/learned", "/status", "/map", "/document", "/explanation", "/nothing"]


@pytest.fixture
def client(client: FlaskClient) -> FlaskClient:
    """A client of a server with an adapted domain."""
    assert client.post("/api/labels", json={**BODIES["/api/labels"], "document": "salmon"}).status_code == 201
    assert client.post("/api/domains/team/adapt").get_json()["adaptation"]["version"] == 1
    return client


def check_responses(client: FlaskClient, path: str) -> None:
    """Send a valid request to every route, and assert that it is answered as described, without a path."""
    openapi = client.get("/api/openapi.json").get_json()
    for template, operations in openapi["paths"].items():
        address = template.replace("{domain}", "team")
        if address == "/api/compact":
            continue  # it starts a process, which takes seconds
        for method, operation in operations.items():
            names = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"}
            query = {name: value for name, value in QUERY.items() if name in names}
            body = BODIES.get(address, {}) if method in {"post", "put"} else None
            response = client.open(address, method=method.upper(), query_string=query, json=body)
            assert path.encode() not in response.data, (method, address, response.data)
            assert str(response.status_code) in operation["responses"], (method, address, response.data)
            assert response.status_code != 500, (method, address)
    for page in PAGES:
        response = client.get(page, query_string=QUERY, headers={"Accept": "text/html"})
        assert path not in response.text, (page, response.text)
        assert response.status_code != 500, page


@pytest.mark.parametrize("damage", [*DOMAIN_DAMAGES, *LABEL_DAMAGES, *INDEX_DAMAGES])
def test_no_response_names_a_path_after_damage(index: Path, client: FlaskClient, damage: Damage) -> None:
    damage(index)
    check_responses(client, str(index.parent))


@pytest.mark.parametrize("damage", [*DOMAIN_DAMAGES, *LABEL_DAMAGES])
def test_no_response_names_a_path_after_damage_and_a_restart(
    index: Path, client: FlaskClient, serve: Serve, damage: Damage
) -> None:
    damage(index)
    check_responses(serve(), str(index.parent))


@pytest.mark.parametrize("mode", ["keyword", "hybrid"])
def test_full_text_that_turns_out_to_be_damaged_is_answered_with_503(
    index: Path, client: FlaskClient, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError(f"{index} is damaged")

    monkeypatch.setattr(FullText, "_search", fail)
    response = client.get("/api/search", query_string={"query": "honey", "mode": mode})
    assert response.status_code == 503
    assert "the index on disk is damaged" in response.get_json()["detail"]
    assert str(index) not in response.text
