"""Front matter: what is read of it, what is text, and bounds of time and size."""

from __future__ import annotations

from time import monotonic
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semsearch.ingest.readers.front_matter import MAX_CHARS, split_front_matter

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefghijk", "bcdefghijkl", strict=True)
)


@pytest.mark.parametrize(
    ("matter", "title", "metadata"),
    [
        ("title: Mine\ndate: 2024-03-01\n", "Mine", {"date": "2024-03-01"}),
        ("at: 2024-03-01 10:00:00\n", "", {"at": "2024-03-01T10:00:00"}),
        ("title:\n", "", {}),
        ("title: ~\nx:\n", "", {"x": None}),
        ("title: 1.10\n", "1.10", {}),
        ("title: No\n", "No", {}),
        ("title: [a, b]\n", "", {"title": ["a", "b"]}),
        ("title: |\n  two\n  lines\n", "two lines", {}),
        ("date: 2024-13-45\n", "", {"date": "2024-13-45"}),
        ("n: !!int abc\nb: !!bool x\nf: !!float x\nt: !!timestamp x\n", "", {"n": "abc", "b": "x", "f": "x", "t": "x"}),
        ("time: 12:30\nlong: 1:30:00\n", "", {"time": "12:30", "long": "1:30:00"}),
        ("a: .inf\nb: .nan\nc: 1.0e+999\n", "", {"a": ".inf", "b": ".nan", "c": "1.0e+999"}),
        (f"a: {'9' * 5_000}\n", "", {"a": "9" * 5_000}),
        ("a: !ruby/object x\nb: !!python/object/apply:os.system [ls]\n", "", {"a": "x", "b": ["ls"]}),
        ("1: one\nnull: two\n? [x, y]\n: three\n", "", {"1": "one", "null": "two", "[x, y]": "three"}),
        ("a: &who Ann\nb: *who\n", "", {"a": "Ann", "b": "Ann"}),
        ("bin: !!binary 'a b'\nset: !!set {x}\n", "", {"bin": "a b", "set": {"x": None}}),
    ],
)  # fmt: skip
def test_a_mapping_is_read(matter: str, title: str, metadata: dict[str, Any]) -> None:
    found, rest = split_front_matter(f"---\n{matter}---\nBody\n")
    assert (found.title, found.metadata, found.problem, rest) == (title, metadata, "", "Body\n")


@pytest.mark.parametrize(
    ("matter", "text"),
    [
        ("Note: This page is old.\n", "Note: This page is old."),
        ("note: This page is old.\ntitle: T\n", "note: This page is old."),
        ("# Important\nNote: This page is old.\n", "# Important\nNote: This page is old."),
        ("title: T\nQ: What is it?\n\nA: |\n  A way\n  out.\n", "Q: What is it?\n\nA: A way\nout."),
        ("tags: []\nSteps:\n- Open the door\n- Leave\n", "Steps: Open the door; Leave"),
        ("Before you begin: Stop\n", "Before you begin: Stop"),
        ("date: 2024\nWarning: {Never: open this door}\n", "Warning: Never; open this door"),
        ("title: A long title here\nDescription: What this page is about.\ntags: [one two three]\n", ""),
        ("draft: true\nweight: 10\ndate: 2024-03-01\nproduct: Acme Widget\nx:\n", ""),
    ],
)
def test_a_sentence_of_a_field_that_is_not_usual_is_text_too(matter: str, text: str) -> None:
    found, rest = split_front_matter(f"---\n{matter}---\nBody\n")
    assert (found.text.strip(), rest) == (text, "Body\n")
    assert found.metadata


@pytest.mark.parametrize(
    ("matter", "problem"),
    [
        ("just words\n", ""),
        ("Some text.\n\nMore of it: yes, indeed\n", "mapping values are not allowed"),
        ("- a\n- b\n", ""),
        ("# a comment\n", ""),
        ("[not: yaml\n", "expected"),
        ("a: \x01\n", "unacceptable character"),
        ("a: 1\na: 2\n", "'a' occurs twice"),
        ("a: &a [*a]\n", "nested"),
        ("a: &a {b: *a}\n", ""),
        (BOMB, "repeat too much"),
        (f"a: &a {'x' * 9_000}\nb: [{', '.join(['*a'] * 5_000)}]\n", "repeat too much"),
        (f"a: {'[' * 250}{']' * 250}\n", "nested"),
        (f"a: {'[' * 15_000}{']' * 15_000}\n", "nested"),
        ("a: " + "{a: " * 5_000 + "\n", "nested"),
        ("- " * 10_000 + "\n", "nested"),
        ("? " * 10_000 + "\n", "nested"),
        (f"a: {'x' * MAX_CHARS}\n", ""),
    ],
)  # fmt: skip
def test_what_is_no_mapping_of_limited_size_is_text(matter: str, problem: str) -> None:
    text = f"---\n{matter}---\nBody\n"
    started = monotonic()
    found, rest = split_front_matter(text)
    assert monotonic() - started < 20  # expanding the aliases would take hours
    assert (found.title, found.metadata, rest) == ("", {}, text)
    assert problem in found.problem


@given(st.text(st.sampled_from("ab:-?[]{}&*!|>'\"%@#, \n\t1.é~<"), max_size=60))
def test_no_text_raises_or_is_lost(matter: str) -> None:
    text = f"---\n{matter}\n---\nBody\n"
    found, rest = split_front_matter(text)
    assert rest in {text, "Body\n"} or text.endswith(rest)
    assert rest == text or not found.problem
