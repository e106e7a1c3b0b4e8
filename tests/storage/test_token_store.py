"""The file of token vectors: rows in any order, and files that do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semsearch.encoders.token_vectors import TokenCodes, code_bytes
from semsearch.storage.token_store import TokenStore, TokenStoreWriter

DIMENSION = 10
COUNTS = (3, 0, 7, 1)


def passages() -> list[TokenCodes]:
    rng = np.random.default_rng(0)
    return [rng.integers(256, size=(count, code_bytes(DIMENSION)), dtype=np.uint8) for count in COUNTS]


def written(path: Path, batches: tuple[tuple[int, ...], ...] = ((2, 0), (), (3, 1))) -> Path:
    codes = passages()
    with TokenStoreWriter(path) as writer:
        for rows in batches:
            writer.put(np.array(rows, np.int64), [codes[row] for row in rows])
    return path


@pytest.mark.parametrize("batches", [((0, 1, 2, 3),), ((3,), (2, 1), (0,)), ((2, 0), (), (3, 1))])
def test_passages_are_found_by_row_in_whatever_order_they_were_written(
    tmp_path: Path, batches: tuple[tuple[int, ...], ...]
) -> None:
    store, codes = TokenStore(written(tmp_path / "tokens", batches), len(COUNTS), DIMENSION), passages()
    for rows in ([], [1], [3, 0, 2], [2, 2, 1]):
        found = store.codes(np.array(rows, np.int64))
        assert [each.tolist() for each in found] == [codes[row].tolist() for row in rows]


def test_a_file_of_passages_without_any_token_is_read(tmp_path: Path) -> None:
    with TokenStoreWriter(tmp_path / "tokens") as writer:
        writer.put(np.arange(2), [np.empty((0, 3), np.uint8)] * 2)
    assert [len(codes) for codes in TokenStore(tmp_path / "tokens", 2, DIMENSION).codes(np.arange(2))] == [0, 0]


@pytest.mark.parametrize(
    ("content", "passage_count", "dimension"),
    [
        (lambda whole: whole, 3, DIMENSION),
        (lambda whole: whole, 5, DIMENSION),
        (lambda whole: whole, 400, DIMENSION),
        (lambda whole: whole, 4, 16),
        (lambda whole: whole[:-1], 4, DIMENSION),
        (lambda whole: whole[3:], 4, DIMENSION),
        (lambda whole: whole[:-1] + b"\xff", 4, DIMENSION),
        (lambda whole: whole[:33] + b"\xff" * 8 + whole[41:], 4, DIMENSION),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    tmp_path: Path, content: object, passage_count: int, dimension: int
) -> None:
    path = written(tmp_path / "tokens")
    assert callable(content)
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(ValueError, match="token vectors"):
        TokenStore(path, passage_count, dimension)


def test_after_an_error_the_file_is_not_completed(tmp_path: Path) -> None:
    writer = TokenStoreWriter(tmp_path / "tokens")
    writer.put(np.array([0]), [passages()[0]])
    writer.__exit__(KeyError, KeyError(), None)
    with pytest.raises(ValueError, match="token vectors"):
        TokenStore(tmp_path / "tokens", 1, DIMENSION)
