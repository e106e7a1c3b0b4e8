"""Neighbouring words of passages: the share that each passage has, and files that are damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semsearch.storage.word_pairs import WordPairs, WordPairsWriter
from semsearch.text.tokens import WordPair

PASSAGES: list[list[WordPair]] = [
    [("red", "chair"), ("chair", "leg")],
    [],
    [("leg", "chair")],
    [("red", "chair"), ("red", "chair"), ("blue", "table")],
    [],
]


def written(path: Path, passages: list[list[WordPair]]) -> Path:
    writer = WordPairsWriter(path)
    for pairs in passages:
        writer.add(pairs)
    writer.close()
    return path


@pytest.mark.parametrize(
    ("pairs", "shares"),
    [
        ([("red", "chair")], [1, 0, 0, 1, 0]),
        ([("red", "chair"), ("chair", "leg")], [1, 0, 0, 0.5, 0]),
        ([("chair", "leg"), ("chair", "leg")], [1, 0, 0, 0, 0]),
        ([("no", "such")], [0, 0, 0, 0, 0]),
    ],
)
@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [4, 3, 0], [1], [3, 3], []])
def test_shares_of_pairs(tmp_path: Path, pairs: list[WordPair], shares: list[float], rows: list[int]) -> None:
    opened = WordPairs(written(tmp_path / "pairs", PASSAGES), len(PASSAGES))
    assert opened.shares(np.array(rows, np.int64), pairs).tolist() == [shares[row] for row in rows]


@pytest.mark.parametrize("passages", [[[]], [[], []]])
def test_passages_without_pairs(tmp_path: Path, passages: list[list[WordPair]]) -> None:
    opened = WordPairs(written(tmp_path / "pairs", passages), len(passages))
    rows = np.arange(len(passages))
    assert opened.shares(rows, [("a", "b")]).tolist() == [0.0] * len(passages)


@pytest.mark.parametrize("passages", [4, 6, 500])
def test_a_file_of_another_number_of_passages_is_refused(tmp_path: Path, passages: int) -> None:
    path = written(tmp_path / "pairs", PASSAGES)
    with pytest.raises(ValueError, match="word pairs"):
        WordPairs(path, passages)


@pytest.mark.parametrize("length", [0, 1, 2, 21, 27])
def test_a_cut_file_is_refused(tmp_path: Path, length: int) -> None:
    path = written(tmp_path / "pairs", PASSAGES)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"word pairs|empty file"):
        WordPairs(path, len(PASSAGES))
