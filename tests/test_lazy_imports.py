"""What takes seconds to import is imported only where it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from semsearch.encoders.encoder import Encoder
from tests.conftest import build_index, write_jsonl

HEAVY = ("torch", "sentence_transformers", "transformers", "onnxruntime", "faiss", "numpy")

_REPORT = """
import json, sys
try:
    {code}
finally:
    sys.stderr.write("\\n" + json.dumps([name for name in {heavy!r} if name in sys.modules]))
"""
_COMMAND = "sys.argv = ['semsearch', *{words!r}]; from semsearch.cli.main import main; main()"


@pytest.fixture(scope="module")
def fruit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index by the model that is shipped as the default, prepared for ONNX Runtime."""
    folder = tmp_path_factory.mktemp("fruit")
    source = write_jsonl(
        folder / "fruit.jsonl", [{"id": "pear", "text": "a green pear"}, {"id": "fig", "text": "figs"}]
    )
    build_index(folder / "fruit", source, model="all-MiniLM-L6-v2", title="Fruit", description="")
    Encoder.open(device="cpu", runtime="onnx")
    return folder / "fruit"


def imported(code: str) -> set[str]:
    """Which of HEAVY a fresh interpreter imports to run some code."""
    done = subprocess.run(
        [sys.executable, "-c", _REPORT.format(code=code, heavy=HEAVY)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import semsearch", set()),
        ("import semsearch; semsearch.Query('x'); semsearch.parse_filter('a = 1')", {"numpy"}),
        ("import semsearch.cli.main", {"numpy"}),
        ("import semsearch.api", {"numpy", "faiss"}),
        ("import semsearch.server.run", {"numpy", "faiss"}),
    ],
)
def test_imports_of_a_module(code: str, allowed: set[str]) -> None:
    assert imported(code) <= allowed


def test_keyword_search_loads_no_encoder(fruit: Path) -> None:
    words = ["search", "pear", "--index", str(fruit), "--mode", "keyword", "--json"]
    assert imported(_COMMAND.format(words=words)) <= {"numpy", "faiss"}


@pytest.mark.parametrize("mode", ["semantic", "hybrid"])
def test_other_search_needs_onnx_runtime_but_not_torch(fruit: Path, mode: str) -> None:
    words = ["search", "pear", "--index", str(fruit), "--mode", mode, "--device", "cpu"]
    assert not imported(_COMMAND.format(words=words)) & {"torch", "sentence_transformers", "transformers"}
