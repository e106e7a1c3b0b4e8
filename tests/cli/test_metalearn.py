"""The commands `semsearch learn` and `semsearch evaluate`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from semsearch.adapters.weights import DEFAULT_WEIGHTS
from tests.adapters.worlds import domain
from tests.conftest import Command, write_jsonl


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four synthetic data sets on disk in four families, with their vectors, so that nothing needs encoding."""
    root = tmp_path_factory.mktemp("data")
    listed = []
    for seed in range(4):
        world = domain(seed, name=f"w{seed}", queries=50)
        folder = root / "domains" / f"w{seed}"
        folder.mkdir(parents=True)
        files = {
            "corpus.jsonl": [{"_id": f"d{row}", "text": text} for row, text in enumerate(world.texts.documents)],
            "queries.jsonl": [{"_id": f"q{row}", "text": text} for row, text in enumerate(world.texts.queries)],
        }
        for name, records in files.items():
            (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))
        judged = "".join(
            f"q{number}\td{row}\t{relevance:g}\n"
            for number, judgments in enumerate(world.texts.judgments)
            for row, relevance in judgments.items()
        )
        (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
        np.savez(root / f"w{seed}.npz", documents=world.documents, queries=world.queries)
        listed.append({"name": f"w{seed}", "family": f"f{seed}", "open_licence": seed > 0})
    (root / "domains.json").write_text(json.dumps(listed))
    return root


QUICK = ("--steps", "4", "--episodes", "1", "--trials", "1")


def learn(command: Command, data: Path, out: Path, *options: str) -> str:
    """Run `semsearch learn` quickly and return its output on stderr."""
    done = command("learn", data / "domains", "--embeddings", data, "--out", out, *QUICK, *options)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_learn_writes_weights_and_evaluate_measures_them(data: Path, tmp_path: Path, command: Command) -> None:
    output = learn(command, data, tmp_path / "w.safetensors", "--open-licence")
    assert "held-out families listwise" in output
    assert "learned" in output
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
    done = command(
        *("evaluate", data / "domains" / "w0", "--embeddings", data, "--weights", tmp_path / "w.safetensors"),
        *("--labels", "0,16", "--seeds", "2", "--methods", "semsearch,unguarded,ridge,bm25"),
        *("--json", tmp_path / "out.json", "--plots", tmp_path / "plots"),
    )
    assert done.returncode == 0, done.stderr
    assert "semsearch over each" in done.stdout
    assert "some of these families" not in done.stderr  # w0 is not openly licensed
    content = json.loads((tmp_path / "out.json").read_text())
    assert {row["method"] for row in content["rows"]} == {"frozen", "semsearch", "unguarded", "ridge", "bm25"}
    assert content["settings"]["weights"][0]["domains"] == ["w1", "w2", "w3"]
    assert (tmp_path / "plots" / "forest.png").exists()


def test_evaluate_measures_labels_as_they_come(data: Path, tmp_path: Path, command: Command) -> None:
    done = command(
        *("evaluate", data / "domains" / "w0", data / "domains" / "w1", "--embeddings", data, "--labels", "0,8"),
        *("--seeds", "1", "--methods", "semantic,hybrid", "--skew", "0,1", "--labels-from", "first-results"),
        *("--max-queries", "20", "--json", tmp_path / "out.json"),
    )
    assert done.returncode == 0, done.stderr
    assert "over the same search without labels, queries not labelled, skew 1" in " ".join(done.stdout.split())
    content = json.loads((tmp_path / "out.json").read_text())
    settings = content["settings"]
    assert (settings["skew"], settings["labels_from"], settings["max_queries"]) == ([0.0, 1.0], "first-results", 20)
    # the vectors are made up
    assert "w0, w1 are not by encoder all-MiniLM-L6-v2 (--encoder): hybrid is measured without" in done.stderr
    assert settings["late_interaction"] is False
    assert {row["method"] for row in content["rows"]} == {"frozen", "semantic", "hybrid"}
    assert all(row["queries"] <= 20 and row["labels_from"] == "first-results" for row in content["rows"])


def test_evaluate_measures_late_interaction_with_the_encoder_that_made_the_vectors(
    tmp_path: Path, command: Command
) -> None:
    folder = tmp_path / "words"
    folder.mkdir()
    texts = [f"Passage {number} about the {word}." for number, word in enumerate(["river", "bee", "house", "sea"] * 6)]
    rows = [json.dumps({"_id": str(row), "text": text}) for row, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("\n".join(rows))
    queries = [json.dumps({"_id": f"q{row}", "text": text.lower()}) for row, text in enumerate(texts)]
    (folder / "queries.jsonl").write_text("\n".join(queries))
    (folder / "qrels.tsv").write_text(
        "\n".join(["query-id\tcorpus-id\tscore", *(f"q{row}\t{row}\t1" for row in range(24))])
    )
    options = ("--labels", "0", "--seeds", "1", "--methods", "hybrid", "--cache", tmp_path / "cache")
    for more, expected in (((), True), (("--no-late-interaction",), False)):
        done = command("evaluate", folder, *options, *more, "--json", tmp_path / "out.json")
        assert done.returncode == 0, done.stderr
        assert "without late interaction" not in done.stderr
        assert json.loads((tmp_path / "out.json").read_text())["settings"]["late_interaction"] is expected
    assert len(list((tmp_path / "cache").glob("tokens-words-*"))) == 1


def test_folds_leave_families_out_and_are_reproducible(data: Path, tmp_path: Path, command: Command) -> None:
    for name in ("one", "two"):
        learn(command, data, tmp_path / name, "--folds", "2")
    files = sorted(path.name for path in (tmp_path / "one").glob("*.safetensors"))
    assert files == ["fold-0.safetensors", "fold-1.safetensors"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    done = command(
        *("evaluate", data / "domains", "--embeddings", data, "--weights", tmp_path / "one", "--labels", "16"),
        *("--seeds", "1", "--methods", "semsearch", "--processes", "2"),
    )
    assert done.returncode == 0, done.stderr
    assert "some of these families" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("learn", "{tmp}", "--out", "{tmp}/w"), 1, "is no data set and contains none"),
        (("learn", "{data}/domains", "--out", "{tmp}/w", "--members", "magic"), 2, "no learner is called 'magic'"),
        (("learn", "{data}/domains", "--out", "{tmp}/w", "--members", "film"), 2, "the guard needs listwise"),
        (("learn", "{data}/domains", "--out", "{tmp}/w", "--folds", "many"), 2, "give `family` or a number"),
        (("learn", "{data}/domains", "--out", "{tmp}/w", "--folds", "2", "--fold", "2"), 2, "there are 2 folds"),
        (("evaluate", "{data}/domains", "--labels", "8,some"), 2, "is not a list of whole numbers"),
        (("evaluate", "{data}/domains", "--labels", "-8"), 2, "-8 is less than 0"),
        (("evaluate", "{data}/domains", "--skew", "0,some"), 2, "is not a list of numbers"),
        (("evaluate", "{data}/domains", "--skew", "-1"), 2, "-1 is not from 0 to 5"),
        (("evaluate", "{data}/domains", "--skew", "nan"), 2, "nan is not from 0 to 5"),
        (("evaluate", "{data}/domains", "--labels-from", "dreams"), 2, "choose from all, first-results, clicks"),
        (
            ("evaluate", "{data}/domains", "--labels-from", "clicks", "--methods", "ridge"),
            1,
            "ridge shows no results that users could judge",
        ),
        (("evaluate", "{data}/domains", "--weights", "{tmp}/none"), 1, "none holds no weights"),
        (("evaluate", "{data}/domains", "--methods", "magic"), 1, "no method is called 'magic'"),
    ],
)
def test_mistakes_are_explained(
    data: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str, command: Command
) -> None:
    done = command(*(argument.format(data=data, tmp=tmp_path) for argument in arguments), "--embeddings", data)
    assert done.returncode == code, done.stderr
    assert message in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("options", "last", "message"),
    [
        ((), ("qrels.tsv", "q1\td1\tmany\n"), "is neither a header nor a judgment"),
        ((), ("qrels.tsv", "q1\td1\t1\nq2\td99999\t1\n"), "no document has the id 'd99999'"),
        ((), ("qrels.tsv", ""), "judges 0 queries"),
        ((), ("meta.json", "{"), "meta.json cannot be read as JSON"),
        ((), ("corpus.jsonl", "[]\n"), "corpus.jsonl:1: not an object with _id and text"),
        (("--plots", "{tmp}/file/plots"), None, "cannot be written"),
        (("--json", "{tmp}/file/x.json"), None, "cannot be written"),
        (("--cache", "{tmp}/file/cache"), None, "choose another --cache"),
        (("--weights", "{tmp}/folds"), None, "none of 2 weights left out the family"),
        (("--only-self-labelled",), None, "there is nothing to measure"),
    ],
)
def test_inputs_and_needs_are_checked_before_anything_is_encoded(
    data: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    last: tuple[str, str] | None,
    message: str,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def encode(*_args: object, **_options: object) -> None:
        raise AssertionError("something is encoded")

    monkeypatch.setattr("semsearch.encoders.encoder.Encoder.open", encode)
    folders = tmp_path / "domains"
    shutil.copytree(data / "domains", folders)
    (tmp_path / "file").write_text("")
    (tmp_path / "folds").mkdir()
    for number in range(2):
        shutil.copy(DEFAULT_WEIGHTS, tmp_path / "folds" / f"fold-{number}.safetensors")
    if "--only-self-labelled" in options:
        options = ()
        for path in folders.glob("*/qrels.tsv"):
            path.unlink()
            corpus = [{"_id": number, "text": "One sentence. And another."} for number in range(3)]
            write_jsonl(path.with_name("corpus.jsonl"), corpus)
    if last is not None:
        name, content = last
        (folders / "w3" / name).write_text(content)  # the last one that is read
    if "--cache" not in options:
        options = (*options, "--cache", "{tmp}/cache")
    done = command("evaluate", folders, *(option.format(tmp=tmp_path) for option in options))
    assert done.returncode == 1, done.stderr
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["adapt", "learn", "evaluate"])
def test_help_has_an_example_environment_variables_and_defaults(name: str, command: Command) -> None:
    done = command(name, "--help")
    assert done.returncode == 0
    assert "Example:" in done.stdout
    assert "SEMSEARCH_" in done.stdout
    assert "[default: all cores]" in done.stdout
