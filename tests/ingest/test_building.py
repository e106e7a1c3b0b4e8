"""A build from its first event to its last, and every way in which it can fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from itertools import repeat
from pathlib import Path

import faiss
import numpy as np
import pytest

from semsearch.adapters.cosine_scale import REFERENCE_SPREAD
from semsearch.api import Index
from semsearch.encoders.encoder import EncodedPassages, Encoder
from semsearch.errors import IndexFolderError, InputError
from semsearch.ingest import encoding
from semsearch.ingest.building import LoadingEncoder, Published, Reading, Skipped, build
from semsearch.ingest.encoding import Encoding, Resuming, encode_passages, open_checkpoint
from semsearch.ingest.recipe import Recipe
from semsearch.search.engine import SearchEngine
from semsearch.storage.checking import check
from semsearch.storage.documents import DocumentWriter
from semsearch.storage.manifest import LEXICAL_WEIGHT, UNREAD_LEXICAL_WEIGHT
from semsearch.system.files import temp_memmap
from semsearch.types import Document, LexicalWeight, Passage, Query, Vectors
from semsearch.types import unit_rows as unit_rows_of
from tests.adapters.test_adapter import unit_rows
from tests.conftest import ANIMALS, build_index, hits_of, write_jsonl


def recipe(source: Path, model: Path, **more: object) -> Recipe:
    return Recipe.model_validate({"sources": [{"path": source}], "encoder": {"model": str(model)}} | more)


@pytest.fixture
def old(tmp_path: Path, tiny_model: Path) -> Path:
    """An index that is there before."""
    source = write_jsonl(tmp_path / "old.jsonl", ANIMALS)
    return build_index(tmp_path / "index", source, model=tiny_model).folder


def assert_serves(folder: Path, encoder: Encoder, *, documents: int = 6) -> None:
    engine = SearchEngine.open(folder, encoder=encoder)
    assert engine.manifest.documents == documents
    assert hits_of(engine, [Query("nectar and honey")])[0][0].id == "bee"
    engine.close()
    left = sorted(path.name[:2] for path in folder.iterdir() if not path.name.startswith("unfinished.sqlite"))
    assert left == ["cu", "g-", "lo"]


def test_events_tell_what_happens(tmp_path: Path, tiny_model: Path) -> None:
    source = write_jsonl(tmp_path / "animals.jsonl", ANIMALS)
    events = list(build(recipe(source, tiny_model), tmp_path / "index", device="cpu"))
    assert events[0] == LoadingEncoder(str(tiny_model))
    assert events[1:7] == [Reading(number, number) for number in range(1, 7)]
    assert isinstance(events[-1], Published)
    encoding = [event for event in events if isinstance(event, Encoding)]
    assert (encoding[0].passages, encoding[-1].passages, encoding[-1].of_passages) == (0, 6, 6)
    assert encoding[-1].tokens == encoding[-1].of_tokens > 0


TOPICS = [{"id": f"d{number}", "text": f"topic{number % 20} subject{number % 20}"} for number in range(200)]


@pytest.mark.parametrize(
    ("search", "by_chance", "weight"),
    [
        ({}, False, LEXICAL_WEIGHT),
        ({}, True, UNREAD_LEXICAL_WEIGHT),
        ({"lexical_weight": 0.4}, True, 0.4),
        ({"lexical_weight": "rrf"}, True, "rrf"),
    ],
)
def test_keywords_weigh_more_where_the_encoder_does_not_read_the_corpus(
    tmp_path: Path, tiny_encoder: Encoder, search: Mapping[str, object], by_chance: bool, weight: LexicalWeight
) -> None:
    vectors = unit_rows(200, dimension=tiny_encoder.dimension)
    documents = [Document(str(topic["id"]), "", str(topic["text"]), "") for topic in TOPICS]
    chosen = Recipe.model_validate({"search": search, "map": False})
    *_, last = build(
        chosen, tmp_path / "index", records=documents, vectors=vectors if by_chance else None, encoder=tiny_encoder
    )
    assert isinstance(last, Published)
    assert last.manifest.encoder_fit is not None
    assert last.manifest.encoder_fit.reads_language is not by_chance
    assert last.manifest.lexical_weight == weight


@pytest.mark.parametrize("common", [0.0, 1.0, 3.0])
def test_keywords_weigh_less_where_cosines_hardly_vary(tmp_path: Path, tiny_encoder: Encoder, common: float) -> None:
    documents = [Document(str(topic["id"]), "", str(topic["text"]), "") for topic in TOPICS]
    vectors = tiny_encoder.encode_all("document", [document.text for document in documents])
    vectors = unit_rows_of(vectors - vectors.mean(axis=0) + common * np.eye(1, vectors.shape[1], dtype=np.float32))
    chosen = Recipe.model_validate({"map": False})
    *_, last = build(chosen, tmp_path / "index", records=documents, vectors=vectors, encoder=tiny_encoder)
    assert isinstance(last, Published)
    fit = last.manifest.encoder_fit
    assert fit is not None
    assert fit.spread is not None
    cosines = vectors @ vectors.T
    spread = np.mean([np.delete(row, number).std() for number, row in enumerate(cosines)])
    assert fit.spread == pytest.approx(spread, abs=1e-3)
    assert last.manifest.lexical_weight == fit.lexical_weight
    assert fit.lexical_weight == pytest.approx(LEXICAL_WEIGHT * min(1, spread / REFERENCE_SPREAD), abs=2e-3)
    assert (fit.lexical_weight < LEXICAL_WEIGHT / 2) is (common > 2)


def test_vectors_are_cut_if_the_recipe_says_so(tmp_path: Path, tiny_model: Path) -> None:
    source = write_jsonl(tmp_path / "animals.jsonl", ANIMALS)
    cut = recipe(source, tiny_model, encoder={"model": str(tiny_model), "dimension": 8})
    *_, last = build(cut, tmp_path / "index", device="cpu")
    assert isinstance(last, Published)
    assert last.manifest.encoder.dimension == 8
    engine = SearchEngine.open(tmp_path / "index", device="cpu")
    assert engine.corpus.dimension == engine.encoder.dimension == 8
    assert len(hits_of(engine, [Query("nectar and honey")])[0]) == 6
    engine.close()


def test_an_index_opens_after_a_rebuild_with_vectors_of_another_dimension(tmp_path: Path, tiny_model: Path) -> None:
    source, folder = write_jsonl(tmp_path / "animals.jsonl", ANIMALS), tmp_path / "index"
    for dimension, reason in ((32, "Memorized"), (16, "damaged")):
        cut = recipe(source, tiny_model, encoder={"model": str(tiny_model), "dimension": dimension})
        list(build(cut, folder, device="cpu"))
        with Index.open(folder, device="cpu") as index:
            if dimension == 32:
                index.domain("team").label("who buzzes", "bee")
                index.domain("team").adapt()
            assert len(index.search("who buzzes", domain="team")) == 6
            assert index._engine.adapter.for_domain("team").reason.startswith(reason)
    assert any("is for vectors of 32 dimensions, the index has 16" in problem for problem in check(folder).problems)


def test_an_interrupted_build_is_not_continued_with_vectors_of_another_dimension(
    tmp_path: Path, tiny_model: Path
) -> None:
    for dimension in (8, 32, 16):
        encoder = Encoder.open(str(tiny_model), device="cpu", dimension=dimension)
        with open_checkpoint(tmp_path, encoder, with_tokens=False) as checkpoint:
            assert checkpoint.missing(["honey"]) == ["honey"]
            checkpoint.add(["honey"], encoder.encode_passages(["honey"], with_tokens=False))


def test_vectors_are_in_the_order_of_rows(old: Path, tiny_encoder: Encoder) -> None:
    engine = SearchEngine.open(old, encoder=tiny_encoder)
    for row, (identity, text) in enumerate(engine.corpus.texts()):
        vector = tiny_encoder.encode_documents([text])
        assert engine.corpus.search_vectors(vector, 1)[1].tolist() == [[row]]
        assert identity == ANIMALS[row]["id"]
    engine.close()


def test_a_rebuild_takes_the_old_ones_place(old: Path, tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder) -> None:
    build_index(old, write_jsonl(tmp_path / "new.jsonl", ANIMALS[2:5]), model=tiny_model)
    assert_serves(old, tiny_encoder, documents=3)
    assert (old / "current").read_text() == "g-000002\n"


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ('{"id": "a", "text": "x"}\n{bad', r"new.jsonl:2: not JSON .*(--skip-bad|strict)"),
        (
            '{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}',
            r"new.jsonl:2: a second document of id 'a'; .*new.jsonl:1",
        ),
        ("", r"no documents in .*new.jsonl: 1 empty file"),
    ],
)
@pytest.mark.parametrize("option", [{}, {"strict": True}, {"skip_bad": False}])
def test_bad_input_is_named_and_the_old_index_serves(
    old: Path,
    tmp_path: Path,
    tiny_model: Path,
    tiny_encoder: Encoder,
    lines: str,
    complaint: str,
    option: Mapping[str, bool],
) -> None:
    (tmp_path / "new.jsonl").write_text(lines)
    with pytest.raises(InputError, match=complaint):
        list(build(recipe(tmp_path / "new.jsonl", tiny_model, **option), old, device="cpu"))
    assert_serves(old, tiny_encoder)


def test_bad_records_are_left_out_counted_and_listed(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "x"}\n{bad\n{"id": 1, "text": "y"}\n{"id": 2, "text": "z"}\n')
    events = list(build(recipe(tmp_path / "a.jsonl", tiny_model, skip_bad=True), tmp_path / "index", device="cpu"))
    assert [event.record.location[-2:] for event in events if isinstance(event, Skipped)] == [":2", ":3"]
    last = events[-1]
    assert isinstance(last, Published)
    assert (last.manifest.documents, last.manifest.skipped) == (2, 2)
    assert [(entry.kind, entry.count) for entry in last.manifest.left_out] == [("record", 1), ("record", 1)]


def test_nothing_but_bad_records_is_an_error(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{bad\n")
    with pytest.raises(InputError, match="all 1 records were bad"):
        list(build(recipe(tmp_path / "a.jsonl", tiny_model, skip_bad=True), tmp_path / "index", device="cpu"))
    assert not (tmp_path / "index").exists()


def test_a_full_disk_is_told_and_the_old_index_serves(
    old: Path, tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("write error: No space left on device")

    monkeypatch.setattr(faiss, "write_index", full)
    with pytest.raises(IndexFolderError, match=r"No space left on device.*make room.*untouched"):
        list(build(recipe(tmp_path / "old.jsonl", tiny_model), old, device="cpu"))
    assert_serves(old, tiny_encoder)


@pytest.mark.parametrize("last", [LoadingEncoder, Reading, Encoding])
def test_a_build_that_is_broken_off_leaves_the_old_index(
    old: Path, tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder, last: type
) -> None:
    events = build(recipe(tmp_path / "old.jsonl", tiny_model), old, device="cpu")
    for event in events:
        if isinstance(event, last):
            break
    events.close()  # type: ignore[attr-defined]
    assert_serves(old, tiny_encoder)


ENCODE = Encoder.submit_passages


def counted(monkeypatch: pytest.MonkeyPatch, *, fail_after: int = 10**9) -> list[str]:
    """Passages that are encoded from now on; the encoder fails after a number of them."""
    done: list[str] = []

    def counting(self: Encoder, texts: Sequence[str], *, with_tokens: bool) -> Future[EncodedPassages]:
        if len(done) >= fail_after:
            raise KeyboardInterrupt
        done.extend(texts)
        return ENCODE(self, texts, with_tokens=with_tokens)

    monkeypatch.setattr(Encoder, "submit_passages", counting)
    return done


@pytest.mark.parametrize("resume", [True, False])
def test_a_build_goes_on_where_one_was_stopped(
    tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    source = write_jsonl(tmp_path / "animals.jsonl", ANIMALS)
    wanted = recipe(source, tiny_model)
    wanted = wanted.model_copy(update={"encoder": wanted.encoder.model_copy(update={"batch_tokens": 30})})
    first = counted(monkeypatch, fail_after=4)
    with pytest.raises(KeyboardInterrupt):
        list(build(wanted, tmp_path / "index", device="cpu"))
    assert len(first) == 4
    # what changed meanwhile is encoded
    write_jsonl(source, [{**ANIMALS[0], "text": "Something else"}, *ANIMALS[1:]])
    second = counted(monkeypatch)
    events = list(build(wanted, tmp_path / "index", resume=resume, device="cpu"))
    told = [event.passages for event in events if isinstance(event, Resuming)]
    assert len(told) == resume
    # what was on its way when it was stopped is lost
    assert 0 < sum(told) < 4 or not resume
    assert len(second) == 6 - sum(told)
    assert_serves(tmp_path / "index", tiny_encoder)
    assert not list((tmp_path / "index").glob("unfinished*"))
    build_index(tmp_path / "fresh", source, model=tiny_model)
    engines = [SearchEngine.open(tmp_path / name, encoder=tiny_encoder) for name in ("index", "fresh")]
    one, other = (engine.corpus.vectors(engine.corpus.live_rows) for engine in engines)
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_few_vectors_are_in_memory_while_passages_are_encoded(
    tmp_path: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "RESIDENT_PASSAGES", 100)
    monkeypatch.setattr(tiny_encoder, "batch_tokens", {"query": 1, "document": 1})
    passages, dimension = 1_000, 1_024
    vectors, resident = temp_memmap(tmp_path, (passages, dimension)), []
    with DocumentWriter(tmp_path / "documents.sqlite", tmp_path / "fulltext") as writer:
        for number in range(passages):
            text = f"passage {number}"
            document = Document(str(number), title="", text=text, source="here")
            writer.add(document, "", [(Passage(text, 0, len(text)), 3)])
        ones = repeat(EncodedPassages(np.ones((1, dimension), np.float32), None), passages)
        for _ in encode_passages(lambda _: ones, tiny_encoder, writer, vectors, np.zeros(passages, bool)):
            resident.append(resident_bytes(vectors))
    assert len(resident) == passages + 1
    assert 0 < max(resident) <= 100 * 4 * dimension
    assert (vectors == 1).all()


def resident_bytes(array: Vectors) -> int:
    """Bytes of the memory map of an array that are in memory."""
    start = f"{array.ctypes.data:x}-"
    lines = Path("/proc/self/smaps").read_text().splitlines()
    begin = next(number for number, line in enumerate(lines) if line.lstrip("0").startswith(start))
    return 1024 * next(int(line.split()[1]) for line in lines[begin:] if line.startswith("Rss:"))


def test_what_another_encoder_left_or_is_damaged_is_not_taken_up(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_jsonl(tmp_path / "animals.jsonl", ANIMALS)
    counted(monkeypatch, fail_after=1)
    prompted = {"model": str(tiny_model), "document_prompt": "other: ", "batch_tokens": 30}
    with pytest.raises(KeyboardInterrupt):
        list(build(recipe(source, tiny_model, encoder=prompted), tmp_path / "index", device="cpu"))
    done = counted(monkeypatch)
    build_index(tmp_path / "index", source, model=tiny_model)
    assert len(done) == 6
    (tmp_path / "index" / "unfinished.sqlite").write_bytes(b"no database" * 500)
    build_index(tmp_path / "index", source, model=tiny_model)
    assert len(done) == 12


def test_an_interrupted_build_does_not_wait_for_batches_that_have_not_begun(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[Future[EncodedPassages]] = []

    def never(_encoder: Encoder, _texts: Sequence[str], **_: bool) -> Future[EncodedPassages]:
        waiting.append(Future())
        if len(waiting) == 2:
            raise KeyboardInterrupt
        return waiting[-1]

    monkeypatch.setattr(Encoder, "submit_passages", never)
    prompted = {"model": str(tiny_model), "batch_tokens": 30}
    source = write_jsonl(tmp_path / "animals.jsonl", ANIMALS)
    with pytest.raises(KeyboardInterrupt):
        list(build(recipe(source, tiny_model, encoder=prompted), tmp_path / "index", device="cpu", threads=1))
    assert waiting[0].cancelled()


def strided(vectors: Vectors) -> Vectors:
    wide = np.zeros((2 * len(vectors), 3 * vectors.shape[1]), np.float32)
    wide[::2, ::3] = vectors
    return wide[::2, ::3]


def given_build(folder: Path, encoder: Encoder, given: object, index_type: str) -> Published:
    documents = [Document(f"d{n}", "", f"word{n}", "a.csv", {}) for n in range(300)]
    recipe = Recipe.model_validate({"index": {"type": index_type, "recall": 0.3}})
    events = build(recipe, folder, records=documents, vectors=given, encoder=encoder, threads=1)  # type: ignore[arg-type]
    *_, last = events
    assert isinstance(last, Published)
    return last


@pytest.mark.parametrize("index_type", ["exact", "hnsw", "ivf"])
@pytest.mark.parametrize(
    "given_as",
    [
        np.asfortranarray,
        strided,
        lambda vectors: vectors[::-1][::-1],
        lambda vectors: np.ascontiguousarray(vectors[::-1])[::-1],
        lambda vectors: vectors.astype(np.float64),
        lambda vectors: np.asfortranarray(vectors.astype(np.float64)),
        lambda vectors: vectors.astype(">f4"),
        lambda vectors: vectors.tolist(),
        list,
        lambda vectors: vectors.astype(object),
    ],
)
def test_given_vectors_may_lie_in_memory_in_any_way(
    tmp_path: Path, tiny_encoder: Encoder, index_type: str, given_as: Callable[[Vectors], object]
) -> None:
    vectors = np.random.default_rng(3).standard_normal((300, tiny_encoder.dimension)).astype(np.float32)
    given_build(tmp_path / "index", tiny_encoder, given_as(vectors), index_type)
    engine = SearchEngine.open(tmp_path / "index", encoder=tiny_encoder, threads=1)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert engine.corpus.search_vectors(unit[:20], 1)[1][:, 0].tolist() == list(range(20))
    engine.close()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ([[1.0], [1.0, 2.0]], "not a table of numbers"),
        ([["a", "b"]], "not a table of numbers"),
        (np.ones((3, 2), np.complex64), "not a table of numbers"),
        ([[None, 1.0]], "is zero or not finite|dimensions"),
        (1.0, "have shape"),
        ([], "have shape"),
        (np.full((300, 32), 1e300), "dimensions|document 0 is zero or not finite"),
    ],
)
def test_given_vectors_that_are_none_are_an_error(
    tmp_path: Path, tiny_encoder: Encoder, given: object, complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        given_build(tmp_path / "index", tiny_encoder, given, "exact")
