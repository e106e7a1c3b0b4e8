"""Deleted documents: their rows, and how many of their passages contain each stem."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semsearch.errors import IndexFolderError
from semsearch.storage.deletions import Deletions, load_deletions, save_deletions
from semsearch.storage.fulltext import stems_of

WORDS = ["cat", "Cats", "mice", "os.path", "数据", "C++", "é", "the"]
passages = st.lists(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), max_size=5)


@given(batches=st.lists(passages, max_size=4))
def test_the_passages_with_each_stem_are_counted_over_all_deletions(batches: list[list[str]]) -> None:
    deleted, expected = Deletions(), Counter[str]()
    for row, texts in enumerate(batches):
        deleted = deleted.with_documents(np.array([row]), texts)
        for text in texts:
            expected.update({*stems_of(text)})
    assert deleted.rows.tolist() == list(range(len(batches)))
    for stem in {stem for word in WORDS for stem in stems_of(word)} | {"absent"}:
        assert deleted.frequency(stem) == expected[stem]


def test_deletions_are_stored_by_segment(tmp_path: Path) -> None:
    path = tmp_path / "deleted.safetensors"
    save_deletions(path, {})
    assert load_deletions(path) == {}
    assert not path.exists()
    deletions = {
        "s-000001": Deletions().with_documents(np.array([3, 1]), ["a cat", "cats and mice"]),
        "s-000002": Deletions().with_documents(np.array([0]), [""]),
    }
    save_deletions(path, deletions)
    loaded = load_deletions(path)
    assert {name: deleted.rows.tolist() for name, deleted in loaded.items()} == {"s-000001": [1, 3], "s-000002": [0]}
    assert [loaded["s-000001"].frequency(stem) for stem in ("cat", "mice", "dog")] == [2, 1, 0]
    path.write_bytes(b"damaged")
    with pytest.raises(IndexFolderError, match="cannot be read"):
        load_deletions(path)
