"""A served index whose folder is moved, deleted, read-only or full refuses changes, answers searches, and recovers."""

from __future__ import annotations

import errno
import gc
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from structlog.testing import capture_logs

from semsearch.encoders.encoder import Encoder
from semsearch.search.engine import SearchEngine
from semsearch.server.app import create_app
from semsearch.server.runtime import storage_problem
from semsearch.server.runtime.served_index import ServedIndex
from semsearch.server.runtime.service import AdaptationSettings, SearchService
from semsearch.storage.checking import check
from semsearch.storage.generations import current, republish, stale_paths
from tests.conftest import ANIMALS, build_index, write_jsonl

OWL = {"id": "owl", "title": "Owl", "text": "A bird that hunts mice at night."}
LABEL = {"query": "honey", "document": "bee", "domain": "team"}
Fault = Callable[[Path, pytest.MonkeyPatch], object]

WRITES: dict[str, Callable[[FlaskClient], int]] = {
    "add": lambda client: client.put("/api/documents", json={"documents": [OWL]}).status_code,
    "delete": lambda client: client.delete("/api/documents?id=cat").status_code,
    "label": lambda client: client.post("/api/labels", json=LABEL).status_code,
    "click": lambda client: client.post("/api/clicks", json={**LABEL, "position": 1}).status_code,
    "retract": lambda client: client.delete("/api/labels?document=bee").status_code,
    "reset": lambda client: client.post("/api/domains/team/reset", json={}).status_code,
    "parent": lambda client: client.post("/api/domains/team/parent", json={"parent": "all"}).status_code,
    "adapt": lambda client: client.post("/api/domains/team/adapt", json={}).status_code,
}


@pytest.fixture
def zoo(animals: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(animals, tmp_path / "zoo"))


@contextmanager
def serving(folder: Path, encoder: Encoder) -> Iterator[FlaskClient]:
    """A client of a server that alone decides which generations are in use."""
    app = create_app(
        {"zoo": SearchEngine.open(folder, encoder=encoder, threads=1)}, adaptation=AdaptationSettings(after=0)
    )
    service: SearchService = app.extensions["semsearch"]
    yield app.test_client()
    service.close()
    service.index("zoo").engine.close()


@pytest.fixture
def client(zoo: Path, tiny_encoder: Encoder) -> Iterator[FlaskClient]:
    with serving(zoo, tiny_encoder) as started:
        assert started.post("/api/labels", json=LABEL).status_code == 201
        assert started.post("/api/domains/team/adapt", json={}).status_code == 200
        # a label that the next adaptation has to store
        assert (
            started.post("/api/labels", json={**LABEL, "query": "a swimmer", "document": "salmon"}).status_code == 201
        )
        yield started


def index_of(client: FlaskClient) -> ServedIndex:
    service: SearchService = client.application.extensions["semsearch"]
    return service.index("zoo")


def search(client: FlaskClient, query: str, domain: str = "default") -> list[str]:
    answer = client.post("/api/search", json={"query": query, "domain": domain, "k": 20}).get_json()
    return [hit["id"] for hit in answer["results"][0]["hits"]]


def moved(zoo: Path, _patch: pytest.MonkeyPatch) -> None:
    zoo.rename(zoo.with_name("elsewhere"))


def deleted(zoo: Path, _patch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(zoo)


def read_only(_zoo: Path, patch: pytest.MonkeyPatch) -> None:
    # the tests may run as root, which may write everywhere
    patch.setattr(os, "access", lambda _path, mode: not mode & os.W_OK)
    _fail_writes(patch, errno.EROFS)


def full(_zoo: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(storage_problem, "MIN_FREE_BYTES", 2**70)
    _fail_writes(patch, errno.ENOSPC)


def _fail_writes(patch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number))

    for name in ("generations.tempfile.mkdtemp", "labels.LabelLog._writing", "domains.atomic_write"):
        patch.setattr(f"semsearch.storage.{name}", fail)


@pytest.mark.parametrize(
    ("fault", "status", "why"),
    [
        (moved, 503, "its folder has been moved or deleted"),
        (deleted, 503, "its folder has been moved or deleted"),
        (read_only, 503, "its folder cannot be written"),
        (full, 507, "its disk is full"),
    ],
)
def test_changes_are_refused_with_the_reason_and_searches_go_on(
    client: FlaskClient, zoo: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault, status: int, why: str
) -> None:
    before = search(client, "honey"), search(client, "honey", "team"), client.get("/api/map/points").data
    with monkeypatch.context() as patch:
        fault(zoo, patch)
        for name, write in WRITES.items():
            assert write(client) == status, name
        refused = client.put("/api/documents", json={"documents": [OWL]})
        assert (refused.mimetype, refused.headers["Retry-After"]) == ("application/problem+json", "30")
        assert why in refused.get_json()["detail"]
        assert str(zoo.parent) not in refused.text
        index_of(client).refresh()
        assert (search(client, "honey"), search(client, "honey", "team"), client.get("/api/map/points").data) == before
        ready = client.get("/readyz")
        assert (ready.status_code, ready.text) == (200, f"ready\nthe index 'zoo' cannot be changed: {why}\n")
        assert "cannot be changed" in client.get("/status").text
        assert 'semsearch_index_problem{index="zoo"} 1.0' in client.get("/metrics").text
        assert client.get("/?query=honey").status_code == 200
        assert not zoo.exists() or fault in {read_only, full}
    if fault is moved:
        zoo.with_name("elsewhere").rename(zoo)
    if fault is deleted:
        return
    index_of(client).refresh()
    assert client.get("/readyz").text == "ready\n"
    assert "cannot be changed" not in client.get("/status").text
    assert 'semsearch_index_problem{index="zoo"} 0.0' in client.get("/metrics").text
    assert search(client, "honey", "team") == before[1]
    for name, write in WRITES.items():
        assert write(client) in {200, 201}, name
    assert "owl" in search(client, "hunts mice")
    assert check(zoo).problems == ()


def test_an_index_that_was_built_again_in_place_of_a_deleted_one_is_served(
    client: FlaskClient, zoo: Path, tiny_model: Path
) -> None:
    """Its generation has the same name as the former one."""
    shutil.rmtree(zoo)
    index_of(client).refresh()
    build_index(zoo, write_jsonl(zoo.with_suffix(".jsonl"), [*ANIMALS, OWL]), model=tiny_model)
    index_of(client).refresh()
    assert client.get("/readyz").text == "ready\n"
    assert set(search(client, "animal")) == {"owl", *(animal["id"] for animal in ANIMALS)}
    assert client.post("/api/labels", json=LABEL).status_code == 201
    assert [label["document"] for label in client.get("/api/labels").get_json()["labels"]] == ["bee"]
    assert (zoo / "labels.sqlite").stat().st_nlink == 1


def test_a_label_is_never_stored_in_a_deleted_file(client: FlaskClient, zoo: Path) -> None:
    shutil.rmtree(zoo)
    assert client.post("/api/labels", json=LABEL).status_code == 503
    assert not zoo.exists()


def test_a_damaged_generation_is_not_served_and_reported(client: FlaskClient, zoo: Path) -> None:
    (zoo / "current").write_text("g-000099\n")
    index_of(client).refresh()
    assert "cannot be changed: the server's log says why" in client.get("/readyz").text
    assert search(client, "honey")
    (zoo / "current").write_text("g-000001\n")
    index_of(client).refresh()
    assert client.get("/readyz").text == "ready\n"


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_many_changes_leave_no_open_files_and_no_stale_files(zoo: Path, tiny_encoder: Encoder) -> None:
    with serving(zoo, tiny_encoder) as client:

        def change(number: int) -> None:
            document = {"id": f"d{number % 5}", "text": f"number {number} of many"}
            assert client.put("/api/documents", json={"documents": [document]}).status_code == 200
            if number % 3 == 0:
                client.delete(f"/api/documents?id=d{number % 5}")
            assert client.get("/api/map/points").status_code == 200

        for number in range(5):
            change(number)
        gc.collect()
        before = open_files()
        for number in range(100):
            change(number)
        gc.collect()
        index_of(client).refresh()
        while stale_paths(zoo):
            index_of(client).refresh()
        assert open_files() <= before + 20
        assert len(list(zoo.glob("g-*"))) == 1
        segments = len(index_of(client).engine.corpus.segments)
        assert segments <= 4


def test_a_request_reads_its_generation_to_the_end_though_newer_ones_replace_it(
    zoo: Path, tiny_encoder: Encoder
) -> None:
    with serving(zoo, tiny_encoder) as client:
        engine = index_of(client).engine
        for number in range(3):
            client.put("/api/documents", json={"documents": [{**OWL, "id": f"owl {number}"}]})
            index_of(client).refresh()
        assert (zoo / engine.generation).is_dir()
        points = engine.corpus.map_points()
        assert points is not None
        assert len(points) == len(engine.corpus.all_doc_ids()) == len(ANIMALS)
        generation = zoo / engine.generation
        del engine
        gc.collect()
        index_of(client).refresh()
        assert not generation.exists()


def test_an_unreadable_manifest_is_logged_once_and_the_state_before_is_served(client: FlaskClient, zoo: Path) -> None:
    republish(zoo, lambda manifest: manifest)
    manifest = current(zoo) / "manifest.json"
    content = manifest.read_bytes()
    manifest.unlink()
    manifest.mkdir()
    with capture_logs() as logs:
        for _ in range(3):
            index_of(client).refresh()
    errors = [entry for entry in logs if entry["log_level"] == "error"]
    assert [entry["event"] for entry in errors] == ["an index cannot be opened; its previous state is served"]
    assert index_of(client).problem == "other"
    assert client.get("/api/search?query=honey").status_code == 200
    manifest.rmdir()
    manifest.write_bytes(content)
    index_of(client).refresh()
    assert index_of(client).problem is None


def test_the_status_page_names_an_index_whose_labels_are_damaged(client: FlaskClient, zoo: Path) -> None:
    index_of(client).domains.close()
    for name in ("labels.sqlite-wal", "labels.sqlite-shm"):
        (zoo / name).unlink(missing_ok=True)
    (zoo / "labels.sqlite").write_bytes(b"this is no database" * 100)
    page = client.get("/status")
    assert (page.status_code, "cannot be changed" in page.text) == (200, True)
