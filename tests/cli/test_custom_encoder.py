"""Commands on an index whose encoder is an object of a Python program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from semsearch import Index
from tests.conftest import ANIMALS, Command, write_jsonl


class Lengths:
    dimension = 2

    def encode_queries(self, texts: Sequence[str]) -> npt.ArrayLike:
        return np.array([[len(text), 1.0] for text in texts])

    encode_documents = encode_queries


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "cat", "-i", "INDEX", "--mode", "semantic"],
        ["update", "INDEX", "INPUT"],
        ["serve", "INDEX", "--port", "0"],
        ["adapt", "INDEX", "--domain", "team"],
        ["tune", "INDEX"],
        ["build", "INPUT", "--out", "OTHER", "--encoder", "custom:Lengths"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_command_names_the_encoder_object_and_the_remedy(
    arguments: list[str], tmp_path: Path, command: Command
) -> None:
    Index.build(tmp_path / "INDEX", ANIMALS, encoder=Lengths()).close()
    new = write_jsonl(tmp_path / "new.jsonl", [{"id": "new", "text": "Something new"}])
    paths = {"INDEX": tmp_path / "INDEX", "INPUT": new, "OTHER": tmp_path / "other"}
    done = command(*(paths.get(argument, argument) for argument in arguments))
    assert done.returncode == 1, done.stdout
    assert "'custom:Lengths' is an object that only a Python program can pass" in done.stderr
    assert "semsearch.Index.open(folder, encoder=…)" in done.stderr
