"""Fixtures of the server tests: a writable index and clients of a server that serves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from semsearch.encoders.encoder import Encoder
from semsearch.search.engine import SearchEngine
from semsearch.server.app import create_app
from semsearch.server.runtime.service import AdaptationSettings
from semsearch.server.schemas.search import Limits
from semsearch.server.security import WriteKeys
from tests.conftest import ANIMALS, build_index, write_jsonl

Serve = Callable[..., FlaskClient]


@pytest.fixture
def index(tmp_path: Path, tiny_model: Path) -> Path:
    """A writable index of ANIMALS."""
    build_index(tmp_path / "zoo", write_jsonl(tmp_path / "animals.jsonl", ANIMALS), model=tiny_model)
    return tmp_path / "zoo"


@pytest.fixture
def serve(index: Path, tiny_encoder: Encoder) -> Iterator[Serve]:
    """A function that serves the index, each time as after a restart of the server."""
    opened: list[Callable[[], None]] = []

    def start(*, keys: WriteKeys | None = None, after: int = 0, limits: Limits | None = None) -> FlaskClient:
        for close in opened:
            close()
        engine = SearchEngine.open(index, encoder=tiny_encoder)
        app = create_app({"zoo": engine}, keys=keys, adaptation=AdaptationSettings(after=after), limits=limits)
        opened[:] = [app.extensions["semsearch"].close, engine.close]
        return app.test_client()

    yield start
    for close in opened:
        close()


@pytest.fixture
def client(serve: Serve) -> FlaskClient:
    return serve()


@pytest.fixture(scope="module")
def shared_client(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_encoder: Encoder
) -> Iterator[FlaskClient]:
    """A client of one server for all tests of a module: for requests that leave no trace which another test can see."""
    folder = tmp_path_factory.mktemp("shared")
    build_index(folder / "zoo", write_jsonl(folder / "animals.jsonl", ANIMALS), model=tiny_model)
    engine = SearchEngine.open(folder / "zoo", encoder=tiny_encoder)
    app = create_app({"zoo": engine}, adaptation=AdaptationSettings(after=0))
    yield app.test_client()
    app.extensions["semsearch"].close()
    engine.close()
