"""Near-duplicates: texts that repeat an earlier one, and texts that only have similar vectors."""

from __future__ import annotations

import numpy as np
import pytest

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
    words = [first + second for first in "bcdfg" for second in "aeiouxyz"]
    # each is similar to the previous text, and less similar to the first
    texts = [" ".join(words[shift : shift + 30]) for shift in (0, 3, 6)]
    same = np.ones((3, 1), np.float32)
    assert collapse_duplicates(same, texts.__getitem__) == [0, 0, 2]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("−20 °C", "20 °C"),
        ("-20", "20"),
        ("x > 5", "x < 5"),
        ("x >= 5", "x > 5"),
        ("x ≤ 5", "x ≥ 5"),
        ("a == b", "a != b"),
        ("a + b", "a - b"),
        ("a * b", "a / b"),
        ("2*3", "2/3"),
        ("!ready", "ready"),
        ("A → B", "A ← B"),
        ("it is on", "it is not on"),
        ("it can", "it can't"),
        ("es ist an", "es ist nicht an"),
        ("可以使用", "不可以使用"),
        ("✅", "❌"),
        ("👍", "👎"),
        ("★★★", "★★"),
        ("1.10", "1.1"),
        ("1,5", "15"),
        ("10:30", "10:31"),
        ("$5", "$6"),
        ("$5", "€5"),
        ("5 %", "5"),
        ("5′", "5″"),
        ("½", "¼"),
        ("m²", "m³"),
        ("10⁶", "10⁹"),
        ("C", "C++"),
        ("C#", "C++"),
        (".NET", "NET"),
        ("R&D", "R D"),
        ("٣", "٤"),
    ],
)
def test_texts_that_differ_in_a_number_a_sign_a_symbol_or_a_negation_are_no_duplicates(one: str, other: str) -> None:
    texts = [f"{LICENCE} {LICENCE} {part} {LICENCE}" for part in (one, other, one)]
    same = np.ones((3, 1), np.float32)
    assert collapse_duplicates(same, texts.__getitem__) == [0, 1, 0]
    texts = [f"set it to {part}" for part in (one, other, one)]
    assert collapse_duplicates(same, texts.__getitem__) == [0, 1, 0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("home, sweet", "home sweet"),
        ("“home”", '"home"'),
        ("HOME", "home"),
        ("home  \n now", "home now"),
        ("(home)", "home"),
        ("home – now", "home now"),
        ("10–20", "10-20"),
        ("home… now", "home now"),
        ("Café", "cafe"),
        ("co\u00adop\u200b", "coop"),
        ("\n- home", "\nhome"),
        ("\n> home", "\nhome"),
        ("\n## Home", "\nHome"),
        ("\n-----\nhome", "\nhome"),
        ("\n+---+---+\n| a | b |", "\na b"),
        ("*home*", "home"),
        ("home® now", "home now"),
        ("❤\ufe0f", "❤"),
        ("−5", "-5"),
        ("５", "5"),
    ],
)
def test_white_space_and_punctuation_bear_no_meaning(one: str, other: str) -> None:
    texts = [f"{LICENCE} {LICENCE} {part} {LICENCE}" for part in (one, other)]
    assert collapse_duplicates(np.ones((2, 1), np.float32), texts.__getitem__) == [0, 0]
