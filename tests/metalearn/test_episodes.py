"""Data sets on disk: reading them, refusing bad ones, caching their vectors; and episodes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from semsearch.encoders.encoder import Encoder
from semsearch.errors import LabelError
from semsearch.metalearn.datasets import find_datasets, read_texts
from semsearch.metalearn.episodes import Vectorizer, draw_episode
from tests.adapters.worlds import domain


def write_dataset(
    folder: Path,
    *,
    corpus: str | None = None,
    queries: str | None = None,
    qrels: str | None = "query-id\tcorpus-id\tscore\nq1\td2\t2\nq1\td1\t1\nq2\td1\t0\nq3\td3\t1\n",
) -> Path:
    folder.mkdir(parents=True)
    records = [
        {"_id": "d1", "title": "One", "text": "First sentence. Second sentence."},
        {"_id": "d2", "title": "", "text": "How to begin? By beginning."},
        {"_id": "d3", "text": "all in one"},
    ]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "corpus.jsonl").write_text(lines if corpus is None else corpus)
    query_lines = "".join(json.dumps({"_id": f"q{number}", "text": f"query {number}"}) + "\n" for number in (1, 2, 3))
    (folder / "queries.jsonl").write_text(query_lines if queries is None else queries)
    if qrels is not None:
        (folder / "qrels.tsv").write_text(qrels)
    return folder


def test_judged_queries_are_read_with_their_relevance(tmp_path: Path) -> None:
    texts = read_texts(write_dataset(tmp_path / "help"))
    assert texts.documents == ["One First sentence. Second sentence.", "How to begin? By beginning.", "all in one"]
    assert texts.queries == ["query 1", "query 3"]
    assert texts.judgments == [{1: 2.0, 0: 1.0}, {2: 1.0}]
    assert (texts.name, texts.family, texts.open_licence, texts.labelled) == ("help", "help", False, True)


def test_a_corpus_without_judgments_labels_itself(tmp_path: Path) -> None:
    texts = read_texts(write_dataset(tmp_path / "help", qrels=None))
    assert texts.queries == ["One", "How to begin?"]
    assert texts.documents == ["First sentence. Second sentence.", "By beginning."]
    assert texts.judgments == [{0: 1.0}, {1: 1.0}]
    assert not texts.labelled


def test_family_and_licence_come_from_domains_json(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "domains" / "help")
    row = {"name": "help", "family": "manuals", "open_licence": True}
    (tmp_path / "domains.json").write_text(json.dumps([{"name": "other"}, row]))
    assert (read_texts(folder).family, read_texts(folder).open_licence) == ("manuals", True)


@pytest.mark.parametrize(("tag", "language"), [("en", "en"), ("pt-BR", "pt"), ("EN/bash", "en"), ("", ""), (None, "")])
def test_the_language_is_the_primary_subtag_in_either_file(tmp_path: Path, tag: str | None, language: str) -> None:
    folder = write_dataset(tmp_path / "domains" / "help")
    assert read_texts(folder).language == ""
    (folder / "meta.json").write_text(json.dumps({"language": tag, "family": "faq"}))
    (tmp_path / "domains.json").write_text(json.dumps([{"name": "help", "family": "manuals"}]))
    assert (read_texts(folder).language, read_texts(folder).family) == (language, "manuals")
    (tmp_path / "domains.json").write_text(json.dumps([{"name": "help", "language": "de"}]))
    assert (read_texts(folder).language, read_texts(folder).family) == ("de", "faq")


def test_a_language_that_is_no_text_is_refused(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "help")
    (folder / "meta.json").write_text('{"language": ["en"]}')
    with pytest.raises(LabelError, match=r"the language of .*help is \['en'\]: give a tag"):
        read_texts(folder)


def test_family_comes_from_meta_json_otherwise(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "help")
    (folder / "meta.json").write_text('{"family": "faq"}')
    assert read_texts(folder).family == "faq"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"corpus": "{"}, r"corpus.jsonl:1: not JSON"),
        ({"corpus": '{"_id": 1, "text": "a"}\n{"_id": "1", "text": "b"}'}, r"corpus.jsonl:2: the id '1' occurs twice"),
        ({"corpus": '{"_id": 1, "text": null}'}, r"corpus.jsonl:1: title and text must be texts"),
        ({"queries": "[]"}, r"queries.jsonl:1: not an object with _id and text"),
        ({"qrels": "q1\td1\n"}, r"qrels.tsv:1: .* is neither a header nor a judgment"),
        ({"qrels": "q1\td1\tmuch\n"}, r"qrels.tsv:1: .* is neither a header nor a judgment"),
        ({"qrels": "q1\td1\t1\nq1\td2\tmuch\n"}, r"qrels.tsv:2: the relevance is 'much', not a finite number"),
        ({"qrels": "q1\td9\t1\n"}, r"qrels.tsv:1: no document has the id 'd9'"),
        ({"qrels": "q9\td1\t1\n"}, r"qrels.tsv:1: no query has the id 'q9'"),
        ({"qrels": "q1\td1\t1\n"}, r"qrels.tsv judges 1 queries"),
        ({"qrels": None, "corpus": '{"_id": 1, "text": "a"}'}, r"has no qrels.tsv, and fewer than 2"),
    ],
)
def test_a_bad_folder_is_refused_with_file_and_line(tmp_path: Path, files: dict[str, str | None], message: str) -> None:
    folder = write_dataset(tmp_path / "bad", **files)
    with pytest.raises(LabelError, match=message):
        read_texts(folder)


def test_datasets_are_the_given_folders_and_those_inside_them(tmp_path: Path) -> None:
    first, second = write_dataset(tmp_path / "many" / "one"), write_dataset(tmp_path / "many" / "two")
    assert find_datasets([tmp_path / "many"]) == [first, second]
    assert find_datasets([second, tmp_path / "many"]) == [second, first]
    with pytest.raises(LabelError, match="is no data set"):
        find_datasets([tmp_path])
    with pytest.raises(LabelError, match="two data sets are called 'one'"):
        find_datasets([first, write_dataset(tmp_path / "one")])


def test_vectors_are_encoded_once(tmp_path: Path, tiny_encoder: Encoder) -> None:
    folder, opened = write_dataset(tmp_path / "help"), []

    def open_encoder() -> Encoder:
        opened.append(True)
        return tiny_encoder

    first, second = (Vectorizer(open_encoder, "tiny", tmp_path / "cache").dataset(folder) for _ in range(2))
    assert len(opened) == 2  # for documents and queries of the first data set
    assert first.documents.tobytes() == second.documents.tobytes()
    assert (first.documents.shape, first.queries.shape) == ((3, 32), (2, 32))
    np.testing.assert_allclose(np.linalg.norm(first.queries, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(first.queries, tiny_encoder.encode_queries(["query 1", "query 3"]), atol=2e-3)


def test_embeddings_are_read_in_the_order_of_the_files(tmp_path: Path) -> None:
    folder, rng = write_dataset(tmp_path / "help"), np.random.default_rng(0)
    documents, queries = rng.normal(size=(3, 8)), rng.normal(size=(3, 8))
    np.savez(tmp_path / "help.npz", documents=documents, queries=queries)

    def no_encoder() -> Encoder:
        raise AssertionError

    dataset = Vectorizer(no_encoder, "any", tmp_path / "cache", tmp_path).dataset(folder)
    np.testing.assert_allclose(dataset.queries[1], queries[2] / np.linalg.norm(queries[2]), atol=1e-6)
    np.savez(tmp_path / "help.npz", documents=documents[:2], queries=queries)
    with pytest.raises(LabelError, match=r"holds 2 documents and 3 queries, .* has 3 and 3"):
        Vectorizer(no_encoder, "any", tmp_path / "cache", tmp_path).dataset(folder)


def test_an_episode_keeps_support_and_held_out_queries_apart() -> None:
    worlds = [domain(seed, name=f"w{seed}") for seed in range(3)]
    for number in range(20):
        episode = draw_episode(worlds, np.random.default_rng(number), sizes=(1, 64), held_out=30)
        support = {query.numpy().tobytes() for query in episode.support.queries}
        held_out = {query.numpy().tobytes() for query in episode.held_out.queries}
        assert 1 <= len(support) <= 64
        assert len(held_out) == 30
        assert not support & held_out


def test_families_are_drawn_with_equal_probability() -> None:
    worlds = [domain(0, name=f"large{number}", family="large") for number in range(9)]
    worlds.append(domain(1, name="small", family="small"))
    rng = np.random.default_rng(0)
    small = sum(draw_episode(worlds, rng, sizes=(1, 2), held_out=2).dataset.name == "small" for _ in range(200))
    assert 70 < small < 130
