"""Commands that change an index, run in-process: output, exit codes and the resulting index."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from semsearch.storage.generations import read_manifest
from tests.conftest import ANIMALS, Command, write_jsonl


@pytest.fixture
def built(tmp_path: Path, tiny_model: Path, command: Command) -> Path:
    """An index of a folder with two pages and a table."""
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    (folder / "cat.md").write_text("# Cat\n\nA small animal that purrs.")
    (folder / "deep" / "dog.md").write_text("# Dog\n\nA loyal animal that barks.")
    write_jsonl(folder / "more.jsonl", ANIMALS[2:])
    done = command("build", folder, "--out", tmp_path / "index", "--encoder", tiny_model, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    return tmp_path / "index"


def search_ids(index: Path, command: Command) -> set[str]:
    output = command("search", "animal", "-i", index, "-k", "100", "--json", "--device", "cpu").stdout
    return {json.loads(line)["id"] for line in output.splitlines()}


def test_a_file_within_a_folder_keeps_its_name(built: Path, command: Command) -> None:
    dog = built.parent / "docs" / "deep" / "dog.md"
    dog.write_text("# Dog\n\nA loyal animal that guards the house.")
    done = command("update", built, dog, "--device", "cpu")
    assert done.returncode == 0
    assert "1 replaced; 6 documents in 6 passages" in done.stderr
    assert "docs/deep/dog.md" in search_ids(built, command)


def test_updating_from_a_folder_adds_and_prunes(built: Path, command: Command) -> None:
    docs = built.parent / "docs"
    (docs / "cat.md").unlink()
    (docs / "owl.md").write_text("# Owl\n\nHunts mice at night.")
    done = command("update", built, docs, "--prune", "--device", "cpu")
    assert "1 added, 1 deleted, 5 unchanged" in done.stderr
    assert {"docs/owl.md", "docs/deep/dog.md", "bee"} <= search_ids(built, command)
    assert "docs/cat.md" not in search_ids(built, command)


def test_options_say_how_a_table_is_read(tmp_path: Path, tiny_model: Path, command: Command) -> None:
    path, index = tmp_path / "t.csv", tmp_path / "index"
    path.write_bytes("id;text;zip;n\n1;caf\xe9;10115;1,5\n2;tea;20095;x\n".encode("latin-1"))
    model = ("--encoder", tiny_model, "--device", "cpu")
    options = ("--type", "zip=text", "--type", "n=number", "--encoding", "latin-1", "--delimiter", ";")
    done = command("build", path, "--out", index, *model, *options)
    assert done.returncode == 0, done.stderr
    shown = command("search", "caf\u00e9", "-i", index, "--filter", 'zip = "10115"', "--json", "--device", "cpu")
    assert [json.loads(line)["metadata"]["zip"] for line in shown.stdout.splitlines()] == ["10115"]
    # an update takes them too, or those that the index was built with
    assert "2 unchanged" in command("update", index, path, "--device", "cpu").stderr
    assert "2 replaced" in command("update", index, path, "--type", "zip=number", "--device", "cpu").stderr
    tabs = tmp_path / "tabs.csv"
    tabs.write_text("text\tx,y,z\nOwl\ta,b,c\n")
    assert command("build", tabs, "--out", tmp_path / "tabs", *model, "--delimiter", "tab").returncode == 0


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--type", "zip=texts", "zip: 'texts': Input should be 'text', 'number' or 'boolean'"),
        ("--type", "zip", "'zip' is not NAME=TYPE, as in zip=text"),
        ("--type", "=text", "'=text' is not NAME=TYPE"),
        ("--encoding", "klingon", "encoding 'klingon' is unknown: give one of Python's, such as cp1252"),
        ("--encoding", "rot13", "encoding 'rot13' is unknown"),
        ("--delimiter", "ab", "'ab': String should have at most 1 character"),
        ("--delimiter", '"', "should match pattern"),
    ],
)
def test_a_wrong_option_for_inputs_is_named_with_its_value(
    tmp_path: Path, command: Command, option: str, value: str, complaint: str
) -> None:
    (tmp_path / "t.csv").write_text("text\nOwl\n")
    done = command("build", tmp_path / "t.csv", "--out", tmp_path / "index", option, value)
    assert done.returncode == 2
    shown = " ".join(done.stderr.replace("\u2502", " ").split())
    assert complaint in shown
    assert option in shown


def test_an_unreadable_document_is_not_deleted(built: Path, command: Command) -> None:
    docs = built.parent / "docs"
    (docs / "cat.md").write_bytes(b"caf\xe9")
    (docs / "deep" / "dog.md").unlink()
    lines = (docs / "more.jsonl").read_text().splitlines()
    (docs / "more.jsonl").write_text("\n".join(["{bad", *lines[1:]]) + "\n")
    done = command("update", built, docs, "--prune", "--skip-bad", "--device", "cpu")
    assert "1 deleted, 3 unchanged" in done.stderr
    assert search_ids(built, command) == {"docs/cat.md", "eagle", "salmon", "bee", "whale"}
    # a table that can be read again shows which documents were deleted
    (docs / "more.jsonl").write_text("\n".join(lines[1:]) + "\n")
    assert "1 deleted" in command("update", built, docs, "--prune", "--device", "cpu").stderr
    assert search_ids(built, command) == {"docs/cat.md", "salmon", "bee", "whale"}


def test_documents_are_deleted_by_id(built: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    done = command("delete", built, "bee", "ghost")
    assert (done.returncode, "no such document: ghost" in done.stderr, "1 deleted" in done.stderr) == (0, True, True)
    monkeypatch.setattr("sys.stdin", io.StringIO("whale\n\ndocs/cat.md\n"))
    assert "2 deleted" in command("delete", built, "-").stderr
    assert search_ids(built, command) == {"eagle", "salmon", "docs/deep/dog.md"}


def test_compact_info_and_check_report_the_state_of_an_index(built: Path, command: Command) -> None:
    command("delete", built, "bee", "whale")
    assert "2 deleted documents are kept; semsearch compact merges them" in command("info", built).stdout
    assert "compacted; 4 documents in 4 passages, 1 segment" in command("compact", built).stderr
    assert "segments" not in command("info", built).stdout
    assert "nothing to change" in command("compact", built).stderr
    assert "sound: 4 documents in 4 passages, " in command("check", built).stdout
    (built / "current").write_text("g-000099\n")
    done = command("check", built, "--json")
    assert (done.returncode, len(json.loads(done.stdout)["problems"])) == (1, 1)


def test_update_follows_a_recipe_and_refuses_a_changed_encoder_or_chunking(
    tmp_path: Path, tiny_model: Path, command: Command
) -> None:
    write_jsonl(tmp_path / "a.jsonl", ANIMALS[:3])
    recipe = tmp_path / "animals.toml"
    text = f'[encoder]\nmodel = "{tiny_model}"\n[[sources]]\npath = "a.jsonl"\n'
    recipe.write_text(text)
    command("build", recipe, "--device", "cpu")
    index = tmp_path / "animals"
    write_jsonl(tmp_path / "a.jsonl", ANIMALS[1:])
    assert "3 added, 1 deleted, 2 unchanged" in command("update", index, recipe, "--prune", "--device", "cpu").stderr
    for changed in (
        f"[chunking]\nmax_tokens = 40\noverlap_tokens = 5\n{text}",
        text.replace(f'"{tiny_model}"', '"all-MiniLM-L6-v2"'),
    ):
        recipe.write_text(changed)
        done = command("update", index, recipe)
        assert done.returncode == 1
        assert f"semsearch build {recipe} --out {index}" in " ".join(done.stderr.split())
    assert read_manifest(index).documents == 5


def test_a_filter_restricts_the_hits(built: Path, command: Command) -> None:
    search = ("search", "animal", "-i", built, "--json", "--device", "cpu", "-f")
    ids = [json.loads(line)["id"] for line in command(*search, "kind in (bird, fish)").stdout.splitlines()]
    assert sorted(ids) == ["eagle", "salmon"]
    done = command(*search, "kind =")
    assert (done.returncode, "cannot be read at its end" in " ".join(done.stderr.split())) == (2, True)


def test_wrong_usage_is_reported(built: Path, command: Command, tmp_path: Path) -> None:
    assert "no such file" in command("update", built, tmp_path / "nowhere.md").stderr
    assert "no index at" in command("delete", tmp_path / "nowhere", "x").stderr
    (tmp_path / "b.jsonl").write_text('{"id": 1}\n')
    done = command("update", built, tmp_path / "b.jsonl", "--device", "cpu")
    assert (done.returncode, "--max-bad-share" in done.stderr) == (1, True)
    done = command("update", built, tmp_path / "b.jsonl", "--max-bad-share", "1", "--device", "cpu")
    assert (done.returncode, "skipped:" in done.stderr, "nothing to change" in done.stderr) == (0, True, True)
