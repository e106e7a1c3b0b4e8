"""Encoded passages of an unfinished build, by their text, so that an interrupted build can be resumed.

One SQLite file in the index's folder. It exists while a build encodes, and is removed when a generation is published.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

import numpy as np

from semsearch.encoders.encoder import EncodedPassages
from semsearch.encoders.token_vectors import TokenCodes, code_bytes
from semsearch.types import Mask

FILE = "unfinished.sqlite"
COMMIT_EVERY_S = 2.0
"""Seconds of encoding that are lost at most if the process is killed."""


class EmbeddingCheckpoint:
    """Stores vectors, and token vectors if they are wanted, by their texts. Only one thread may use it."""

    def __init__(
        self, folder: Path, *, about: str, dimension: int, with_tokens: bool = False, fresh: bool = False
    ) -> None:
        """Open the checkpoint in an index's folder, or create it.

        about: what a vector depends on besides its text; a checkpoint with another value is discarded, and so is a
        damaged one. dimension: length of a vector. with_tokens: whether a passage is only known with its token
        vectors. fresh: discard any checkpoint.

        Raises OSError if the file cannot be written.
        """
        self._folder = folder
        self._dimension = dimension
        self.with_tokens = with_tokens
        """Whether a passage is only known with its token vectors; it may be changed at any time."""
        self._committed = monotonic()
        if fresh:
            remove_checkpoint(folder)
        try:
            self._connection = _connect(folder, about)
        except sqlite3.Error:
            remove_checkpoint(folder)
            try:
                self._connection = _connect(folder, about)
            except sqlite3.Error as error:
                raise OSError(f"{FILE} could not be written ({error})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        empty = False
        with suppress(sqlite3.Error):
            self._connection.commit()
            empty = not self.filled
        self._connection.close()
        if empty:
            remove_checkpoint(self._folder)

    def commit(self) -> None:
        """Write what was added, so that other processes may write. Raises OSError if it cannot be written."""
        try:
            self._connection.commit()
        except sqlite3.Error as error:
            raise OSError(f"{FILE} could not be written ({error})") from error

    @property
    def filled(self) -> bool:
        """Whether it holds any vectors."""
        return self._connection.execute("SELECT 1 FROM vectors LIMIT 1").fetchone() is not None

    def missing(self, texts: Sequence[str]) -> list[str]:
        """Return those of the texts that it does not hold, or not with the token vectors that are wanted."""
        return [text for text in texts if self._find(text) is None]

    def lookup(self, texts: Sequence[str]) -> tuple[EncodedPassages, Mask]:
        """Return n passages, and whether each is known, (n,); unknown ones have undefined values."""
        vectors, known = np.empty((len(texts), self._dimension), np.float32), np.zeros(len(texts), bool)
        tokens: list[TokenCodes] = [np.empty((0, code_bytes(self._dimension)), np.uint8)] * len(texts)
        for index, text in enumerate(texts):
            found = self._find(text)
            if found is None:
                continue
            vector, codes = found
            vectors[index], known[index] = np.frombuffer(vector, np.float32), True
            if codes is not None:
                tokens[index] = np.frombuffer(codes, np.uint8).reshape(-1, code_bytes(self._dimension))
        return EncodedPassages(vectors, tokens if self.with_tokens else None), known

    def add(self, texts: Sequence[str], encoded: EncodedPassages) -> None:
        """Add n texts as they were encoded. Raises OSError if the file cannot be written."""
        tokens = [None] * len(texts) if encoded.tokens is None else [codes.tobytes() for codes in encoded.tokens]
        rows = [
            (_key(text), vector.tobytes(), codes)
            for text, vector, codes in zip(texts, encoded.vectors, tokens, strict=True)
        ]
        try:
            self._connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
            if monotonic() - self._committed > COMMIT_EVERY_S:
                self._connection.commit()
                self._committed = monotonic()
        except sqlite3.Error as error:
            raise OSError(f"{FILE} could not be written ({error})") from error

    def _find(self, text: str) -> tuple[bytes, bytes | None] | None:
        query = "SELECT vector, tokens FROM vectors WHERE key = ?"
        row: tuple[bytes, bytes | None] | None = self._connection.execute(query, (_key(text),)).fetchone()
        return None if row is not None and row[1] is None and self.with_tokens else row


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoint in an index's folder, if there is one."""
    for path in folder.glob(f"{FILE}*"):
        path.unlink(missing_ok=True)


def _connect(folder: Path, about: str) -> sqlite3.Connection:
    connection = sqlite3.connect(folder / FILE)
    try:
        # in WAL mode, committed vectors survive a kill at any time
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("CREATE TABLE IF NOT EXISTS about (what TEXT PRIMARY KEY)")
        if connection.execute("SELECT what FROM about").fetchall() != [(about,)]:
            # that of another version has other columns
            connection.execute("DROP TABLE IF EXISTS vectors")
            connection.execute(
                "CREATE TABLE vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL, tokens BLOB) WITHOUT ROWID"
            )
            connection.execute("DELETE FROM about")
            connection.execute("INSERT INTO about VALUES (?)", (about,))
        connection.commit()
    except BaseException:
        connection.close()
        raise
    return connection


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
