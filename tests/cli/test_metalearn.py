"""The commands `semsearch learn` and `semsearch evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.adapters.worlds import domain
from tests.conftest import Command


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
        (("evaluate", "{data}/domains", "--weights", "{tmp}/none"), 1, "none holds no weights"),
        (("evaluate", "{data}/domains", "--methods", "magic"), 1, "no method is called 'magic'"),
        (("evaluate", "{data}/domains/w0"), 1, "learned for 384 dimensions, the index has 24"),
    ],
)
def test_mistakes_are_explained(
    data: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str, command: Command
) -> None:
    done = command(*(argument.format(data=data, tmp=tmp_path) for argument in arguments), "--embeddings", data)
    assert done.returncode == code, done.stderr
    assert message in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize("name", ["adapt", "learn", "evaluate"])
def test_help_has_an_example_environment_variables_and_defaults(name: str, command: Command) -> None:
    done = command(name, "--help")
    assert done.returncode == 0
    assert "Example:" in done.stdout
    assert "SEMSEARCH_" in done.stdout
    assert "[default: all cores]" in done.stdout
