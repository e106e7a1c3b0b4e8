"""Why an index on disk cannot be changed, in words that a client may read. Does not depend on HTTP."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from semsearch.errors import IndexFolderError
from semsearch.storage.generations import is_index

StorageProblem: TypeAlias = Literal["missing", "read-only", "full", "other"]
EXPLANATIONS: Mapping[StorageProblem, str] = {
    "missing": "its folder has been moved or deleted",
    "read-only": "its folder cannot be written",
    "full": "its disk is full",
    "other": "the server's log says why",
}
MIN_FREE_BYTES = 1_000_000
"""Free space below which a disk counts as full."""

_ERRORS: Mapping[int, StorageProblem] = {
    errno.ENOENT: "missing",
    errno.ENOTDIR: "missing",
    errno.ESTALE: "missing",
    errno.EROFS: "read-only",
    errno.EACCES: "read-only",
    errno.EPERM: "read-only",
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
}
_SQLITE_ERRORS: Mapping[int, StorageProblem] = {sqlite3.SQLITE_FULL: "full", sqlite3.SQLITE_READONLY: "read-only"}


class IndexUnavailableError(Exception):
    """A change of an index that cannot be stored."""

    def __init__(self, index: str, problem: StorageProblem) -> None:
        super().__init__(
            f"the index {index!r} cannot be changed: {EXPLANATIONS[problem]}; nothing was stored, and searches go on"
        )
        self.problem = problem


def find_problem(folder: Path) -> StorageProblem | None:
    """Return why the index in `folder` cannot be changed now; None if nothing is in the way."""
    try:
        if not is_index(folder):
            return "missing"
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            return "read-only"
        return "full" if shutil.disk_usage(folder).free < MIN_FREE_BYTES else None
    except IndexFolderError as error:
        return problem_of(error)
    except OSError as error:
        return _ERRORS.get(error.errno or 0, "other")


def problem_of(error: BaseException, folder: Path | None = None) -> StorageProblem:
    """Return the problem that made a change fail, from the error and its causes, or else from the folder's state."""
    for cause in _with_causes(error):
        problem = None
        if isinstance(cause, OSError):
            problem = _ERRORS.get(cause.errno or 0)
        elif isinstance(cause, sqlite3.Error):
            problem = _SQLITE_ERRORS.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF)
        if problem is not None:
            return problem
    # some libraries report a failed write only in words
    return (find_problem(folder) if folder is not None else None) or "other"


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
