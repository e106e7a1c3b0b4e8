"""A domain of a real index, adapted from labelled queries: what changes, for whom, and what stays."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from semsearch.adaptation import JudgedQuery, adapt
from semsearch.adapter import DomainState
from semsearch.encoder import Encoder
from semsearch.engine import SearchEngine
from semsearch.learning.meta import Settings
from semsearch.learning.training import train
from semsearch.learning.weights import Weights
from semsearch.records import LabelError, Query, StateError
from semsearch.storage.states import open_states, remove_state, save_state
from tests.conftest import Command, build_index, write_jsonl
from tests.learning.worlds import domain

TOPICS = re.findall(
    r"\w+",
    """
    apple river stone cloud tiger piano bread glass paper chair forest island doctor pencil rocket
    garden winter bridge candle dragon engine flower guitar hammer insect jacket kitchen ladder
    marble needle orange parrot quartz rabbit saddle turtle violin walnut yogurt zebra
    """,
)
MANNERS = "please kindly could you find show tell give me everything all about regarding concerning"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """An index of one document a topic, and of as many that are nothing but the manners people ask with."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("shop")
    manners = MANNERS.split()
    records = [{"id": topic, "text": f"{topic} {topic}"} for topic in TOPICS]
    records += [{"id": f"noise-{n}", "text": " ".join(rng.choice(manners, 5))} for n in range(60)]
    source = write_jsonl(folder / "shop.jsonl", records)
    build_index(folder / "shop", source, model=tiny_model)
    return folder / "shop"


def asked(topic: str, seed: int) -> str:
    words = np.random.default_rng(seed).choice(MANNERS.split(), 5)
    return f"{' '.join(words)} {topic}"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    worlds = [
        domain(seed, name=f"w{seed}", family=f"f{seed}", dimension=32, dialect=float(seed % 2), queries=100)
        for seed in range(6)
    ]
    *_, last = train(worlds, Settings(members=("listwise",), steps=6, every=3), about={}, trial_seeds=1)
    assert isinstance(last, Weights)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    last.save(path)
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Thirty of the topics, asked for politely."""
    folder = tmp_path / "labels"
    folder.mkdir()
    write_jsonl(folder / "queries.jsonl", [{"_id": n, "text": asked(topic, n)} for n, topic in enumerate(TOPICS[:30])])
    (folder / "qrels.tsv").write_text("".join(f"{n}\t{topic}\t1\n" for n, topic in enumerate(TOPICS[:30])))
    return folder


def found_first(folder: Path, encoder: Encoder, name: str) -> int:
    """How many of the topics that nobody labelled come first when they are asked for politely."""
    engine = SearchEngine.open(folder, encoder=encoder)
    results = engine.search([Query(asked(topic, 100 + n), k=1, domain=name) for n, topic in enumerate(TOPICS[30:])])
    engine.close()
    return sum(hits[0].id == topic for hits, topic in zip(results, TOPICS[30:], strict=True))


def test_the_command_adapts_one_domain_and_forgets_it_again(
    shop: Path, weights: Path, labels: Path, tiny_encoder: Encoder, command: Command
) -> None:
    before = found_first(shop, tiny_encoder, "polite")
    options = ("--weights", weights, "--domain", "polite")
    done = command("adapt", shop, "--labels", labels, *options, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert not (shop / "domains").exists()
    done = command("adapt", shop, "--labels", labels, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Adapted: expected +")
    [path] = (shop / "domains").iterdir()
    about = DomainState.open(path)[1]
    assert (about["labels"], about["reason"], about["adapted"]) == (30, "adapted", True)
    assert "polite (adapted to 30 labelled queries)" in command("info", shop).stdout
    assert found_first(shop, tiny_encoder, "polite") >= before + 2
    assert found_first(shop, tiny_encoder, "default") == before
    assert command("adapt", shop, "--domain", "polite", "--reset").stdout == "forgotten\n"
    assert found_first(shop, tiny_encoder, "polite") == before
    assert command("adapt", shop, "--domain", "polite", "--reset").stdout == "there was nothing to forget\n"


def test_a_domain_that_is_declined_loses_what_it_had(
    shop: Path, weights: Path, labels: Path, tiny_encoder: Encoder, command: Command
) -> None:
    save_state(shop, "random", DomainState.identity(32), {"encoder_sha256": tiny_encoder.weights_sha256})
    rng = np.random.default_rng(1)
    everything = [*TOPICS, *(f"noise-{n}" for n in range(60))]
    rows = [f"{n}\t{rng.choice(everything)}\t1\n" for n in range(30)]
    (labels / "qrels.tsv").write_text("".join(rows))
    done = command("adapt", shop, "--labels", labels, "--weights", weights, "--domain", "random")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Not adapted")
    assert not list((shop / "domains").iterdir())


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("{shop}",), 2, "say what to adapt to"),
        (("{shop}", "--labels", "{labels}", "--reset"), 2, "either --labels or --reset"),
        (("{shop}", "--labels", "{shop}"), 1, "queries.jsonl cannot be read"),
        (("{shop}/none", "--labels", "{labels}", "--weights", "{weights}"), 1, "no index"),
        (("{shop}", "--labels", "{labels}"), 1, "learned for 384 dimensions, the index has 32"),
        (("{shop}", "--domain", ".hidden", "--reset"), 1, "cannot be a domain's name"),
        (("{shop}/none", "--reset"), 1, "no index"),
    ],
)
def test_mistakes_are_explained(
    shop: Path, weights: Path, labels: Path, words: tuple[str, ...], code: int, said: str, command: Command
) -> None:
    done = command("adapt", *(word.format(shop=shop, labels=labels, weights=weights) for word in words))
    assert done.returncode == code, done.stderr
    assert said in " ".join(done.stderr.replace("│", " ").split())


def test_judgments_of_one_text_are_taken_together_and_unknown_documents_refused(
    shop: Path, weights: Path, tiny_encoder: Encoder
) -> None:
    engine = SearchEngine.open(shop, encoder=tiny_encoder)
    opened = Weights.open(weights)
    twice = [JudgedQuery("a", {"apple": 1.0}), JudgedQuery("a", {"river": 1.0}), JudgedQuery("b", {})]
    assert adapt(engine, opened, twice).labels == 1
    with pytest.raises(LabelError, match="judged on 'missing', which the index does not have"):
        adapt(engine, opened, [JudgedQuery("a", {"missing": 1.0})])
    with pytest.raises(LabelError, match="no query has a relevant document"):
        adapt(engine, opened, [JudgedQuery("b", {})])
    engine.close()


def test_states_belong_to_their_encoder_and_odd_names_survive(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    state = DomainState.identity(8)
    for name in ("a/b", "ünï", "x.y"):
        save_state(tmp_path / "index", name, state, {"encoder_sha256": "e"})
    assert sorted(open_states(tmp_path / "index", encoder_sha256="e")) == sorted(["a/b", "ünï", "x.y"])
    with pytest.raises(StateError, match="learned with another encoder"):
        open_states(tmp_path / "index", encoder_sha256="f")
    assert remove_state(tmp_path / "index", "a/b")
    assert not remove_state(tmp_path / "index", "a/b")
    content = json.dumps(sorted(path.name for path in (tmp_path / "index" / "domains").iterdir()))
    assert "a%2Fb" not in content


def test_a_damaged_state_stops_the_index_from_opening(shop: Path, tiny_encoder: Encoder) -> None:
    path = save_state(shop, "hurt", DomainState.identity(32), {"encoder_sha256": tiny_encoder.weights_sha256})
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StateError, match=r"hurt\.safetensors is not a domain state"):
        SearchEngine.open(shop, encoder=tiny_encoder)
    path.unlink()
