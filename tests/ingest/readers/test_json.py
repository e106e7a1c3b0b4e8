"""JSON lines and JSON files: what is a document, and what is reported of everything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semsearch.ingest.readers import json_text, tables
from semsearch.ingest.readers.files import BadRecord
from semsearch.ingest.readers.json_text import parse_object, split_records
from semsearch.ingest.readers.sources import read
from semsearch.ingest.recipe import Source
from semsearch.types import Document

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=3), max_size=5)


def results(path: Path, content: str | bytes) -> list[str]:
    """The texts of documents; the reason of a bad record after `!`, of a loss or a whole file after `~` or `!!`."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found = []
    for record in read(Source(path=path)):
        if isinstance(record, Document):
            found.append(record.text or record.title)
        else:
            assert isinstance(record, BadRecord)
            found.append(f"{'~' if record.is_loss else '!!' if record.whole_file else '!'}{record.reason}")
    return found


@pytest.mark.parametrize(
    ("line", "result"),
    [
        ('{"text": 1e999}', "!its field 'text' is not text"),
        ('{"text": "a", "x": 1e999}', "!its metadata have a number that is not finite"),
        ('{"text": "a", "x": NaN}', "!not JSON (NaN is not a JSON number)"),
        ('{"text": "a", "x": ' + "9" * 5_000 + "}", "!an integer of too many digits"),
        ('{"text": ' + "9" * 400 + "}", "!its field 'text' is not text"),
        ('{"text": "a", "x": ' + "[" * 33 + "]" * 33 + "}", "!its metadata are nested more than 32 levels"),
        ('{"text": "a", "x": ' + "[" * 250 + "]" * 250 + "}", "!its metadata are nested more than 32 levels"),
        ('{"text": "a", "x": ' + "[" * 200_000 + "]" * 200_000 + "}", "!nested too deeply"),
        ("[" * 200_000, "!nested too deeply"),
        ('{"a":' * 200_000, "!nested too deeply"),
        ('{"text": "\\ud800"}', "!it has half of a surrogate pair"),
        ('{"text": "a", "\\udc00": 1}', "!it has half of a surrogate pair"),
        ('{"text": ["a"]}', "!its field 'text' is not text"),
        ('{"id": {"a": 1}, "text": "a"}', "!its field 'id' is not text"),
        ("[]", "!a JSON list"),
        ("null", "!a JSON NoneType"),
        ('"text"', "!a JSON str"),
        ('{"text": "a"} {"text": "b"}', "!not JSON (Extra data"),
        ("{'text': 'a'}", "!not JSON"),
        ('{"text": "a\tb\x00"}', "!not JSON (Invalid control character"),
        ('{"text": "open', "!not JSON (Unterminated string"),
        ("\ufeff", None),
    ],
)  # fmt: skip
def test_a_bad_line_is_reported_and_the_others_are_read(tmp_path: Path, line: str, result: str | None) -> None:
    good = '{"text": "good"}'
    found = results(tmp_path / "a.jsonl", f"\ufeff{good}\n\n{line}\n \t\r\n\ufeff{good}")
    assert found[0] == found[-1] == "good"
    assert len(found) == 2 + (result is not None)
    assert result is None or found[1].startswith(result)


def test_a_repeated_key_is_reported(tmp_path: Path) -> None:
    found = results(tmp_path / "a.jsonl", '{"text": "a", "x": {"y": 1, "y": 2}, "text": "b"}')
    assert found == ["b", "~'y', 'text' occurs more than once: only the last value was read"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_marked_unicode_is_read(tmp_path: Path, encoding: str) -> None:
    assert results(tmp_path / "a.jsonl", '{"text": "ü"}\n{"text": "€"}\n'.encode(encoding)) == ["ü", "€"]
    assert results(tmp_path / "a.json", '[{"text": "ü"}, {"text": "€"}]\n'.encode(encoding)) == ["ü", "€"]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('[{"text": "a, [b] \\" {"}, {"text": "c"}]', ['a, [b] " {', "c"]),
        ('{"text": "one"}', ["one"]),
        ('{"text": "a"}\n{"text": "b"}', ["a", "b"]),
        ('[{"text": "a"}, {bad}, {"text": "c"}]', ["a", "!not JSON", "c"]),
        ('[{"text": "a",}, {"text": "b"}]', ["!not JSON", "b"]),
        ('[1, null, {"text": "c"}]', ["!a JSON int", "!a JSON NoneType", "c"]),
        ('[[{"text": "a"}]]', ["!!it holds no documents"]),
        (json.dumps(["a"] * 1_500), ["!!it holds no documents"]),
        ('[{"v": 1}, {"v": 2', ["!an empty document", "!not JSON", "!!cut off"]),
        ('[{"v": 1}, {"text": "a"}, {"v": 2}]', ["!an empty document", "a", "!an empty document"]),
        ('[{"text": "a"}, {"text": "b"', ["a", "!not JSON", "!!cut off"]),
        ('[{"text": "a"},', ["a", "!!cut off"]),
        ('[{"text": "a"}] and more', ["a", "!not JSON"]),
        (b'[{"text": "caf\xe9"}, {"text": "b"}]', ["!not UTF-8", "b"]),
        ('{"name": "pkg", "description": "A package."}', ["A package."]),
        ('{"version": "1", "scripts": {"text": "no"}}', ["!!it holds no documents"]),
        ('{"data": [{"text": "inside"}]}', ["!!it holds no documents"]),
        ('[{"v": 1}, {"v": 2}]', ["!!it holds no documents"]),
        ("[]", ["!!an empty file"]),
        ("  \n", ["!!an empty file"]),
        ("// comment\n{}", ["!not JSON", "!an empty document"]),
        ('{"text": "a"},\n{"text": "b"},\n', ["a", "b"]),
        ('[{"text": "a"}]\n[{"text": "b"}]', ["a", "b"]),
        ('[{"text": "a"}], {"text": "b"}]', ["a", "b", "!not JSON (a bracket ']' that closes nothing)"]),
        ('{"text": "a"}\n{"text": "b", "x": {"y"', ["a", "!not JSON", "!!from here on no record was found"]),
        ('{"text": "a", "x": ' + "9" * 5_000 + '}\n{"text": "b"}', ["!an integer of too many digits", "b"]),
        ("[" + "9" * 5_000 + ', {"text": "b"}]', ["!an integer of too many digits", "b"]),
        ("]", ["!not JSON"]),
        ('"', ["!not JSON"]),
        ("[" * 100_000, ["!nested too deeply", "!!cut off"]),
        ('[{"text": "a", "x": ' + "[" * 100_000 + "]" * 100_000 + '}, {"text": "b"}]', ["!nested too deeply", "b"]),
    ],
)  # fmt: skip
def test_a_json_file_is_read_record_by_record(tmp_path: Path, content: str | bytes, found: list[str]) -> None:
    records = results(tmp_path / "a.json", content)
    assert len(records) == len(found)
    for record, expected in zip(records, found, strict=True):
        assert record.startswith(expected)


def test_records_of_a_json_file_have_ids_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[\n{"text": "a"},\n\n{"id": "x", "text": "b"},\n{\n"no": 1}]')
    first, second, third = read(Source(path=path))
    assert isinstance(first, Document)
    assert isinstance(second, Document)
    assert isinstance(third, BadRecord)
    assert (first.id, first.source, second.id, third.location) == ("a.json:1", "a.json:1", "x", f"{path}:5")


def test_a_file_without_documents_is_one_empty_file(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"private": true}')
    (tmp_path / "a.txt").write_text("words")
    document, settings = read(Source(path=tmp_path))
    assert isinstance(document, Document)
    assert isinstance(settings, BadRecord)
    assert settings.is_empty  # so that it does not count as a file that could not be read


def test_records_without_text_before_the_first_document_are_counted(tmp_path: Path) -> None:
    found = results(tmp_path / "a.json", json.dumps([1] * 1_500 + [{"text": "a"}, 2]))
    assert found[999:1_001] == ["!a JSON int, not an object with a text", "!500 more of its first records have no text"]
    assert found[1_001:] == ["a", "!a JSON int, not an object with a text"]


def test_a_record_that_is_too_long_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (json_text, tables):
        monkeypatch.setattr(module, "MAX_RECORD_BYTES", 100)
    content = json.dumps([{"text": "a"}, {"text": "x" * 200}, {"text": ["y"] * 50}, {"text": "b"}])
    too_long = "!longer than 100 characters: split it"
    assert results(tmp_path / "a.json", content) == ["a", too_long, too_long, "b"]


@given(OBJECTS, st.sampled_from([None, 1]), st.integers(1, 30))
def test_records_are_cut_as_a_json_parser_reads_them(
    objects: list[dict[str, Any]], indent: int | None, chunk: int
) -> None:
    text = json.dumps(objects, indent=indent, ensure_ascii=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "_CHUNK_CHARS", chunk)
        records = list(split_records(StringIO(text, newline="")))
        lines = list(split_records(StringIO("\n".join(map(json.dumps, objects)))))
    assert [parse_object(record.text or "")[0] for record in records] == objects
    assert [parse_object(record.text or "")[0] for record in lines] == objects


def pretty(objects: list[dict[str, Any]]) -> str:
    return "\n".join(json.dumps(one, indent=2) for one in objects)


WRITERS: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "one line": json.dumps,
    "no spaces": lambda objects: json.dumps(objects, separators=(",", ":")),
    "indented": lambda objects: json.dumps(objects, indent=2),
    "not indented": lambda objects: json.dumps(objects, indent=0),
    "a line each": lambda objects: "[\n" + ",\n".join(map(json.dumps, objects)) + "\n]\n",
    "a line each, by PostgreSQL": lambda objects: "[" + ", \n ".join(map(json.dumps, objects)) + "]",
    "a line each, no array": lambda objects: "\n".join(map(json.dumps, objects)),
    "indented, no array": pretty,
    "indented, brackets on one line": lambda objects: "[" + ", ".join(json.dumps(x, indent=4) for x in objects) + "]",
}
RECORDS: list[dict[str, Any]] = [
    {"id": "0", "text": "zero"},
    {"id": "1", "text": 'a "quoted" one, [two] {three}', "tags": ["a", "b"], "of": {"x": 1, "y": {"z": [1, 2]}}},
    {"tags": [], "text": "line\nbreak", "by": [{"first": "x"}, {"first": "y"}], "id": "2"},
    {"id": "3", "by": [{"first": "x"}, {"first": "y"}], "text": "three", "n": 1.5},
    {"id": "4", "text": "four", "of": {}},
    {"id": "5", "text": "five"},
]  # fmt: skip


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("chunk", [7, 2**14])
def test_one_character_too_few_or_too_many_costs_one_record(
    tmp_path: Path, writer: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_text, "_CHUNK_CHARS", chunk)
    text = WRITERS[writer](RECORDS)
    path = tmp_path / "a.json"
    for position, character in enumerate(text):
        if character not in '{}[]",:':
            continue
        for damaged in (text[:position] + text[position + 1 :], text[:position] + character + text[position:]):
            if damaged.lstrip().startswith("[["):
                continue  # a list in a list
            path.write_text(damaged)
            records = list(read(Source(path=path)))
            found = {record.id for record in records if isinstance(record, Document)}
            lost = {one["id"] for one in RECORDS} - found
            # a brace may be missing from the record, or from an object in it
            allowed = 2 if writer == "indented, brackets on one line" else 1
            assert len(lost) <= allowed, damaged
            assert not lost or any(isinstance(record, BadRecord) for record in records)


def test_the_line_of_a_record_after_a_damaged_one_is_right(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[\n{"text": "a",\n"x": 1,\n{"id": "x", "text": "b"},\n{"no": 1}]')
    first, second, third = read(Source(path=path))
    assert isinstance(first, BadRecord)
    assert isinstance(second, Document)
    assert isinstance(third, BadRecord)
    assert [first.location, third.location] == [f"{path}:2", f"{path}:5"]


@pytest.mark.parametrize(
    "pattern",
    ['{"a":1,', '{"a"\n', '{"a":1,\n', '},{"', '"},{\\"', '{"a":"},{\\"', '{"k":["x",{},', '[{"a":"x\n', "{}\n{", "9"],
)
def test_time_of_reading_what_is_not_json_is_in_proportion_to_size(pattern: str) -> None:
    started = monotonic()
    for _ in split_records(StringIO(pattern * (200_000 // len(pattern)), newline="")):
        pass
    assert monotonic() - started < 60  # each takes a second or two; what searches the rest for each record, minutes


@pytest.mark.parametrize("pattern", ["[", '"', '\\"', '{"a":', ",", '"a"', "]", "{", '{"text":"a"}', "[]", "\\"])
def test_time_is_in_proportion_to_size(tmp_path: Path, pattern: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(pattern * (100_000 // len(pattern)))
    started = monotonic()
    for _ in read(Source(path=path)):
        pass
    assert monotonic() - started < 60  # a quadratic reader takes minutes
