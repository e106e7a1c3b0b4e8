"""Full text: which passages a query matches, in which order, and that no query raises an error."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import log
from pathlib import Path

import numpy as np
import pytest
import tantivy

from semsearch.errors import IndexFolderError
from semsearch.filters.tree import Comparison
from semsearch.storage.fulltext import FullText, FullTextWriter, inverse_frequency
from semsearch.text.tokens import Term, parse_query
from semsearch.types import Rows, Scores

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


def written(folder: Path, texts: Sequence[str]) -> FullText:
    writer = FullTextWriter(folder)
    for row, text in enumerate(texts):
        writer.add(row, text)
    writer.close()
    writer.stop()
    return FullText(folder)


@pytest.fixture
def fulltext(tmp_path: Path) -> FullText:
    return written(tmp_path / "fulltext", TEXTS)


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
def test_terms_have_the_weights_of_the_caller(fulltext: FullText, query: str) -> None:
    rows, scores = fulltext.search(parse_query(query), 10)

    for factor in (1, 3):

        def weight(term: Term, factor: int = factor) -> float:
            return factor * inverse_frequency(fulltext.frequency(term), fulltext.count)

        weighted_rows, weighted = fulltext.search(parse_query(query), 10, weight=weight)
        assert weighted_rows.tolist() == rows.tolist()
        assert weighted == pytest.approx(factor * scores, rel=1e-5)


@pytest.mark.parametrize("max_listed", [0, 1_000])
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
        assert fulltext.search(parse_query(query), 10, allowed=np.zeros(len(TEXTS), bool))[0].tolist() == []


@pytest.mark.parametrize("is_compiled", [True, False])
@pytest.mark.parametrize("share", [0.15, 0.002])
def test_a_filter_that_does_not_go_with_the_query_lists_few_passages(
    tmp_path: Path, share: float, is_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, k = 20_000, 20
    is_german = np.arange(count) < share * count
    writer = FullTextWriter(tmp_path / "fulltext")
    for row in range(count):
        writer.add(row, "german rare" if is_german[row] else "english", ["de" if is_german[row] else "en"])
    writer.close()
    writer.stop()
    fulltext = FullText(tmp_path / "fulltext")
    language = Comparison(field="language", eq="de")
    compiled = fulltext.compile_filter(language, lambda _: ["de"]) if is_compiled else None
    listed: list[int] = []
    best = FullText._best

    def counted(self: FullText, query: tantivy.Query, number: int) -> tuple[Rows, Scores]:
        listed.append(number)
        return best(self, query, number)

    monkeypatch.setattr(FullText, "_best", counted)
    for query, found in (("english", 0), ("english rare", k)):
        rows, _ = fulltext.search(parse_query(query), k, allowed=is_german, compiled_filter=compiled)
        assert rows.tolist() == list(range(found))
        assert sum(listed) < 1_000
        listed.clear()


def test_the_score_is_bm25(fulltext: FullText) -> None:
    rows, scores = fulltext.search(parse_query("mice"), 1)
    lengths = [6, 3, 7, 7, 11, 7, 5, 6]
    mean = sum(lengths) / len(lengths)
    expected = log((8 - 1 + 0.5) / (1 + 0.5)) * 2.2 / (1 + 1.2 * (1 - 0.75 + 0.75 * 6 / mean))
    assert rows.tolist() == [0]
    assert scores[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("commits", "merged"), [(4, False), (8, True)])
def test_ties_are_in_the_order_of_rows_however_the_engine_stores_them(
    tmp_path: Path, commits: int, merged: bool
) -> None:
    writer = FullTextWriter(tmp_path / "fulltext")
    for row in [*range(2000, 4000), *range(2000), 4000]:
        writer.add(row, "tie tie" if row == 4000 else "tie")
        if row % (4000 // commits) == 0:
            # each commit makes a segment, and eight are merged
            writer._writer.commit()
    writer.close()
    writer.stop()
    fulltext = FullText(tmp_path / "fulltext")
    assert (fulltext._searcher.num_segments < commits) == merged
    for k in (2, 8, 200):
        assert fulltext.search(parse_query("tie"), k)[0].tolist() == [4000, *range(k - 1)]


def test_an_error_at_the_start_is_one_of_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("An IO error occurred: 'No space left on device'")

    monkeypatch.setattr("semsearch.storage.fulltext.tantivy.Index", refuse)
    with pytest.raises(OSError, match="No space left on device"):
        FullTextWriter(tmp_path / "fulltext")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("function", ["mkdtemp", "symlink"])
def test_a_temporary_folder_that_cannot_be_made_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    written(tmp_path / "fulltext", TEXTS)
    patched = "semsearch.storage.fulltext.mkdtemp" if function == "mkdtemp" else "os.symlink"
    monkeypatch.setattr(patched, refuse)
    with pytest.raises(IndexFolderError, match=r"Operation not permitted.*set TMPDIR"):
        FullText(tmp_path / "fulltext")


def test_no_weight_is_negative_and_rarer_terms_weigh_more() -> None:
    weights = [inverse_frequency(frequency, 100) for frequency in range(101)]
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] > 0
    assert weights[3] == pytest.approx(log(97.5 / 3.5))
    assert weights[80] == pytest.approx(0.5 * log(1 + 20.5 / 80.5))


def test_no_query_is_an_error(fulltext: FullText) -> None:
    draw = random.Random(0)
    pieces = [*"\"()*^:-+{}'\\\0数a", "NEAR(", "AND", "OR", "NOT", "stems"]
    for _ in range(300):
        query = parse_query(draw.choice(("", " ")).join(draw.choices(pieces, k=draw.randint(1, 12))))
        fulltext.search(query, 5)


def test_many_threads_search_at_once(fulltext: FullText) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = pool.map(lambda _: fulltext.search(parse_query("cat"), 3), range(200))
        assert {tuple(rows) for rows, _ in results} == {(1, 0)}


def test_a_folder_without_full_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("missing", "empty"):
        with pytest.raises(IndexFolderError, match="has no full text"):
            FullText(tmp_path / name)


def test_damage_that_no_checksum_shows_is_an_error_of_the_index(tmp_path: Path) -> None:
    folder = tmp_path / "fulltext"
    written(folder, [f"word{n} common other{n % 7}" for n in range(500)])
    draw = random.Random(0)
    errors = 0
    for _ in range(60):
        path = draw.choice(sorted(folder.iterdir()))
        content = path.read_bytes()
        damaged = bytearray(content[: draw.choice([len(content), draw.randrange(len(content))])])
        for _ in range(min(4, len(damaged))):
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            opened = FullText(folder)
            opened.search(parse_query('common word5 "word7 common" other1'), 10)
            opened.rows()
        except IndexFolderError:
            errors += 1
        path.write_bytes(content)
    assert errors > 20


def test_the_files_may_be_read_only_and_removed_while_they_are_open(tmp_path: Path) -> None:
    written(tmp_path / "fulltext", TEXTS)
    before = sorted(path.name for path in (tmp_path / "fulltext").iterdir())
    opened = FullText(tmp_path / "fulltext")
    assert sorted(path.name for path in (tmp_path / "fulltext").iterdir()) == before
    assert not any(name.startswith(".") for name in before)
    shutil.rmtree(tmp_path / "fulltext")
    assert opened.search(parse_query('"os path" cats'), 9)[0].tolist() == [2]
    assert opened.rows().tolist() == list(range(len(TEXTS)))


@pytest.mark.parametrize(
    ("query", "rows"),
    [("C++", [0]), ("C", [1]), ("чай", [0]), ("чаи", []), ("カイ", []), (".NET", [2, 3]), ("isparta", [4])],
)
def test_signs_and_letters_of_every_script_tell_words_apart(tmp_path: Path, query: str, rows: list[int]) -> None:
    texts = ["C++ and мой чай", "C and ガイド", "the .NET guide", "NET weight", "an ısparta carpet", "plain words"]
    assert written(tmp_path / "fulltext", texts).search(parse_query(query), 9)[0].tolist() == rows


def test_letters_beyond_the_first_planes_are_found(tmp_path: Path) -> None:
    texts = ["𞤀𞤣𞤤𞤢𞤥 word", "word 𐲀𐲂", "Ⲁⲃⲅ c++ a.b@c.d $x --y"]
    fulltext = written(tmp_path / "fulltext", texts)
    for row, text in enumerate(texts):
        for part in text.split():
            assert row in fulltext.search(parse_query(part), 9)[0].tolist()


def test_a_word_that_is_too_long_to_be_indexed_is_left_out(tmp_path: Path) -> None:
    long = "x" * 70_000
    fulltext = written(tmp_path / "fulltext", [f"short {long}", "short"])
    assert fulltext.search(parse_query("short"), 9)[0].tolist() == [0, 1]
    assert fulltext.search(parse_query(long), 9)[0].tolist() == []
