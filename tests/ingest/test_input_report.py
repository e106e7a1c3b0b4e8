"""What is left out of a build or an update: counted, listed with reasons, and an error if it is too much."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semsearch.encoders.encoder import Encoder
from semsearch.errors import InputError, RecipeError
from semsearch.ingest.building import Published, build
from semsearch.ingest.documents import records_of
from semsearch.ingest.input_report import MAX_ENTRIES, InputReport
from semsearch.ingest.readers.files import BadRecord, Record
from semsearch.ingest.readers.sources import read
from semsearch.ingest.recipe import Recipe, Source
from semsearch.ingest.updating import UpdateResult, update
from semsearch.search.engine import SearchEngine
from semsearch.storage.generations import read_manifest
from semsearch.storage.left_out import LeftOut, summarize
from semsearch.storage.manifest import Manifest
from semsearch.types import Document
from tests.conftest import Command, write_jsonl

GOOD = '{{"id": "{0}", "text": "word{0}"}}'
PAGE = "# Page\n\nSome text."


def report_of(*records: Record, **options: Any) -> InputReport:
    report = InputReport(**options)
    list(report.watch(records))
    return report


def rows(file: str, *, good: int, bad: int) -> list[Record]:
    """The records of a table."""
    documents = [Document(f"{file}-{n}", "", "text", f"{file}:{n}", {}) for n in range(good)]
    return [*documents, *(BadRecord(f"/data/{file}:{good + n}", f"row {n} is bad", file=file) for n in range(bad))]


def unreadable(file: str, **flags: bool) -> BadRecord:
    return BadRecord(f"/data/{file}", "cannot be read", whole_file=True, file=file, **flags)


def pages(folder: str, *, good: int, bad: int) -> list[Record]:
    documents = [Document(f"{folder}/{n}.md", "", "text", f"{folder}/{n}.md", {}) for n in range(good)]
    return [*documents, *(unreadable(f"{folder}/bad{n}.md") for n in range(bad))]


TOO_MUCH: list[tuple[str, Sequence[Record], str | None]] = [
    ("2 of 20 rows", rows("a.csv", good=18, bad=2), None),
    ("3 of 20 rows", rows("a.csv", good=17, bad=3), "3 of 20 rows of a.csv cannot be read: /data/a.csv:17: row 0"),
    ("1 of 2 rows", rows("a.csv", good=1, bad=1), "1 of 2 rows of a.csv cannot be read: /data/a.csv:1: row 0 is bad"),
    ("1 of 10 rows", rows("a.csv", good=9, bad=1), None),
    ("a folder with one odd table", [unreadable("docs/a.csv"), *pages("docs", good=3, bad=0)], None),
    ("a table of 25 rows in a folder", rows("docs/a.csv", good=20, bad=5), "5 of 25 rows of docs/a.csv"),
    ("2 of 20 files", pages("docs", good=18, bad=2), None),
    ("3 of 20 files", pages("docs", good=17, bad=3), "3 of 20 files in docs/ cannot be read: /data/docs/bad0.md: cann"),
    ("18 of 19 files", pages("docs", good=1, bad=18), None),
    ("files of two folders", [*pages("a", good=500, bad=0), *pages("b", good=15, bad=5)], "5 of 20 files in b/"),
    ("a file named itself", [*pages("docs", good=9, bad=0), unreadable("b.pdf", named=True)], "/data/b.pdf: cannot be"),
    ("a cut file named itself", [*rows("b.csv", good=9, bad=0), unreadable("b.csv", named=True)], None),
    ("an empty file named itself", [unreadable("b.md", named=True, is_empty=True)], None),
    ("empty files", [unreadable(f"docs/{n}.md", is_empty=True) for n in range(30)], None),
]


@pytest.mark.parametrize(("records", "error"), [case[1:] for case in TOO_MUCH], ids=[case[0] for case in TOO_MUCH])
def test_too_many_bad_records_are_an_error_with_counts_reasons_and_remedy(
    records: Sequence[Record], error: str | None
) -> None:
    report = report_of(*records)
    if error is None:
        report.check()
    else:
        with pytest.raises(InputError) as raised:
            report.check()
        assert str(raised.value).startswith(error)
        assert "--max-bad-share N" in str(raised.value)
        report_of(*records, max_bad_share=1).check()
        report_of(*records, skip_bad=True).check()


def test_a_share_out_of_range_is_refused() -> None:
    with pytest.raises(RecipeError, match="from 0 to 1"):
        InputReport(max_bad_share=10)


def test_entries_are_grouped_by_file_and_reason_and_their_number_is_bounded() -> None:
    grouped = report_of(*rows("a.csv", good=0, bad=100_000)).left_out
    assert grouped == (
        LeftOut(kind="record", file="a.csv", location="/data/a.csv:0", reason="row 0 is bad", count=100_000),
    )
    assert str(grouped[0]) == "/data/a.csv:0: row 0 is bad (100,000 records)"
    many = report_of(*(unreadable(f"docs/{n}.pdf") for n in range(MAX_ENTRIES + 50))).left_out
    assert len(many) == MAX_ENTRIES + 1
    assert summarize(many) == "1,050 files that could not be read"


# a mixture of records, as files on disk

BAD_ROWS = ["{bad", "[1]", '{"id": "x"}', '{"text": {"a": 1}}']
mixtures = st.dictionaries(
    st.sampled_from([f"{name}.jsonl" for name in "abcd"]),
    st.lists(st.sampled_from([None, *BAD_ROWS]), max_size=12),
    min_size=1,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables=mixtures, cut=st.booleans(), bad_page=st.booleans())
def test_the_index_holds_the_good_documents_and_the_report_counts_the_bad_ones(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_encoder: Encoder,
    tables: dict[str, list[str | None]],
    cut: bool,
    bad_page: bool,
) -> None:
    folder = tmp_path_factory.mktemp("mixture")
    docs = folder / "docs"
    good, bad = {"docs/page.md"}, 0
    for name, lines in tables.items():
        texts = []
        for number, line in enumerate(lines):
            doc_id = f"{name}-{number}"
            texts.append(GOOD.format(doc_id) if line is None else line)
            good |= {doc_id} if line is None else set()
            bad += line is not None
        write(docs / name, "\n".join(texts))
    write(docs / "page.md", PAGE)
    if bad_page:
        (docs / "latin.md").write_bytes(b"\n\x80\x81 \xa5\xa6")
    if cut:
        whole = gzip.compress("\n".join(GOOD.format(f"z{n}") for n in range(50)).encode(), mtime=0)
        (docs / "z.jsonl.gz").write_bytes(whole[:-8])
    recipe = Recipe(sources=(Source(path=docs),), map=False, skip_bad=True)
    *_, last = build(recipe, folder / "index", encoder=tiny_encoder, threads=1)
    assert isinstance(last, Published)
    ids = set(ids_of(folder / "index", tiny_encoder))
    assert {doc_id for doc_id in ids if not doc_id.startswith("z")} == good
    assert count(last.manifest, "record") == bad
    assert count(last.manifest, "file") == bad_page + cut
    assert count(last.manifest, "empty") == sum(not lines for lines in tables.values())
    # pruning deletes the documents of files that were read whole, and no others
    incomplete = {name for name, lines in tables.items() if any(lines)}
    for name, lines in tables.items():
        write(docs / name, "\n".join(line for line in lines if line is not None))
    changed = pruned(folder / "index", docs, tiny_encoder)
    kept = {doc_id for doc_id in good if cut or doc_id.rpartition("-")[0] in incomplete} - {"docs/page.md"}
    assert set(ids_of(folder / "index", tiny_encoder)) == kept | {"docs/page.md"} | {
        doc_id for doc_id in ids if doc_id.startswith("z")
    }
    assert changed.protected == len(kept)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def count(manifest: Manifest, kind: str) -> int:
    return sum(entry.count for entry in manifest.left_out if entry.kind == kind)


def ids_of(index: Path, encoder: Encoder) -> list[str]:
    engine = SearchEngine.open(index, encoder=encoder, threads=1)
    try:
        return engine.corpus.all_doc_ids()
    finally:
        engine.close()


def pruned(index: Path, source: Path, encoder: Encoder) -> UpdateResult:
    *_, last = update(index, read(Source(path=source)), prune=True, skip_bad=True, device="cpu", threads=1)
    assert isinstance(last, UpdateResult)
    return last


# pruning


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder with pages and tables, some of them in a folder of their own."""
    folder = tmp_path / "docs"
    for name in ("cat.md", "deep/dog.md", "deep/owl.md"):
        write(folder / name, f"# {name}\n\nText of {name}.")
    write_jsonl(folder / "deep" / "table.jsonl", [{"id": f"t{n}", "text": f"row {n}"} for n in range(3)])
    return folder


@pytest.fixture
def index(docs: Path, tmp_path: Path, tiny_encoder: Encoder) -> Path:
    for _ in build(Recipe(sources=(Source(path=docs),), map=False), tmp_path / "index", encoder=tiny_encoder):
        pass
    return tmp_path / "index"


ALL = {"docs/cat.md", "docs/deep/dog.md", "docs/deep/owl.md", "t0", "t1", "t2"}


def bad_row(docs: Path, _patch: pytest.MonkeyPatch) -> None:
    write(docs / "deep" / "table.jsonl", '{"id": "t0", "text": "row 0"}\n{bad')


def unreadable_page(docs: Path, _patch: pytest.MonkeyPatch) -> None:
    (docs / "deep" / "dog.md").write_bytes(b"\n\x80\x81 \xa5\xa6")


def unreadable_folder(docs: Path, patch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if str(path) == str(docs / "deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    patch.setattr(os, "scandir", refuse)


@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        (bad_row, ALL),
        (unreadable_page, ALL),
        (unreadable_folder, ALL),
        (lambda docs, _: write(docs / "deep" / "table.jsonl", ""), ALL - {"t0", "t1", "t2"}),
        (lambda docs, _: write(docs / "deep" / "dog.md", " \n"), ALL - {"docs/deep/dog.md"}),
        (lambda docs, _: (docs / "deep" / "dog.md").unlink(), ALL - {"docs/deep/dog.md"}),
    ],
    ids=["bad row", "unreadable page", "unreadable folder", "emptied table", "emptied page", "removed page"],
)
def test_pruning_keeps_the_documents_of_what_could_not_be_read_whole(
    docs: Path,
    index: Path,
    tiny_model: Path,
    tiny_encoder: Encoder,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path, pytest.MonkeyPatch], None],
    kept: set[str],
) -> None:
    damage(docs, monkeypatch)
    pruned(index, docs, tiny_encoder)
    assert set(ids_of(index, tiny_encoder)) == kept


def test_pruning_keeps_what_a_cut_file_has_lost(tmp_path: Path, tiny_encoder: Encoder) -> None:
    path = tmp_path / "docs" / "table.jsonl.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress("\n".join(GOOD.format(n) for n in range(3000)).encode(), mtime=0))
    for _ in build(Recipe(sources=(Source(path=path.parent),), map=False), tmp_path / "index", encoder=tiny_encoder):
        pass
    path.write_bytes(path.read_bytes()[:-2000])
    last = pruned(tmp_path / "index", path.parent, tiny_encoder)
    assert 0 < last.protected < 3000
    assert len(ids_of(tmp_path / "index", tiny_encoder)) == 3000


ROW = '{{"id": "{0}", "text": "row {0}", "filler": "' + 20_000 * "x" + '"}}\n'
"""A row that is larger than what is decompressed at a time."""


def table(*numbers: int) -> bytes:
    return "".join(ROW.format(number) for number in numbers).encode()


def cut(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=0, mtime=0)[:-20]


MOVED: list[tuple[str, dict[str, bytes], dict[str, bytes], set[str]]] = [
    # ids that are left of documents 0 to 5
    ("a new name, whole", {"a.jsonl": table(*range(6))}, {"b.jsonl": table(0, 1)}, {"0", "1"}),
    ("a new name, cut", {"a.jsonl": table(*range(6))}, {"b.jsonl.gz": cut(table(*range(6)))}, set("012345")),
    ("a new name, a bad row", {"a.jsonl": table(*range(6))}, {"b.jsonl": table(0, 1) + b"{bad\n"}, set("012345")),
    (
        "between tables, one of them cut",
        {"a.jsonl": table(0, 1, 2), "b.jsonl.gz": gzip.compress(table(3, 4, 5))},
        {"a.jsonl": table(0, 1), "b.jsonl.gz": cut(table(2, 3, 4, 5))},
        set("012345"),
    ),
    (
        "a row gone from a table read whole, next to a bad row",
        {"a.jsonl": table(0, 1, 2), "b.jsonl": table(3, 4, 5)},
        {"a.jsonl": table(0, 1), "b.jsonl": table(3) + b"{bad\n"},
        {"0", "1", "3", "4", "5"},
    ),
    (
        "a page gone, next to a cut table",
        {"a.md": PAGE.encode(), "b.jsonl.gz": gzip.compress(table(0, 1))},
        {"b.jsonl.gz": cut(table(0, 1))},
        {"0", "1"},
    ),
    (
        "an id that only contains its file's name",
        {"a.jsonl": b'{"id": "xdocs/a.jsonly", "text": "x"}\n' + table(0), "b.jsonl.gz": gzip.compress(table(1))},
        {"a.jsonl": table(0), "b.jsonl.gz": cut(table(1, 2))},
        {"xdocs/a.jsonly", "0", "1"},
    ),
    (
        "a table gone, next to an unreadable page",
        {"a.jsonl": table(0, 1), "b.md": PAGE.encode(), "c.md": PAGE.encode()},
        {"b.md": b"\n\x80\x81 \xa5\xa6", "c.md": PAGE.encode()},
        {"docs/b.md", "docs/c.md"},
    ),
]


@pytest.mark.parametrize(("before", "after", "left"), [case[1:] for case in MOVED], ids=[case[0] for case in MOVED])
def test_pruning_keeps_what_may_have_moved_to_what_could_not_be_read(
    tmp_path: Path, tiny_encoder: Encoder, before: dict[str, bytes], after: dict[str, bytes], left: set[str]
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for name, content in before.items():
        (docs / name).write_bytes(content)
    for _ in build(Recipe(sources=(Source(path=docs),), map=False), tmp_path / "index", encoder=tiny_encoder):
        pass
    all_ids = set(ids_of(tmp_path / "index", tiny_encoder))
    for name in before:
        (docs / name).unlink()
    for name, content in after.items():
        (docs / name).write_bytes(content)
    changed = pruned(tmp_path / "index", docs, tiny_encoder)
    assert set(ids_of(tmp_path / "index", tiny_encoder)) == left
    assert changed.deleted == len(all_ids - left)


def test_a_folder_that_is_named_like_a_page_may_hold_any_rows(
    tmp_path: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = tmp_path / "docs"
    write(docs / "page.md", PAGE)
    (docs / "table.jsonl").write_bytes(table(0, 1))
    for _ in build(Recipe(sources=(Source(path=docs),), map=False), tmp_path / "index", encoder=tiny_encoder):
        pass
    (docs / "notes.md").mkdir()
    (docs / "table.jsonl").rename(docs / "notes.md" / "moved.jsonl")
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if str(path) == str(docs / "notes.md"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert pruned(tmp_path / "index", docs, tiny_encoder).deleted == 0


def test_pruning_by_documents_of_a_program_keeps_those_that_were_bad(index: Path, tiny_encoder: Encoder) -> None:
    records = records_of([{"id": "t0", "text": "row 0"}, {"id": "t1", "text": ""}], strict=False)
    *_, last = update(index, records, prune=True, skip_bad=True, device="cpu", threads=1)
    assert isinstance(last, UpdateResult)
    assert {"t0", "t1", "t2"} <= set(ids_of(index, tiny_encoder))
    assert last.protected > 0


def test_an_input_without_documents_prunes_only_what_was_read_whole(
    tmp_path: Path, index: Path, docs: Path, tiny_encoder: Encoder
) -> None:
    unmounted = tmp_path / "unmounted" / "docs"
    unmounted.mkdir(parents=True)
    damaged = tmp_path / "damaged" / "docs"
    write(damaged / "table.jsonl", "{bad")
    for folder, complaint in ((unmounted, "no file to index"), (damaged, "would lose all that it holds")):
        with pytest.raises(InputError, match=complaint):
            pruned(index, folder, tiny_encoder)
    assert set(ids_of(index, tiny_encoder)) == ALL
    for path in filter(Path.is_file, docs.rglob("*")):
        path.write_text("")
    assert pruned(index, docs, tiny_encoder).deleted == len(ALL)


def test_an_update_replaces_what_was_left_out_of_the_files_that_it_reads(
    docs: Path, index: Path, tiny_encoder: Encoder
) -> None:
    def bad_files() -> dict[str, int]:
        return {entry.file: entry.count for entry in manifest.left_out}

    write(docs / "deep" / "table.jsonl", "{bad\n{bad\n")
    write(docs / "other.jsonl", '{bad\n{"id": "o", "text": "good"}\n')
    manifest = updated(index, docs, root=None).manifest
    assert (bad_files(), manifest.skipped) == ({"docs/deep/table.jsonl": 2, "docs/other.jsonl": 1}, 3)
    write(docs / "other.jsonl", '{"id": "p", "text": "good"}\n')
    manifest = updated(index, docs / "other.jsonl", root=docs).manifest
    assert (bad_files(), manifest.skipped) == ({"docs/deep/table.jsonl": 2}, 2)
    # also if no document has changed
    write_jsonl(docs / "deep" / "table.jsonl", [{"id": f"t{n}", "text": f"row {n}"} for n in range(3)])
    last = updated(index, docs / "deep" / "table.jsonl", root=docs)
    assert (last.unchanged, last.replaced, last.manifest.left_out, last.manifest.skipped) == (3, 0, (), 0)
    assert read_manifest(index) == last.manifest


def updated(index: Path, source: Path, *, root: Path | None) -> UpdateResult:
    *_, last = update(index, read(Source(path=source), root), skip_bad=True, device="cpu", threads=1)
    assert isinstance(last, UpdateResult)
    return last


# tables with the same ids, and what the command line says


@pytest.fixture
def same_ids(tmp_path: Path) -> Path:
    folder = tmp_path / "tables"
    folder.mkdir()
    for name in ("a", "b"):
        rows = "".join(f"{n},row {n} of {name}\n" for n in range(1, 31))
        (folder / f"{name}.csv").write_text(f"id,text\n{rows}")
    write(folder / "page.md", PAGE)
    return folder


def test_tables_with_the_same_ids_are_told_apart_by_a_prefix(
    same_ids: Path, tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder, command: Command
) -> None:
    index = tmp_path / "index"
    options = ("--out", index, "--encoder", tiny_model, "--device", "cpu")
    done = command("build", same_ids, *options)
    assert done.returncode == 1
    for part in ("30 of 30 rows of tables/b.csv", "a second document of id '1'", "--id-prefix '{file}:'"):
        assert part in " ".join(done.stderr.split())
    assert command("build", same_ids, *options, "--id-prefix", "{file}:").returncode == 0
    ids = ids_of(index, tiny_encoder)
    assert len(ids) == 61
    assert {"tables/a.csv:1", "tables/b.csv:1", "tables/page.md"} <= set(ids)
    # an update of one file has the same ids
    done = command("update", index, same_ids / "b.csv", "--device", "cpu")
    assert "30 unchanged" in done.stderr


@pytest.mark.parametrize(
    ("prefix", "ids"),
    [
        ("", ["1", "t.csv:3", "x"]),
        ("faq-", ["faq-1", "faq-t.csv:3", "faq-x"]),
        ("{file}/", ["t.csv/1", "t.csv:3", "t.csv/x"]),
    ],
)
def test_a_prefix_precedes_ids_unless_they_name_the_file_already(tmp_path: Path, prefix: str, ids: list[str]) -> None:
    (tmp_path / "t.csv").write_text("id,text\n1,one\n,two\nx,three\n")
    records = read(Source(path=tmp_path / "t.csv", id_prefix=prefix))
    assert [record.id for record in records if isinstance(record, Document)] == ids


def test_a_build_lists_what_was_left_out_and_so_does_info(tmp_path: Path, tiny_model: Path, command: Command) -> None:
    folder = tmp_path / "docs"
    write(folder / "a.csv", "id,text\n" + "".join(f"{n},text {n}\n" for n in range(40)) + "x,1,2\ny,1,2,3\n")
    write(folder / "page.md", PAGE)
    write(folder / "empty.md", "")
    for n in range(3):
        write(folder / f"image{n}.png", "")
    options = ("--out", tmp_path / "index", "--encoder", tiny_model, "--device", "cpu")
    done = command("build", folder, *options)
    assert done.returncode == 0
    listed = [line for line in done.stderr.splitlines() if line.startswith("skipped: ")]
    assert len(listed) == 3
    assert f"{folder}/a.csv:42: 3 fields in a table of 2 columns (2 records)" in listed[0]
    assert "left out: 2 records, 1 empty file, 3 files of unknown formats" in done.stderr
    assert "files ending in .png are of an unknown format (3 not read)" in done.stderr
    shown = command("info", tmp_path / "index").stdout
    assert [line for line in shown.splitlines() if line.startswith("skipped: ")] == listed
    left_out = json.loads(command("info", tmp_path / "index", "--json").stdout)["left_out"]
    assert [(entry["kind"], entry["count"]) for entry in left_out] == [("record", 2), ("empty", 1), ("format", 3)]
    done = command("build", folder, *options, "--strict")
    assert (done.returncode, "a.csv:42: 3 fields" in done.stderr) == (1, True)
    assert command("build", folder, *options, "--skip-bad").returncode == 0


def test_the_documentation_of_this_project_can_be_indexed(tmp_path: Path, tiny_model: Path, command: Command) -> None:
    docs = Path(__file__).parents[2] / "docs"
    done = command("build", docs, "--out", tmp_path / "index", "--encoder", tiny_model, "--device", "cpu")
    assert done.returncode == 0, done.stderr
