"""What runs a model: what gives torch's vectors, and of that the fastest; all else is refused and says why."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from semsearch.encoders import onnx_cache, onnx_export
from semsearch.encoders.encoder import Encoder
from semsearch.encoders.locate import ModelLocation, files_sha256, locate
from semsearch.encoders.onnx_cache import GRAPHS, is_cached, open_cached
from semsearch.encoders.runtime import Batch, RuntimeChoice
from semsearch.encoders.speed import SpeedRecord
from semsearch.encoders.torch_runtime import TorchRuntime
from semsearch.errors import EncoderError
from semsearch.types import Vectors

TEXTS = ["a short one", "a text of rather more words than the one before it", "", "Ünïcode 数据库 😀", "long " * 400]


@pytest.fixture(scope="module")
def by_torch() -> Encoder:
    return Encoder.open(device="cpu", runtime="torch")


@pytest.mark.parametrize(("runtime", "least"), [("onnx", 0.99999), ("onnx-int8", 0.95)])
def test_a_graph_gives_what_torch_gives(by_torch: Encoder, runtime: RuntimeChoice, least: float) -> None:
    graph = Encoder.open(device="cpu", runtime=runtime)
    assert (graph.runtime.name, by_torch.runtime.name) == (runtime, "torch")
    assert graph.weights_sha256 == by_torch.weights_sha256
    assert graph.configuration_sha256 == by_torch.configuration_sha256 is not None
    assert (graph.window, graph.dimension, graph.prompts) == (by_torch.window, by_torch.dimension, by_torch.prompts)
    for mine, its in (
        (graph.encode_queries(TEXTS), by_torch.encode_queries(TEXTS)),
        (graph.encode_all("document", TEXTS * 20), by_torch.encode_documents(TEXTS * 20)),
    ):
        assert (mine * its).sum(axis=1).min() > least


def test_tokens_have_the_same_shares(by_torch: Encoder) -> None:
    graph = Encoder.open(device="cpu", runtime="onnx")
    vector = by_torch.encode_queries(["words"])[0]
    for mine, its in zip(
        graph.token_attributions(TEXTS, vector) or (), by_torch.token_attributions(TEXTS, vector) or (), strict=True
    ):
        assert [place[:2] for place in mine] == [place[:2] for place in its]
        np.testing.assert_allclose([place[2] for place in mine], [place[2] for place in its], atol=1e-5)


def test_a_prepared_model_opens_without_torch() -> None:
    Encoder.open(device="cpu", runtime="onnx")
    code = (
        "import sys; from semsearch.encoders.encoder import Encoder; Encoder.open(device='cpu', runtime='onnx');"
        " print({'torch', 'sentence_transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_build_with_onnx_runtime_imports_no_torch(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from semsearch.encoders.encoder import Encoder
from semsearch.ingest.building import build
from semsearch.ingest.recipe import Recipe
from semsearch.types import Document
encoder = Encoder.open(device="cpu", runtime="onnx")
documents = [Document(str(number), "", f"number {number}", "here") for number in range(60)]
recipe = Recipe.model_validate({"sources": [{"path": "unused"}]})
assert list(build(recipe, Path(sys.argv[1]), records=documents, encoder=encoder))
print({"torch", "sentence_transformers"} & set(sys.modules))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "index")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_releasing_memory_returns_the_buffers_of_batches_and_changes_no_vector() -> None:
    encoder = Encoder.open(device="cpu", runtime="onnx", document_tokens=16_384)
    before = encoder.encode_documents(TEXTS)
    # 16 texts of 256 tokens: their attention alone has 12 × 16 × 256 × 256 values of 4 bytes, 48 MiB
    encoder.encode_documents(["long " * 400] * 16)
    full = resident_mib()
    encoder.release_memory()
    assert full - resident_mib() > 48
    assert np.array_equal(encoder.encode_documents(TEXTS), before)


def test_a_model_that_is_no_transformer_stays_with_torch(tiny_encoder: Encoder, tiny_model: Path) -> None:
    assert (tiny_encoder.runtime.name, tiny_encoder.workers) == ("torch", 1)
    assert "not a transformer" in tiny_encoder.runtime.reason
    with pytest.raises(EncoderError, match=r"cannot be run by onnx .*use runtime 'auto'"):
        Encoder.open(str(tiny_model), device="cpu", runtime="onnx")


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default model's folder among prepared ones, to be damaged."""
    Encoder.open(device="cpu", runtime="onnx")
    shutil.copytree(onnx_cache.cache_root(), tmp_path / "semsearch" / "encoders")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = locate("all-MiniLM-L6-v2").folder
    assert folder is not None
    return onnx_cache.cache_root() / onnx_cache._key(folder)


def test_whether_a_model_is_cached(copied: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_cached(locate("all-MiniLM-L6-v2"))
    shutil.rmtree(copied)
    assert not is_cached(locate("all-MiniLM-L6-v2"))
    # torch runs these, so there is nothing to wait for
    assert is_cached(ModelLocation(str(tiny_model)))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert is_cached(locate("all-MiniLM-L6-v2"))


def test_a_damaged_graph_is_not_run(copied: Path) -> None:
    graph = copied / GRAPHS["onnx"]
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    found, why = open_cached(locate("all-MiniLM-L6-v2"), "onnx", threads=1)
    assert found is None
    assert why == f"{graph} is damaged: remove {copied}"


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe"])
def test_a_damaged_tokenizer_is_not_used(copied: Path, content: bytes) -> None:
    (copied / "tokenizer.json").write_bytes(content)
    found, why = open_cached(locate("all-MiniLM-L6-v2"), "onnx", threads=1)
    assert found is None
    assert f"{copied / 'tokenizer.json'} is damaged" in why
    assert why.endswith(f"remove {copied}")


def without_onnx(path: Path, field: str) -> None:
    values = json.loads(path.read_bytes())
    del values[field]["onnx"]
    path.write_text(json.dumps(values))


def test_a_record_without_the_runtime_is_measured_again_or_named(copied: Path) -> None:
    [measured] = copied.glob("measured-*.json")
    without_onnx(measured, "speeds")
    found, _ = open_cached(locate("all-MiniLM-L6-v2"), "onnx", threads=1)
    assert found is not None
    without_onnx(copied / "about.json", "sha256")
    found, why = open_cached(locate("all-MiniLM-L6-v2"), "onnx", threads=1)
    assert found is None
    assert why == f"{copied} is damaged: remove it"


def test_what_was_measured_elsewhere_is_measured_here(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that several machines share holds one graph, and what each of them gains."""
    before = (copied / GRAPHS["onnx"]).stat().st_mtime_ns
    [measured] = copied.glob("measured-*.json")
    measured.rename(copied / "measured-elsewhere.json")
    assert Encoder.open(device="cpu").runtime.name in {"onnx", "torch"}
    assert (copied / GRAPHS["onnx"]).stat().st_mtime_ns == before
    assert measured.is_file()


def test_where_nothing_can_be_kept_torch_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    encoder = Encoder.open(device="cpu")
    assert encoder.runtime.name == "torch"
    assert "could not be prepared" in encoder.runtime.reason


def test_without_onnxruntime_torch_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    found, why = open_cached(locate("all-MiniLM-L6-v2"), "auto", threads=1)
    assert found is None
    assert why.startswith("onnxruntime is not installed: ")
    assert " -m pip install " in why


class Shifted:
    """Gives nearly what torch gives."""

    def __init__(self, model: TorchRuntime, by: float) -> None:
        self.model, self.by = model, by
        self.facts = model.info

    def vectors(self, batch: Batch) -> Vectors:
        return self.model.vectors(batch) + np.float32(self.by)

    def tokens(self, batch: Batch) -> list[Vectors]:
        return self.model.tokens(batch)


@pytest.mark.parametrize(("by", "trusted"), [(0.0, True), (0.005, False), (float("nan"), False)])
def test_other_vectors_are_not_trusted(by_torch: Encoder, by: float, trusted: bool) -> None:
    assert isinstance(by_torch.runtime, TorchRuntime)
    found = onnx_export._compare(by_torch.runtime, Shifted(by_torch.runtime, by))  # type: ignore[arg-type]
    assert all(np.array(found) >= onnx_export.MIN_COSINE["onnx"]) is trusted


def test_a_measurement_that_is_not_current_is_repeated_without_another_export(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [path] = copied.glob("measured-*.json")
    graph = (copied / GRAPHS["onnx"]).stat().st_mtime_ns
    first = SpeedRecord.model_validate_json(path.read_bytes())
    old = SpeedRecord(machine=first.machine, speeds=first.speeds)  # as an earlier version wrote it
    path.write_text(old.model_dump_json(include={"machine", "speeds"}))
    encoder = Encoder.open(device="cpu")
    measured = SpeedRecord.model_validate_json(path.read_bytes())
    assert (measured.cores, dict(measured.versions)) == (first.cores, dict(first.versions))
    assert measured.measured_at > first.measured_at
    assert (copied / GRAPHS["onnx"]).stat().st_mtime_ns == graph
    assert (encoder.runtime.name, encoder.runtime.reason) == (measured.best(exact=True), measured.reason(exact=True))
    # a current one is kept, and so is any that decides nothing or cannot be replaced
    monkeypatch.setattr(onnx_cache, "_export", lambda *_: pytest.fail("measured again"))
    open_cached(locate("all-MiniLM-L6-v2"), "auto", threads=1)
    path.write_text(old.model_dump_json(include={"machine", "speeds"}))
    assert open_cached(locate("all-MiniLM-L6-v2"), "onnx", threads=1)[1] == "it was asked for"

    def fails(*_: object) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(onnx_cache, "_export", fails)
    assert open_cached(locate("all-MiniLM-L6-v2"), "auto", threads=1)[1] == old.reason(exact=True)


def test_models_are_told_apart_by_what_they_are_loaded_from(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    first = files_sha256(tmp_path)
    for name in ("README.md", "pytorch_model.bin", "model.onnx"):
        (tmp_path / name).write_bytes(b"idle")
    assert files_sha256(tmp_path) == first
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert files_sha256(tmp_path) != first
    assert ModelLocation(str(tmp_path)).folder == tmp_path
    assert ModelLocation("no/such-model").folder is None
