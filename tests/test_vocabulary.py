"""The retired vocabulary does not come back: no definition has a retired name, no text holds a retired phrase."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vocabulary import NAMES, PHRASES, definitions, find_retired_names, find_retired_phrases, phrases_in

ROOT = Path(__file__).parents[1]


def test_no_definition_has_a_retired_name() -> None:
    occurrences = find_retired_names(ROOT)
    assert not occurrences, f"{len(occurrences)} retired names:\n" + "\n".join(map(str, occurrences))


def test_no_text_holds_a_retired_phrase() -> None:
    occurrences = find_retired_phrases(ROOT)
    assert not occurrences, f"{len(occurrences)} retired phrases:\n" + "\n".join(map(str, occurrences))


def test_definitions_are_modules_classes_functions_parameters_attributes_and_constants() -> None:
    source = """
LIMIT: int = 1
class Box:
    size: int
    def open(self, key, *keys, by=None, **rest):
        local = key
        self.lid = local
        for self.turn in keys:
            pass
    def nested(self):
        def inner(depth): return depth
        return inner
if LIMIT:
    def later(): return LIMIT
"""
    defined = {(item.name, item.kind) for item in definitions(source, Path("semsearch/storage/box.py"))}
    assert defined == {
        ("box", "module"),
        ("LIMIT", "constant"),
        ("Box", "class"),
        ("size", "attribute"),
        ("open", "function"),
        *((name, "parameter") for name in ("self", "key", "keys", "by", "rest", "depth")),
        ("lid", "attribute"),
        ("turn", "attribute"),
        ("nested", "function"),
        ("inner", "function"),
        ("later", "function"),
    }


@pytest.mark.parametrize(
    ("path", "source", "retired"),
    [
        ("semsearch/storage/a.py", "class Journal: ...", ["Journal"]),
        ("semsearch/storage/a.py", "def f(words): ...", ["words"]),
        ("semsearch/storage/a.py", "words = 1", ["words"]),
        ("semsearch/storage/a.py", "def f():\n    words = 1", []),
        ("semsearch/storage/a.py", "'its words, one place'", []),
        ("semsearch/storage/bundle.py", "", ["module bundle"]),
        ("semsearch/bundle/__init__.py", "", ["module bundle"]),
        ("semsearch/storage/a.py", "bundle = 1", []),
        ("semsearch/storage/a.py", "class Hit:\n    parts: int", ["Hit.parts"]),
        ("semsearch/storage/a.py", "class Path:\n    parts: int", []),
        ("semsearch/storage/generations.py", "def building(): ...", ["generations.building"]),
        ("semsearch/ingest/a.py", "def building(): ...", []),
        ("semsearch/server/pages/a.py", "def f(identity): ...", ["server.identity"]),
        ("semsearch/adapters/a.py", "def f(identity): ...", []),
    ],
)
def test_retired_names_are_matched_where_they_are_retired(
    tmp_path: Path, path: str, source: str, retired: list[str]
) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    assert [item.retired for item in find_retired_names(tmp_path)] == retired


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("It knows nothing of HTTP.", [(1, "knows nothing of")]),
        ("one\n# so\n# many rows", [(2, "so many")]),
        ('raise Error("Lets go"\n    f" of it")', [(1, "lets go of")]),
        ("besides, the best side", []),
        ("Whoever asks", [(1, "whoever")]),
        ("let us go often, everybody", []),
        ('<div id="beside-hits"> #beside .beside', []),
        ('PARAMETER = "beside"; `beside`', []),
        ('raise Error("Nobody knows")', [(1, "nobody")]),
    ],
)
def test_phrases_are_matched_as_words_across_lines(text: str, matches: list[tuple[int, str]]) -> None:
    assert list(phrases_in(text)) == matches


def test_an_occurrence_names_file_line_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# A\n\nNobody knows.\n")
    assert [str(item) for item in find_retired_phrases(tmp_path)] == [
        f"docs/a.md:3: 'nobody' is retired: use {PHRASES['nobody']}"
    ]


def test_no_name_is_retired_in_favour_of_itself() -> None:
    assert not [name for name, use in NAMES.items() if name.split(".")[-1].removeprefix("module ") == use]
