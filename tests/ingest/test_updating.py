"""Changes of a published index: what is found afterwards, what it costs, and that nothing is ever half done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import JsonValue
from safetensors.numpy import save_file

from semsearch.encoders.encoder import Encoder
from semsearch.errors import IndexBusyError, IndexFolderError, InputError
from semsearch.ingest import updating
from semsearch.ingest.building import Skipped, save_map_points
from semsearch.ingest.encoding import Encoding
from semsearch.ingest.readers.files import BadRecord, Record
from semsearch.ingest.updating import OpenIndex, UpdateResult, _int8_ranges, compact, delete, update
from semsearch.search.engine import SearchEngine
from semsearch.storage.checking import check
from semsearch.storage.generations import (
    Generation,
    SegmentFiles,
    begin_build,
    current,
    open_current,
    publish,
    read_manifest,
    republish,
)
from semsearch.storage.manifest import Manifest
from semsearch.storage.projection import Projection
from semsearch.storage.vectors import VectorIndex
from semsearch.types import Document, Mode, Query, Vectors
from tests.conftest import ANIMALS, Command, build_index, hits_of, write_jsonl

QUERIES = ["nectar and honey", "swims up rivers", "animal of the sea", "a bird of prey", "loyal", "purrs"]


@pytest.fixture
def index(animals: Path, tmp_path: Path) -> Path:
    """An index of ANIMALS that may be changed."""
    return Path(shutil.copytree(animals, tmp_path / "index"))


def document(animal: Mapping[str, object]) -> Document:
    metadata = {name: str(value) for name, value in animal.items() if name not in {"id", "title", "text"}}
    return Document(str(animal["id"]), str(animal["title"]), str(animal["text"]), "animals.jsonl:1", metadata)


def added(index: Path, records: Iterable[Document | BadRecord], *, prune: bool = False) -> UpdateResult:
    *_, last = update(index, records, prune=prune, device="cpu", threads=1)
    assert isinstance(last, UpdateResult)
    assert check(index).problems == ()
    return last


def more(count: int, begin: int = 0) -> list[Document]:
    return [
        Document(f"n{n}", f"Note {n}", f"The {n}th note tells of word{n} and other{n % 7}.", "test", {"n": n})
        for n in range(begin, begin + count)
    ]


def found(index: Path, encoder: Encoder, *, mode: Mode | None = None) -> list[list[tuple[str, float]]]:
    engine = SearchEngine.open(index, encoder=encoder, threads=1)
    hits = hits_of(engine, [Query(text, k=10, mode=mode) for text in QUERIES])
    engine.close()
    return [[(hit.id, round(hit.score, 4)) for hit in one] for one in hits]


OWL = Document("owl", "Owl", "A bird that hunts mice at night.", "test", {"kind": "bird"})


@pytest.mark.parametrize(
    ("source", "metadata", "changed"),
    [
        ("test", {"flag": 1, "price": 2}, False),
        ("elsewhere", {"flag": 1, "price": 2}, True),
        ("table.jsonl:3", {"flag": 1, "price": 2}, True),
        ("test", {"flag": True, "price": 2}, True),
        ("test", {"flag": 1, "price": 2.0}, True),
        ("test", {"flag": "1", "price": 2}, True),
        ("test", {"flag": 1, "price": None}, True),
        ("test", {"flag": 1, "price": [2]}, True),
        ("test", {"price": 2, "flag": 1}, False),
    ],
)
def test_any_change_of_source_or_metadata_is_a_change(
    index: Path, source: str, metadata: dict[str, JsonValue], changed: bool
) -> None:
    added(index, [replace(OWL, metadata={"flag": 1, "price": 2})])
    last = added(index, [replace(OWL, source=source, metadata=metadata)])
    assert (last.replaced, last.unchanged) == ((1, 0) if changed else (0, 1))


def test_a_row_that_moved_within_its_file_is_unchanged_and_one_of_another_file_has_its_new_source(
    index: Path, tiny_encoder: Encoder
) -> None:
    added(index, [replace(OWL, source="a.jsonl:1")])
    assert added(index, [replace(OWL, source="a.jsonl:20")]).unchanged == 1
    assert added(index, [replace(OWL, source="b.csv:20")]).replaced == 1
    engine = SearchEngine.open(index, encoder=tiny_encoder, threads=1)
    assert engine.document("owl") == replace(OWL, source="b.csv:20")
    engine.close()


@pytest.mark.parametrize("opened", [False, True], ids=["command", "server"])
def test_passages_that_did_not_change_are_not_encoded_again(
    index: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch, opened: bool
) -> None:
    encoded: list[str] = []
    encode = Encoder.encode_passages

    def recorded(self: Encoder, texts: Sequence[str], *, with_tokens: bool) -> Any:
        encoded.extend(texts)
        return encode(self, texts, with_tokens=with_tokens)

    monkeypatch.setattr(Encoder, "encode_passages", recorded)
    engine = SearchEngine.open(index, encoder=tiny_encoder, threads=1)
    others = OpenIndex(engine.corpus, tiny_encoder, tiny_encoder.encode_passages) if opened else None

    def changed(*documents: Document) -> list[str]:
        encoded.clear()
        for _ in update(index, documents, opened=others, device="cpu", threads=1):
            pass
        return encoded

    chapters = [f"chapter{chapter} " + " ".join(f"word{chapter}n{n}." for n in range(400)) for chapter in range(3)]
    book = Document("book", "Book", "\n\n".join(chapters), "test", {"price": "7"})
    whole = len(changed(book, OWL))
    assert whole > 5
    assert changed(replace(book, metadata={"price": 7}), replace(OWL, source="b.csv:3")) == []
    assert 0 < len(changed(replace(book, text=book.text + " The end."))) < whole / 2
    assert len(changed(replace(book, title="Novel"))) == whole - 1
    assert check(index).problems == ()
    engine.close()
    # the copied vectors are those of their passages
    engine = SearchEngine.open(index, encoder=tiny_encoder, threads=1)
    rows = engine.corpus.live_rows
    texts = engine.corpus.encoder_texts(rows)
    np.testing.assert_allclose(
        engine.corpus.vectors(rows), encode(tiny_encoder, texts, with_tokens=False).vectors, atol=1e-5
    )
    engine.close()


def test_documents_are_added_replaced_and_left_alone(index: Path, tiny_encoder: Encoder) -> None:
    bee = Document("bee", "Bee", "An insect that nobody ever saw swim up rivers.", "test", {"kind": "insect"})
    last = added(index, [OWL, bee, *(document(one) for one in ANIMALS[:4])])
    assert (last.added, last.replaced, last.unchanged, last.deleted) == (1, 1, 4, 0)
    assert read_manifest(index) == last.manifest
    assert (last.manifest.documents, last.manifest.passages) == (7, 7)
    engine = SearchEngine.open(index, encoder=tiny_encoder, threads=1)
    assert engine.document("bee") == bee
    assert hits_of(engine, [Query("hunts mice at night")])[0][0].id == "owl"
    assert sorted(engine.corpus.all_doc_ids()) == sorted([*(str(one["id"]) for one in ANIMALS), "owl"])
    engine.close()


def test_nothing_new_makes_no_generation(index: Path) -> None:
    before = current(index)
    last = added(index, [document(one) for one in ANIMALS])
    assert (last.unchanged, last.added, current(index)) == (6, 0, before)
    assert delete(index, ["nobody"]).unknown == ("nobody",)
    assert current(index) == before


@pytest.mark.parametrize("mode", list(Mode))
def test_many_changes_find_what_one_build_finds(
    tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updating, "MAX_MERGE_RATIO", 0)  # every change a segment of its own
    records = [
        {"id": f"n{n}", "title": f"Note {n}", "text": f"word{n} {QUERIES[n % 6]} other{n % 7}"} for n in range(60)
    ]
    changed = build_index(tmp_path / "changed", write_jsonl(tmp_path / "a.jsonl", records[:40]), model=tiny_model)
    for start in (40, 47, 54):
        added(changed.folder, [document(one) for one in records[start : start + 7]])
    delete(changed.folder, ["n3", "n45", "n59"])
    kept = [one for one in records if one["id"] not in {"n3", "n45", "n59"}]
    fresh = build_index(tmp_path / "fresh", write_jsonl(tmp_path / "b.jsonl", kept), model=tiny_model)
    # of what was deleted its words still count for how rare a word is
    assert len(read_manifest(changed.folder).segments) == 4
    if mode is Mode.SEMANTIC:
        assert found(changed.folder, tiny_encoder, mode=mode) == found(fresh.folder, tiny_encoder, mode=mode)
    *_, last = compact(changed.folder, device="cpu", threads=1)
    assert isinstance(last, UpdateResult)
    assert last.compacted
    assert len(last.manifest.segments) == 1
    assert check(changed.folder).problems == ()
    assert found(changed.folder, tiny_encoder, mode=mode) == found(fresh.folder, tiny_encoder, mode=mode)
    one, other = (SearchEngine.open(folder, encoder=tiny_encoder) for folder in (changed.folder, fresh.folder))
    np.testing.assert_array_equal(one.adapter.basis.eigenvalues, other.adapter.basis.eigenvalues)
    one.close()
    other.close()


def test_a_word_is_worth_in_a_small_segment_what_it_is_in_the_large_one(
    index: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updating, "MAX_MERGE_RATIO", 0)
    # by its own count "animal" would be as rare there as "purrs"
    added(index, [Document("cat2", "Cat", "A small animal that purrs and hunts mice.", "test", {})])
    engine = SearchEngine.open(index, encoder=tiny_encoder, threads=1)
    for query in ("purrs", "animal that purrs", '"hunts mice" small'):
        (hits,) = hits_of(engine, [Query(query, mode=Mode.KEYWORD)])
        scores = {hit.id: hit.score for hit in hits}
        assert scores["cat2"] == pytest.approx(scores["cat"], rel=0.2)
    engine.close()


def test_small_segments_are_written_together_and_large_ones_left_alone(index: Path) -> None:
    added(index, more(200))
    inode = {path.name: path.stat().st_ino for path in current(index).rglob("*.sqlite")}
    segments = []
    for n in range(200, 230):
        last = added(index, more(1, n))
        segments.append([one.passages - one.deleted_passages for one in last.manifest.segments])
    assert segments[0][0] >= 200
    assert segments[0] == [206, 1]
    assert max(map(len, segments)) <= 4
    assert segments[-1][0] == 206
    assert sum(segments[-1]) == 236
    first = current(index) / read_manifest(index).segments[0].name / "documents.sqlite"
    assert first.stat().st_ino in inode.values()


def test_the_vectors_of_an_update_are_in_a_file(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Vectors] = []

    def save(files: SegmentFiles, projection: Projection, vectors: Vectors) -> None:
        written.append(vectors)
        save_map_points(files, projection, vectors)

    monkeypatch.setattr(updating, "save_map_points", save)
    added(index, more(3))
    added(index, [replace(more(1)[0], text="Another text of word0."), *more(2, 3)])
    # the second merges the segment of the first, without the passage that it replaces
    assert [len(vectors) for vectors in written] == [9, 11]
    assert all(isinstance(vectors, np.memmap) for vectors in written)


def test_new_documents_find_their_place_on_the_map_which_is_drawn_anew_once_it_is_outgrown(
    index: Path, tiny_encoder: Encoder
) -> None:
    def drawn() -> tuple[bytes, dict[str, list[float]]]:
        engine = SearchEngine.open(index, encoder=tiny_encoder, threads=1)
        places = engine.corpus.map_points()
        assert places is not None
        rows = np.flatnonzero(np.isfinite(places).all(axis=1))
        found = dict(zip(engine.corpus.doc_ids(rows), places[rows].tolist(), strict=True))
        engine.close()
        return (current(index) / "map.safetensors").read_bytes(), found

    before, places = drawn()
    assert set(places) == {str(animal["id"]) for animal in ANIMALS}
    delete(index, ["dog"])
    added(index, [OWL, *more(3)])
    same, then = drawn()
    assert same == before
    assert {one: then[one] for one in places if one != "dog"} == {one: places[one] for one in places if one != "dog"}
    assert set(then) - set(places) == {"owl", "n0", "n1", "n2"}
    assert "dog" not in then
    *_, last = compact(index, device="cpu", threads=1)
    assert isinstance(last, UpdateResult)
    assert drawn() == (before, then)
    added(index, more(20, begin=3))
    delete(index, ["owl"])
    *_, last = compact(index, device="cpu", threads=1)
    redrawn, all_of_them = drawn()
    assert redrawn != before
    assert len(all_of_them) == 28


def test_deleted_documents_are_not_found_and_leave_when_all_are_gone(
    index: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updating, "MAX_MERGE_RATIO", 0)
    added(index, [OWL])
    last = delete(index, ["bee", "owl", "bee"])
    assert (last.deleted, last.unknown) == (2, ())
    assert [one.name for one in last.manifest.segments] == ["s-000001"]
    assert check(index).problems == ()
    for mode in Mode:
        ids = {one for hits in found(index, tiny_encoder, mode=mode) for one, _ in hits}
        assert ids.isdisjoint({"bee", "owl"})
    engine = SearchEngine.open(index, encoder=tiny_encoder, threads=1)
    assert engine.document("bee") is None
    assert engine.corpus.existing_ids(["bee", "cat"]) == {"cat"}
    assert len(hits_of(engine, [Query("animal", k=100)])[0]) == 5
    assert hits_of(engine, [Query("bee", mode=Mode.KEYWORD)]) == [[]]
    engine.close()
    assert added(index, [OWL]).added == 1


def test_an_index_may_lose_everything_and_be_filled_again(index: Path, tiny_encoder: Encoder) -> None:
    delete(index, [str(one["id"]) for one in ANIMALS])
    assert read_manifest(index).documents == 0
    assert check(index).problems == ()
    assert found(index, tiny_encoder) == [[]] * len(QUERIES)
    *_, last = compact(index, device="cpu", threads=1)
    assert isinstance(last, UpdateResult)
    assert not last.compacted
    added(index, [OWL])
    assert [hits[0][0] for hits in found(index, tiny_encoder)] == ["owl"] * len(QUERIES)


def test_prune_deletes_what_was_not_read(index: Path) -> None:
    last = added(index, [OWL, *(document(one) for one in ANIMALS[:2])], prune=True)
    assert (last.added, last.unchanged, last.deleted) == (1, 2, 4)
    with pytest.raises(InputError, match="would lose all"):
        added(index, [], prune=True)


def test_whoever_reads_the_old_state_goes_on_with_it(index: Path, tiny_encoder: Encoder) -> None:
    before = SearchEngine.open(index, encoder=tiny_encoder, threads=1)
    assert before.reopened() is None
    delete(index, ["bee"])
    added(index, [OWL])
    assert hits_of(before, [Query("nectar and honey")])[0][0].id == "bee"
    newer = before.reopened()
    assert newer is not None
    assert hits_of(newer, [Query("hunts mice at night")])[0][0].id == "owl"
    assert newer.manifest == read_manifest(index)
    before.close()
    assert hits_of(newer, [Query("nectar and honey")])[0][0].id != "bee"
    newer.close()


def test_what_two_states_have_in_common_is_opened_once(
    index: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updating, "MAX_MERGE_RATIO", 0)
    engine = SearchEngine.open(index, encoder=tiny_encoder, threads=1)
    added(index, [OWL])
    newer = engine.reopened()
    assert newer is not None
    assert newer.corpus.segments[0] is engine.corpus.segments[0]
    assert newer.adapter.basis.mean.tolist() == engine.adapter.basis.mean.tolist()
    engine.close()
    newer.close()


def test_bad_records_end_a_change_or_are_left_out(index: Path) -> None:
    before = current(index)
    bad = BadRecord("a.jsonl:2", "not JSON", named=True)
    cases: list[tuple[list[Record], str]] = [
        ([OWL, bad], r"a.jsonl:2: not JSON .*(--skip-bad|strict)"),
        ([OWL, OWL], "a second document of id 'owl'"),
    ]
    for records, complaint in cases:
        for skip_bad in (None, False):
            with pytest.raises(InputError, match=complaint):
                list(update(index, records, skip_bad=skip_bad, device="cpu", threads=1))
    assert current(index) == before
    events = list(update(index, [OWL, bad, OWL], skip_bad=True, device="cpu", threads=1))
    assert [event.record.location for event in events if isinstance(event, Skipped)] == ["a.jsonl:2", "test"]
    assert read_manifest(index).documents == 7


def test_a_change_that_is_broken_off_leaves_the_old_state_and_nothing_else(index: Path) -> None:
    before, there = current(index), sorted(path.name for path in index.rglob("*"))
    events = update(index, [OWL], device="cpu", threads=1)
    for event in events:
        if isinstance(event, Encoding) and event.passages:
            break
    events.close()  # type: ignore[attr-defined]
    # what was encoded is kept for the next one
    assert sorted(path.name for path in index.rglob("*")) == sorted([*there, "unfinished.sqlite"])
    assert current(index) == before
    added(index, [OWL])
    assert not list(index.glob("unfinished*"))


def test_a_second_writer_is_told(index: Path) -> None:
    with begin_build(index):
        for change in (lambda: delete(index, ["bee"]), lambda: list(update(index, [OWL], device="cpu"))):
            with pytest.raises(IndexBusyError, match="another build or change is writing"):
                change()


def test_another_encoder_is_refused_with_the_remedy(index: Path, tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    other = Path(shutil.copytree(tiny_model, tmp_path / "other"))
    weights = next(other.rglob("*.safetensors"))
    save_file({name: torch.zeros_like(value) + 1 for name, value in load_file(weights).items()}, weights)
    manifest = next(index.glob("g-*")) / "manifest.json"
    manifest.write_text(manifest.read_text().replace(str(tiny_model), str(other)))
    with pytest.raises(IndexFolderError, match=r"of weights .* build the index again"):
        added(index, [OWL])


def test_an_encoder_of_another_configuration_is_refused(index: Path) -> None:
    added(index, [OWL])
    manifest = current(index) / "manifest.json"
    values = json.loads(manifest.read_text())
    values["encoder"]["configuration_sha256"] = 64 * "0"
    values["recipe"]["index"] = {"type": "hnsw"}  # so that the compaction encodes queries to measure the graph
    manifest.write_text(json.dumps(values))
    for change in (lambda: added(index, [OWL, *more(3)]), lambda: list(compact(index, device="cpu", threads=1))):
        with pytest.raises(IndexFolderError, match=r"another tokenizer, pooling or window: .* build the index again"):
            change()


def test_a_damaged_segment_is_seen_at_the_next_opening(index: Path) -> None:
    path = current(index) / "s-000001" / "documents.sqlite"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    delete(index, ["bee"])
    with pytest.raises(IndexFolderError, match="has changed since it was built"):
        open_current(index)
    assert "has changed since" in check(index).problems[0]


def test_a_compaction_measures_what_an_update_has_merged_into_one_segment(index: Path) -> None:
    before = read_manifest(index)
    assert (before.encoder_fit, before.needs_measuring) == (None, False)
    added(index, more(150))
    merged = read_manifest(index)
    assert (len(merged.segments), merged.deleted, merged.needs_measuring) == (1, 0, True)
    added(index, more(150))  # changes nothing
    assert read_manifest(index).needs_measuring
    basis = (current(index) / "basis.safetensors").read_bytes()
    *_, last = compact(index, device="cpu", threads=1)
    assert isinstance(last, UpdateResult)
    assert last.compacted
    measured = read_manifest(index)
    assert measured.encoder_fit is not None
    assert not measured.needs_measuring
    assert (current(index) / "basis.safetensors").read_bytes() != basis
    *_, last = compact(index, device="cpu", threads=1)
    assert isinstance(last, UpdateResult)
    assert not last.compacted
    delete(index, ["bee"])
    assert read_manifest(index).needs_measuring


def test_a_compaction_upgrades_an_index_of_an_earlier_version(index: Path, tiny_encoder: Encoder) -> None:
    delete(index, ["bee"])
    before = found(index, tiny_encoder)
    # as it was before full text had files of its own
    former = Generation(Path(shutil.copytree(current(index), index / "building-former")))
    shutil.rmtree(former.segment("s-000001").fulltext)
    manifest = read_manifest(index)
    segments = [segment.model_copy(update={"fulltext_version": 0}) for segment in manifest.segments]
    former.manifest.unlink()
    row = [animal["id"] for animal in ANIMALS].index("bee")
    save_file({"s-000001": np.array([row])}, former.deleted)
    publish(former, manifest.with_segments(segments).model_copy(update={"files": {}}))
    for change in (
        lambda: SearchEngine.open(index, encoder=tiny_encoder),
        lambda: added(index, [OWL]),
        lambda: delete(index, ["cat"]),
    ):
        with pytest.raises(IndexFolderError, match=f"upgrade it with `semsearch compact {index}`"):
            change()
    *_, last = compact(index, device="cpu", threads=1)
    assert isinstance(last, UpdateResult)
    assert last.compacted
    assert check(index).problems == ()
    assert found(index, tiny_encoder) == before
    *_, last = compact(index, device="cpu", threads=1)
    assert isinstance(last, UpdateResult)
    assert not last.compacted


@pytest.mark.parametrize(
    ("recipe_weight", "tuned", "upgraded"), [(None, None, "auto"), (0.2, None, 0.2), (None, {"queries": 20}, 0.2)]
)
def test_an_upgrade_keeps_a_lexical_weight_that_was_chosen(
    index: Path, recipe_weight: float | None, tuned: dict[str, JsonValue] | None, upgraded: float | str
) -> None:
    def as_of_earlier(manifest: Manifest) -> Manifest:
        segments = [segment.model_copy(update={"fulltext_version": 3}) for segment in manifest.segments]
        search = manifest.search.model_copy(update={"lexical_weight": 0.2})
        recipe = manifest.recipe | ({} if recipe_weight is None else {"search": {"lexical_weight": recipe_weight}})
        changed: dict[str, object] = {"search": search, "recipe": recipe, "tuned": tuned}
        return manifest.with_segments(segments).model_copy(update=changed)

    republish(index, as_of_earlier)
    list(compact(index, device="cpu", threads=1))
    assert read_manifest(index).search.lexical_weight == upgraded


def test_an_index_that_grows_measures_whether_the_encoder_reads_the_corpus(index: Path) -> None:
    assert read_manifest(index).encoder_fit is None
    topics = [f"topic{number % 20} subject{number % 20}" for number in range(200)]
    added(index, [Document(f"d{number}", "", text, "") for number, text in enumerate(topics)])
    fit = read_manifest(index).encoder_fit
    assert fit is not None
    assert (fit.passages, fit.reads_language) == (206, True)
    delete(index, ["d0"])
    assert read_manifest(index).encoder_fit == fit
    list(compact(index, device="cpu", threads=1))
    fit = read_manifest(index).encoder_fit
    assert fit is not None
    assert (fit.passages, fit.reads_language) == (205, True)


def test_an_index_of_an_earlier_version_that_holds_no_documents_must_be_built_again(index: Path) -> None:
    delete(index, [str(animal["id"]) for animal in ANIMALS])
    manifest = read_manifest(index)
    former = [segment.model_copy(update={"fulltext_version": 0}) for segment in manifest.segments]
    republish(index, lambda before: before.with_segments(former))
    with pytest.raises(IndexFolderError, match="holds no documents any more: build the index again"):
        list(compact(index, device="cpu", threads=1))


def test_an_index_of_a_later_version_is_refused(index: Path, tiny_encoder: Encoder) -> None:
    def as_of_later(manifest: Manifest) -> Manifest:
        return manifest.with_segments(
            [segment.model_copy(update={"fulltext_version": 99}) for segment in manifest.segments]
        )

    republish(index, as_of_later)
    with pytest.raises(IndexFolderError, match="by a later semsearch"):
        SearchEngine.open(index, encoder=tiny_encoder)
    with pytest.raises(IndexFolderError, match="by a later semsearch"):
        list(compact(index, device="cpu", threads=1))


def test_what_was_deleted_does_not_count_for_how_rare_a_word_is(
    index: Path, tiny_encoder: Encoder, tmp_path: Path, tiny_model: Path
) -> None:
    def scores(folder: Path) -> dict[str, dict[str, float]]:
        engine = SearchEngine.open(folder, encoder=tiny_encoder, threads=1)
        queries = ["owl night", "hunts mice", "purrs", "animal"]
        hits = hits_of(engine, [Query(text, k=50, mode=Mode.KEYWORD) for text in queries])
        engine.close()
        return {
            query: {hit.id: round(hit.score, 3) for hit in of_query}
            for query, of_query in zip(queries, hits, strict=True)
        }

    owls = [replace(OWL, id=f"owl{n}", text=OWL.text + " A cat purrs.") for n in range(30)]
    added(index, owls)
    with_owls = scores(index)
    added(index, [replace(owl, text="A bird.") for owl in owls[:10]])
    delete(index, [owl.id for owl in owls])
    without = scores(index)
    *_, last = compact(index, device="cpu", threads=1)
    assert isinstance(last, UpdateResult)
    assert last.compacted
    compacted = scores(index)
    assert {query: list(hits) for query, hits in without.items()} == {
        query: list(hits) for query, hits in compacted.items()
    }
    for query, hits in compacted.items():
        for doc_id, score in hits.items():
            # the mean length of passages still counts what was deleted
            assert without[query][doc_id] == pytest.approx(score, rel=0.2), (query, doc_id)
    assert with_owls["purrs"]["cat"] < 0.5 * without["purrs"]["cat"]


def stored_vectors(index: Path, encoder: Encoder) -> dict[str, tuple[float, ...]]:
    """The vector of each document, as the index decodes it."""
    engine = SearchEngine.open(index, encoder=encoder, threads=1)
    rows = engine.corpus.live_rows
    vectors = engine.corpus.vectors(rows).tolist()
    doc_ids = engine.corpus.doc_ids(rows)
    engine.close()
    return dict(zip(doc_ids, map(tuple, vectors), strict=True))


def build_int8(tmp_path: Path, model: Path, *, index_type: str, count: int = 80) -> Path:
    source = write_jsonl(
        tmp_path / "notes.jsonl", [{"id": note.id, "title": note.title, "text": note.text} for note in more(count)]
    )
    options = {"type": index_type, "vectors": "int8", "recall": 0.1}
    return build_index(tmp_path / "index", source, model=model, index=options, map=False).folder


@pytest.mark.parametrize("index_type", ["exact", "hnsw", "ivf"])
def test_int8_vectors_are_the_same_after_many_compactions(
    index_type: str, tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder
) -> None:
    index = build_int8(tmp_path, tiny_model, index_type=index_type)
    first = stored_vectors(index, tiny_encoder)
    for number in range(10):
        delete(index, [f"n{number}"])
        # the same text as of another document: its vector is within the ranges
        added(index, [replace(more(1, 79)[0], id=f"twin{number}")])
        *_, last = compact(index, device="cpu", threads=1)
        assert isinstance(last, UpdateResult)
        [segment] = last.manifest.segments
        assert (segment.index.type, segment.index.vectors) == (index_type, "int8")
        assert segment.index.reason.endswith("recall is against the stored int8 vectors, not the encoder's")
        kept = stored_vectors(index, tiny_encoder)
        assert {doc_id: vector for doc_id, vector in kept.items() if doc_id.startswith("n")} == {
            f"n{n}": first[f"n{n}"] for n in range(number + 1, 80)
        }
        assert kept[f"twin{number}"] == first["n79"]


def test_int8_ranges_are_widened_for_vectors_outside_them(
    tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder
) -> None:
    index = build_int8(tmp_path, tiny_model, index_type="exact")
    outside = [document(animal) for animal in ANIMALS]
    added(index, outside)
    list(compact(index, device="cpu", threads=1))
    stored = stored_vectors(index, tiny_encoder)
    expected = tiny_encoder.encode_documents([f"{one.title}\n{one.text}" for one in [*outside, *more(80)]])
    errors = np.abs(np.array([stored[one.id] for one in [*outside, *more(80)]]) - expected)
    # two roundings of at most half a step, of a range of at most 2
    assert errors.max() < 2 / 255


def test_the_ranges_of_int8_codes_are_kept_and_widened_where_a_component_is_outside() -> None:
    ranges = np.array([[-1, 0, 0.5], [2, 1, 0]], np.float32)
    index = VectorIndex.exact(3, precision="int8")
    index.train(np.zeros((1, 3), np.float32), ranges)
    index.add(np.array([[1, 0.25, 0.5]], np.float32))
    segment = SimpleNamespace(vectors=index)
    inside = np.array([[1.003, 0, 0.5], [-1, 1.003, 0.5]], np.float32)
    kept = _int8_ranges([segment], inside)  # type: ignore[list-item]
    assert kept is not None
    assert np.array_equal(kept, ranges)
    outside = np.array([[3, -1, 0.5], [0, 1.5, 0.75]], np.float32)
    widened = _int8_ranges([segment], outside)  # type: ignore[list-item]
    assert widened is not None
    assert np.array_equal(widened, np.array([[-1, -1, 0.5], [4, 2.5, 0.25]], np.float32))
    assert _int8_ranges([SimpleNamespace(vectors=VectorIndex.exact(3))], inside) is None  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("index_type", "kept"), [("hnsw", 700), ("ivf", None), ("exact", None)], ids=["same", "lists", "exact"]
)
def test_a_compaction_removes_ef_search_if_the_type_changes(
    index_type: str, kept: int | None, tmp_path: Path, tiny_model: Path, command: Command
) -> None:
    index = build_int8(tmp_path, tiny_model, index_type="hnsw")
    republish(
        index,
        lambda manifest: manifest.model_copy(
            update={
                "search": manifest.search.model_copy(update={"ef_search": 700}),
                "recipe": {**manifest.recipe, "index": {"type": index_type, "recall": 0.1}},
            }
        ),
    )
    delete(index, ["n0"])
    done = command("compact", index)
    assert done.returncode == 0
    manifest = read_manifest(index)
    assert (manifest.index.type, manifest.search.ef_search) == (index_type, kept)
    told = f"search.ef_search = 700 was removed, because the index is now of type {index_type}" in done.stderr
    assert told == (kept is None)


def test_a_change_that_misses_the_recall_says_how_to_change_the_options(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = build_int8(tmp_path, tiny_model, index_type="exact")
    monkeypatch.setattr("semsearch.ingest.index_selection._is_enough", lambda *_, **__: False)
    monkeypatch.setattr(updating, "MAX_SMALL_SEGMENT", 2)
    before = read_manifest(index)
    remedy = "options that it was built with, so change them in its recipe and build it again"
    with pytest.raises(InputError, match=f"set index.recall lower.*{remedy}"):
        added(index, more(5, begin=80))
    delete(index, ["n0"])
    with pytest.raises(InputError, match=f"set index.recall lower.*{remedy}"):
        list(compact(index, device="cpu", threads=1))
    assert read_manifest(index).segments[0].index == before.segments[0].index
