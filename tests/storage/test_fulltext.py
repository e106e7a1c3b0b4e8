"""Full text: which passages a query matches, in which order, and that no query raises an error."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from math import log
from pathlib import Path

import numpy as np
import pytest

from semsearch.errors import IndexFolderError
from semsearch.storage.documents import DocumentWriter, encoder_text
from semsearch.storage.fulltext import FullText
from semsearch.text import former_tokens
from semsearch.text.tokens import parse_query
from semsearch.types import Document, Passage

TEXTS = [
    "The cat purrs and hunts mice.",
    "Cats, cats, cats.",
    "Call os.path.join to join paths.",
    "Join the path of the os club.",
    "如何检索数据库中的文档",
    "数的据点和库房",
    "Error E-1234 was raised.",
    "Error 1234 after E was raised.",
]


@pytest.fixture
def fulltext(tmp_path: Path) -> Iterator[FullText]:
    with DocumentWriter(tmp_path / "documents") as writer:
        for number, text in enumerate(TEXTS):
            writer.add(Document(str(number), "", text, ""), "", [(Passage(text, 0, len(text)), 1)])
        writer.close()
    opened = FullText(tmp_path / "documents", connections=2)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("a mouse hunting", [0]),
        ("cat", [1, 0]),
        ("os.path", [2, 3]),
        ('"os path"', [2]),
        ('"path join" cat', [2]),
        ("数据库", [4]),
        ("库房", [5]),
        ("库", [5, 4]),
        ("E-1234", [6, 7]),
        ("nothing here", []),
        ("the", [3, 0]),
        ("?!", []),
    ],
)
def test_a_query_returns_matching_passages_best_first(fulltext: FullText, query: str, rows: list[int]) -> None:
    matches, scores = fulltext.search(parse_query(query), 10)
    assert matches.tolist() == rows
    assert (scores > 0).all()
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)


@pytest.mark.parametrize(
    "query", ["a mouse hunting cats", "os.path join", '"os path"', '"path join" cat join', "数据库"]
)
def test_frequencies_of_another_corpus_can_be_used(fulltext: FullText, query: str) -> None:
    rows, scores = fulltext.search(parse_query(query), 10)
    same_rows, same_scores = fulltext.search_with_frequencies(
        parse_query(query), 10, fulltext.frequency, fulltext.count
    )
    assert same_rows.tolist() == rows.tolist()
    assert same_scores == pytest.approx(scores, rel=1e-5)
    _, rarer = fulltext.search_with_frequencies(parse_query(query), 10, fulltext.frequency, 100 * fulltext.count)
    assert (rarer > scores).all()


@pytest.mark.parametrize("max_listed", [-1, 1_000])
@pytest.mark.parametrize("most", [True, False])
def test_only_allowed_passages_are_returned(
    fulltext: FullText, max_listed: int, most: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semsearch.storage.fulltext.MAX_LISTED_ROWS", max_listed)
    allowed = np.arange(len(TEXTS)) != 1 if most else np.arange(len(TEXTS)) < 1
    for query in ("cat", "join the cats"):
        rows, scores = fulltext.search(parse_query(query), 10)
        is_allowed = allowed[rows]
        expected = (rows[is_allowed].tolist(), scores[is_allowed].tolist())
        filtered_rows, filtered_scores = fulltext.search(parse_query(query), 10, allowed=allowed)
        assert (filtered_rows.tolist(), filtered_scores.tolist()) == expected
        filtered_rows, _ = fulltext.search_with_frequencies(
            parse_query(query), 10, fulltext.frequency, fulltext.count, allowed=allowed
        )
        assert filtered_rows.tolist() == expected[0]
        assert fulltext.search(parse_query(query), 10, allowed=np.zeros(len(TEXTS), bool))[0].tolist() == []


def test_the_score_is_bm25(fulltext: FullText) -> None:
    rows, scores = fulltext.search(parse_query("mice"), 1)
    lengths = [6, 3, 7, 7, 11, 7, 5, 6]
    mean = sum(lengths) / len(lengths)
    expected = log((8 - 1 + 0.5) / (1 + 0.5)) * 2.2 / (1 + 1.2 * (1 - 0.75 + 0.75 * 6 / mean))
    assert rows.tolist() == [0]
    assert scores[0] == pytest.approx(expected, rel=1e-5)


def test_no_query_is_an_error(fulltext: FullText) -> None:
    draw = random.Random(0)
    pieces = [*"\"()*^:-+{}'\\\0数a", "NEAR(", "AND", "OR", "NOT", "stems"]
    for _ in range(300):
        query = parse_query(draw.choice(("", " ")).join(draw.choices(pieces, k=draw.randint(1, 12))))
        fulltext.search(query, 5)
        fulltext.search_with_frequencies(query, 5, fulltext.frequency, fulltext.count)


def test_many_threads_search_at_once(fulltext: FullText) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = pool.map(lambda _: fulltext.search(parse_query("cat"), 3), range(200))
        assert {tuple(rows) for rows, _ in results} == {(1, 0)}


def test_a_file_without_full_text_is_refused(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "other").execute("CREATE TABLE a (b)").connection.close()
    with pytest.raises(IndexFolderError, match="has no full text"):
        FullText(tmp_path / "other")


FORMER_SCHEMA = """
CREATE VIRTUAL TABLE words USING fts5 (
    stems, content = '', tokenize = "unicode61 remove_diacritics 0 categories 'L* N* M*'"
)
"""


def rewrite_as_former(path: Path) -> None:
    """Make the full text of a file what semsearch wrote before it recorded a tokenizer's version."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT passages.row, heading, passages.text FROM passages JOIN documents ON documents.row = document"
        ).fetchall()
        connection.executescript(f"DROP TABLE words; DROP TABLE tokenizer; {FORMER_SCHEMA}")
        for row, heading, text in rows:
            stems = " ".join(token.stem for token in former_tokens.segment(encoder_text(heading, text)))
            connection.execute("INSERT INTO words (rowid, stems) VALUES (?, ?)", (row, stems))
        connection.commit()


def write_texts(path: Path, texts: list[str]) -> None:
    with DocumentWriter(path) as writer:
        for number, text in enumerate(texts):
            writer.add(Document(str(number), "", text, ""), "", [(Passage(text, 0, len(text)), 1)])
        writer.close()


def test_full_text_of_a_former_tokenizer_answers_as_it_was_built(tmp_path: Path) -> None:
    texts = ["C++ and мой чай", "C and ガイド", "the .NET guide", "NET weight", "an ısparta carpet", "plain words"]
    write_texts(tmp_path / "documents", texts)
    new = FullText(tmp_path / "documents")
    rows = {
        query: new.search(new.parse(query), 9)[0].tolist()
        for query in ("C++", "C", "чай", "чаи", "カイ", ".NET", "isparta")
    }
    new.close()
    assert rows == {"C++": [0], "C": [1], "чай": [0], "чаи": [], "カイ": [], ".NET": [2, 3], "isparta": [4]}
    rewrite_as_former(tmp_path / "documents")
    former = FullText(tmp_path / "documents")
    assert former.tokenizer_version == 1
    for query, expected in {
        "C++": {0, 1}, "c": {0, 1}, "чай": {0}, "чаи": {0}, "ガイド": {1}, "カイト": {1}, ".NET": {2, 3},
        "ısparta": {4}, "isparta": set(),
        '"net guide"': {2}, "plain": {5},
    }.items():  # fmt: skip
        assert {*former.search(former.parse(query), 9)[0].tolist()} == expected, query
    former.close()


def test_full_text_of_a_later_tokenizer_is_refused(tmp_path: Path) -> None:
    write_texts(tmp_path / "documents", ["text"])
    with closing(sqlite3.connect(tmp_path / "documents")) as connection:
        connection.execute("UPDATE tokenizer SET version = 99")
        connection.commit()
    with pytest.raises(IndexFolderError, match="tokenizer version 99"):
        FullText(tmp_path / "documents")


def test_letters_that_sqlite_does_not_know_are_found(tmp_path: Path) -> None:
    texts = ["𞤀𞤣𞤤𞤢𞤥 word", "word 𐲀𐲂", "Ⲁⲃⲅ c++ a.b@c.d $x --y"]
    write_texts(tmp_path / "documents", texts)
    fulltext = FullText(tmp_path / "documents")
    for row, text in enumerate(texts):
        for part in text.split():
            assert row in fulltext.search(fulltext.parse(part), 9)[0].tolist()
    fulltext.close()
