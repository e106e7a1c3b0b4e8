"""Near-duplicates: what is nearly the same as an earlier text, and what only looks so from afar."""

from __future__ import annotations

import numpy as np

from semsearch.text.duplicates import collapse_duplicates

LICENCE = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated"


def test_what_is_nearly_the_same_belongs_to_the_first_of_its_kind() -> None:
    texts = [LICENCE, "Something else entirely.", f"{LICENCE} files", LICENCE.upper(), "Short", "Short", "Other"]
    same = np.ones((len(texts), 2), np.float32) / np.float32(np.sqrt(2))
    assert collapse_duplicates(same, texts.__getitem__) == [0, 1, 0, 0, 4, 4, 6]


def test_texts_that_are_not_near_are_not_looked_at() -> None:
    apart = np.eye(3, dtype=np.float32)

    def never(_: int) -> str:
        raise AssertionError

    assert collapse_duplicates(apart, never) == [0, 1, 2]


def test_what_is_like_a_folded_one_must_be_like_its_leader() -> None:
    words = [f"w{n}" for n in range(40)]
    # each shares four fifths with the one before, and less with the first
    texts = [" ".join(words[shift : shift + 30]) for shift in (0, 3, 6)]
    same = np.ones((3, 1), np.float32)
    assert collapse_duplicates(same, texts.__getitem__) == [0, 0, 2]
