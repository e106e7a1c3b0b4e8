"""The token vectors of the passages of a segment, as codes in one file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from semsearch.encoders.token_vectors import TokenCodes, code_bytes
from semsearch.types import Rows

_START, _COUNT = np.dtype("<i8"), np.dtype("<u4")


class TokenStoreWriter:
    """Writes a new file, passages in any order. A context manager: at its end the file is complete, unless an error is
    raised. It is durable after an fsync."""

    def __init__(self, path: Path) -> None:
        """Create the file. Raises OSError if it cannot."""
        self._file = path.open("wb")
        self._places: dict[int, tuple[int, int]] = {}
        """Row → first token of the file, number of tokens."""
        self._tokens = 0

    def put(self, rows: Rows, codes: Sequence[TokenCodes]) -> None:
        """Add passages by their rows, (n,). codes: n. Raises OSError if they cannot be written."""
        for row, of_passage in zip(rows.tolist(), codes, strict=True):
            self._file.write(of_passage.tobytes())
            self._places[row] = self._tokens, len(of_passage)
            self._tokens += len(of_passage)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._complete()
        # what cannot be written of an unfinished file is of no use
        with suppress(OSError):
            self._file.close()

    def _complete(self) -> None:
        """Write where the passages are: those of all rows from 0 on."""
        places = [self._places[row] for row in range(len(self._places))]
        self._file.write(np.array([start for start, _ in places], _START).tobytes())
        self._file.write(np.array([count for _, count in places], _COUNT).tobytes())
        self._file.close()


class TokenStore:
    """The token vectors of a finished file."""

    def __init__(self, path: Path, passages: int, dimension: int) -> None:
        """Map the file into memory. Raises OSError if it cannot, ValueError if it does not fit.

        passages: their number, at least 1. dimension: of a token vector.
        """
        content = np.memmap(path, np.uint8, "r")
        width = code_bytes(dimension)
        split = len(content) - passages * (_START.itemsize + _COUNT.itemsize)
        if split < 0 or split % width:
            raise ValueError("its token vectors are of other passages")
        table = content[split:].tobytes()
        self._codes: TokenCodes = content[:split].reshape(split // width, width)
        self._starts: Rows = np.frombuffer(table, _START, passages).astype(np.int64)
        self._counts: Rows = np.frombuffer(table, _COUNT, offset=passages * _START.itemsize).astype(np.int64)
        if (
            self._counts.sum() != len(self._codes)
            or (self._starts < 0).any()
            or (self._starts + self._counts > len(self._codes)).any()
        ):
            raise ValueError("its token vectors are incomplete")

    def codes(self, rows: Rows) -> list[TokenCodes]:
        """Return the codes of n passages, (tokens, bytes) uint8 each."""
        places = zip(self._starts[rows].tolist(), self._counts[rows].tolist(), strict=True)
        return [self._codes[start : start + count] for start, count in places]
