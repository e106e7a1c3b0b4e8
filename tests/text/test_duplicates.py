"""Near-duplicates: texts that repeat an earlier one, and texts that only have similar vectors."""

from __future__ import annotations

import numpy as np

from semsearch.text.duplicates import collapse_duplicates

LICENCE = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated"


def test_near_duplicates_are_assigned_to_the_first_of_them() -> None:
    texts = [LICENCE, "Something else entirely.", f"{LICENCE} files", LICENCE.upper(), "Short", "Short", "Other"]
    same = np.ones((len(texts), 2), np.float32) / np.float32(np.sqrt(2))
    assert collapse_duplicates(same, texts.__getitem__) == [0, 1, 0, 0, 4, 4, 6]


def test_texts_with_dissimilar_vectors_are_not_read() -> None:
    dissimilar = np.eye(3, dtype=np.float32)

    def never(_: int) -> str:
        raise AssertionError

    assert collapse_duplicates(dissimilar, never) == [0, 1, 2]


def test_a_text_similar_to_a_duplicate_must_be_similar_to_its_representative() -> None:
    words = [f"w{n}" for n in range(40)]
    # each is similar to the previous text, and less similar to the first
    texts = [" ".join(words[shift : shift + 30]) for shift in (0, 3, 6)]
    same = np.ones((3, 1), np.float32)
    assert collapse_duplicates(same, texts.__getitem__) == [0, 0, 2]
