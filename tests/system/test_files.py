"""Atomic writes: the complete file or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from semsearch.system.files import atomic_write


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_write(path) as unfinished:
        unfinished.write_text("old")
    with pytest.raises(OSError, match="full"), atomic_write(path) as unfinished:  # noqa: PT012 (both lines are the case)
        unfinished.write_text("ne")
        raise OSError("full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
