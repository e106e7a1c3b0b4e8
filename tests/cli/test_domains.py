"""Domains of a real index, adapted from labelled queries: which rankings change, and which do not."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from semsearch.adapters.adapter import DomainAdapter
from semsearch.adapters.state import DomainState
from semsearch.adapters.weights import Weights
from semsearch.domains.adapting import adapt
from semsearch.domains.judgments import JudgedQuery
from semsearch.encoders.encoder import Encoder
from semsearch.errors import LabelError
from semsearch.metalearn.outer_loop import OuterLoopSettings
from semsearch.metalearn.training import train
from semsearch.search.engine import SearchEngine
from semsearch.storage.generations import read_manifest, republish
from semsearch.storage.kept_queries import KeptQueries
from semsearch.storage.manifest import AdaptationOptions
from semsearch.types import Query
from tests.adapters.worlds import domain
from tests.conftest import Command, build_index, hits_of, write_jsonl

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
    """An index of one document per topic, and of 60 documents that hold only words of politeness."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("shop")
    manners = MANNERS.split()
    records = [{"id": topic, "text": f"{topic} {topic}"} for topic in TOPICS]
    records += [{"id": f"noise-{n}", "text": " ".join(rng.choice(manners, 5))} for n in range(60)]
    source = write_jsonl(folder / "shop.jsonl", records)
    # keyword search would find every topic without adaptation
    build_index(folder / "shop", source, model=tiny_model, search={"mode": "semantic"})
    return folder / "shop"


def polite_query(topic: str, seed: int) -> str:
    words = np.random.default_rng(seed).choice(MANNERS.split(), 5)
    return f"{' '.join(words)} {topic}"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    worlds = [
        domain(seed, name=f"w{seed}", family=f"f{seed}", dimension=32, dialect=float(seed % 2), queries=100)
        for seed in range(6)
    ]
    *_, last = train(worlds, OuterLoopSettings(learners=("listwise",), steps=6, every=3), about={}, trial_seeds=1)
    assert isinstance(last, Weights)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    last.save(path)
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Labels of thirty topics, for polite queries."""
    folder = tmp_path / "labels"
    folder.mkdir()
    write_jsonl(
        folder / "queries.jsonl", [{"_id": n, "text": polite_query(topic, n)} for n, topic in enumerate(TOPICS[:30])]
    )
    (folder / "qrels.tsv").write_text("".join(f"{n}\t{topic}\t1\n" for n, topic in enumerate(TOPICS[:30])))
    return folder


def count_first(folder: Path, encoder: Encoder, name: str) -> int:
    """Count the unlabelled topics whose document ranks first for a polite query."""
    engine = SearchEngine.open(folder, encoder=encoder)
    results = hits_of(
        engine, [Query(polite_query(topic, 100 + n), k=1, domain=name) for n, topic in enumerate(TOPICS[30:])]
    )
    engine.close()
    return sum(hits[0].id == topic for hits, topic in zip(results, TOPICS[30:], strict=True))


def test_adapt_changes_one_domain_and_rollback_restores_it(
    shop: Path, weights: Path, labels: Path, tiny_encoder: Encoder, command: Command
) -> None:
    before = count_first(shop, tiny_encoder, "polite")
    options = ("--weights", weights, "--domain", "polite")
    done = command("adapt", shop, "--labels", labels, *options, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Adapted: expected +")
    assert not (shop / "domains").exists()
    assert not (shop / "labels.sqlite").exists()
    done = command("adapt", shop, "--labels", labels, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Adapted: expected +")
    assert "polite" in command("info", shop).stdout
    assert count_first(shop, tiny_encoder, "polite") >= before + 2
    assert count_first(shop, tiny_encoder, "default") == before
    assert command("domains", "rollback", shop, "polite").stdout == "version 2: Returned to version 0\n"
    assert count_first(shop, tiny_encoder, "polite") == before
    assert command("domains", "rollback", shop, "polite").stdout.startswith("version 3: Returned to version 1")
    assert count_first(shop, tiny_encoder, "polite") >= before + 2
    assert command("domains", "reset", shop, "polite").stdout.startswith("version 4: Reset")
    assert count_first(shop, tiny_encoder, "polite") == before
    assert command("domains", "reset", shop, "polite").stdout == "there was nothing to reset\n"
    assert command("domains", "history", shop, "polite").stdout.count("\n") == 4


def test_labels_are_imported_and_exported_and_a_retracted_source_leaves_no_trace(
    shop: Path, weights: Path, labels: Path, tmp_path: Path, command: Command
) -> None:
    only = ("--domain", "inout")
    assert command("labels", "import", shop, labels, *only).stdout == "30 new, 0 already in the log\n"
    assert command("labels", "import", shop, labels, *only).stdout == "0 new, 30 already in the log\n"
    command("adapt", shop, *only, "--weights", weights)
    [first] = (shop / "domains" / "inout").glob("*.safetensors")
    alone = DomainState.open(first)[0]
    more = write_jsonl(
        tmp_path / "more.jsonl",
        [{"query": polite_query(TOPICS[n], n), "document": TOPICS[-n], "gain": 1, "user": "u"} for n in range(1, 9)]
        + [{"kind": "click", "query": "river", "document": "river", "shown": ["stone", "river"]}],
    )
    assert command("labels", "import", shop, more, *only, "--source", "doubtful").stdout.startswith("9 new")
    command("adapt", shop, *only, "--weights", weights)
    changed = sorted((shop / "domains" / "inout").glob("*.safetensors"))[-1]
    assert DomainState.open(changed)[0].to_bytes({}) != alone.to_bytes({})
    done = command("labels", "retract", shop, "--source", "doubtful")
    assert done.stdout == "9 retracted; adapt again: inout\n"
    command("adapt", shop, *only, "--weights", weights)
    again = sorted((shop / "domains" / "inout").glob("*.safetensors"))[-1]
    assert again != changed
    assert DomainState.open(again)[0].to_bytes({}) == alone.to_bytes({})
    lines = command("labels", "export", shop, "-", *only).stdout.splitlines()
    assert [json.loads(line)["source"] for line in lines] == ["labels"] * 30
    assert command("labels", "export", shop, tmp_path / "qrels", *only, "--qrels").returncode == 0
    assert command("labels", "import", shop, tmp_path / "qrels", *only).stdout.startswith("30 new")


def test_a_state_is_imported_into_another_domain_and_inherited_by_a_child(
    shop: Path, weights: Path, labels: Path, tiny_encoder: Encoder, tmp_path: Path, command: Command
) -> None:
    command("adapt", shop, "--labels", labels, "--domain", "origin", "--weights", weights)
    assert command("domains", "export", shop, "origin", tmp_path / "s.safetensors").returncode == 0
    done = command("domains", "import", shop, "copy", tmp_path / "s.safetensors")
    assert done.stdout.startswith("version 1: Imported from domain 'origin'")
    assert command("domains", "parent", shop, "child", "copy").stdout == "child inherits from copy\n"
    counts = {name: count_first(shop, tiny_encoder, name) for name in ("origin", "copy", "child", "default")}
    assert counts["origin"] == counts["copy"] == counts["child"] > counts["default"]
    assert "inherited from 'copy'" in " ".join(command("domains", "list", shop).stdout.split())
    rows = [json.loads(line) for line in command("domains", "list", shop, "--json").stdout.splitlines()]
    assert {row["domain"]: row["parent"] for row in rows}["child"] == "copy"
    assert "cannot be its own ancestor" in command("domains", "parent", shop, "copy", "child").stderr
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    assert "not a domain state" in command("domains", "import", shop, "copy", tmp_path / "bad.safetensors").stderr


def test_the_former_name_of_retract_still_works(shop: Path, command: Command) -> None:
    done = command("labels", "withdraw", shop, "--source", "no such source")
    assert (done.returncode, done.stdout) == (0, "0 retracted\n")
    assert "withdraw" not in command("labels", "--help").stdout


def test_compare_shows_what_moved(
    shop: Path, weights: Path, labels: Path, tiny_encoder: Encoder, command: Command
) -> None:
    command("adapt", shop, "--labels", labels, "--domain", "shown", "--weights", weights)
    query = polite_query(TOPICS[3], 3)
    both = json.loads(command("compare", query, "-i", shop, "--domain", "shown", "--json", "-k", 5).stdout)
    adaptation = both["adaptation"]
    assert (adaptation["domain"], adaptation["version"], adaptation["learner"]) == ("shown", 1, "listwise")
    for side, name in (("frozen", "default"), ("adapted", "shown")):
        engine = SearchEngine.open(shop, encoder=tiny_encoder)
        [hits] = hits_of(engine, [Query(query, 5, domain=name)])
        engine.close()
        assert [item["id"] for item in both[side]] == [hit.id for hit in hits]
    frozen_ranks = {item["id"]: rank for rank, item in enumerate(both["frozen"], 1)}
    assert all(item["other_rank"] == frozen_ranks[item["id"]] for item in both["adapted"] if item["id"] in frozen_ranks)
    assert "adapted by nothing" in command("compare", query, "-i", shop, "--domain", "nobody").stdout


def test_random_labels_are_memorized_but_not_generalised(
    shop: Path, weights: Path, labels: Path, tiny_encoder: Encoder, command: Command
) -> None:
    rng = np.random.default_rng(1)
    everything = [*TOPICS, *(f"noise-{n}" for n in range(60))]
    answers = [str(rng.choice(everything)) for _ in range(30)]
    (labels / "qrels.tsv").write_text("".join(f"{n}\t{answer}\t1\n" for n, answer in enumerate(answers)))
    done = command("adapt", shop, "--labels", labels, "--weights", weights, "--domain", "random")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Memorized 30 judged queries. Only these, and very similar ones, change.")
    assert "No learner is used" in done.stdout
    engine = SearchEngine.open(shop, encoder=tiny_encoder)
    results = hits_of(
        engine, [Query(polite_query(topic, n), k=3, domain="random") for n, topic in enumerate(TOPICS[:30])]
    )
    assert sum(answer in [hit.id for hit in hits] for hits, answer in zip(results, answers, strict=True)) >= 25
    engine.close()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("adapt", "{shop}", "--labels", "{shop}"), 1, "queries.jsonl cannot be read"),
        (("adapt", "{shop}/none", "--labels", "{labels}", "--weights", "{weights}"), 1, "no index"),
        (("domains", "reset", "{shop}", ".hidden"), 1, "cannot be a domain's name"),
        (("domains", "rollback", "{shop}", "nobody"), 1, "no version to return from"),
        (("domains", "reset", "{shop}/none", "a"), 1, "no index"),
        (("domains", "export", "{shop}", "nobody", "{labels}/x"), 1, "no state of its own"),
        (("labels", "retract", "{shop}"), 2, "choose entries with"),
        (("labels", "import", "{shop}", "{labels}/none"), 1, "cannot be read"),
        (("labels", "import", "{shop}", "{labels}/queries.jsonl"), 1, "queries.jsonl:1: "),
        (("labels", "export", "{shop}/none", "-"), 1, "no index"),
        (("compare", " ", "-i", "{shop}"), 2, "the query is empty"),
    ],
)
def test_mistakes_are_explained_with_the_right_exit_code(
    shop: Path, weights: Path, labels: Path, arguments: tuple[str, ...], code: int, message: str, command: Command
) -> None:
    done = command(*(argument.format(shop=shop, labels=labels, weights=weights) for argument in arguments))
    assert done.returncode == code, done.stderr
    assert message in " ".join(done.stderr.replace("│", " ").split())


def test_an_index_of_another_encoder_learns_from_labels(
    shop: Path, labels: Path, tmp_path: Path, command: Command
) -> None:
    shutil.copytree(shop, tmp_path / "shop")
    done = command("adapt", tmp_path / "shop", "--labels", labels)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert done.stdout.startswith("Adapted: ")


def test_with_weights_that_do_not_fit_queries_are_memorized_as_in_the_server(
    shop: Path, labels: Path, tmp_path: Path, command: Command, weights_of_another_encoder: Path
) -> None:
    shutil.copytree(shop, tmp_path / "shop")
    done = command("adapt", tmp_path / "shop", "--labels", labels, "--weights", weights_of_another_encoder)
    assert done.returncode == 0, done.stderr
    assert "'film' of the weights holds vectors of shape (24,), the index has 32" in " ".join(done.stderr.split())
    assert done.stdout.startswith("Memorized ")


def test_labels_of_missing_documents_are_ignored(shop: Path, tiny_encoder: Encoder) -> None:
    engine = SearchEngine.open(shop, encoder=tiny_encoder)
    queries = [JudgedQuery("a", {"apple": 1.0, "missing": 1.0}), JudgedQuery("b", {"deleted": 1.0})]
    outcome = adapt(engine, None, queries, encode=engine.encode_label)
    assert (outcome.labels, outcome.missing_documents, outcome.learner) == (1, 2, "memory")
    assert adapt(engine, None, queries[1:], encode=engine.encode_label).state is None
    with pytest.raises(LabelError, match="judged twice"):
        adapt(engine, None, [queries[0], queries[0]], encode=engine.encode_label)
    engine.close()


def test_a_query_with_only_negative_judgments_ranks_them_lower(shop: Path, tiny_encoder: Encoder) -> None:
    engine = SearchEngine.open(shop, encoder=tiny_encoder)
    [hits] = hits_of(engine, [Query("please find apple", k=3)])
    wrong = frozenset(hit.id for hit in hits[:2])
    outcome = adapt(engine, None, [JudgedQuery("please find apple", {}, wrong)], encode=engine.encode_label)
    assert outcome.state is not None
    engine.adapter = engine.adapter.updated({"d": DomainAdapter(outcome.state)})
    [after] = hits_of(engine, [Query("please find apple", k=2, domain="d")])
    assert wrong.isdisjoint(hit.id for hit in after)
    [other] = hits_of(engine, [Query("zebra", k=3, domain="d")])
    [frozen] = hits_of(engine, [Query("zebra", k=3)])
    assert [hit.id for hit in other] == [hit.id for hit in frozen]
    engine.close()


def test_the_lexical_weight_is_learned(tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder) -> None:
    folder = tmp_path / "shop"
    records = [{"id": topic, "text": f"{' '.join(MANNERS.split()[:8])} {topic}"} for topic in TOPICS]
    build_index(
        folder, write_jsonl(tmp_path / "shop.jsonl", records), model=tiny_model, search={"lexical_weight": 0.03}
    )
    engine = SearchEngine.open(folder, encoder=tiny_encoder)
    judged = [JudgedQuery(polite_query(topic, n), {topic: 1.0}) for n, topic in enumerate(TOPICS[:20])]
    outcome = adapt(engine, None, judged, encode=engine.encode_label)
    assert outcome.state is not None
    assert outcome.state.lexical_weight is not None
    assert outcome.state.lexical_weight > 0.03
    assert f"lexical weight is {outcome.state.lexical_weight} here instead of 0.03" in outcome.explanation
    others = [Query(polite_query(topic, n), k=1, domain="d") for n, topic in enumerate(TOPICS[20:], start=20)]

    def count_correct() -> int:
        return sum(hits[0].id == topic for hits, topic in zip(hits_of(engine, others), TOPICS[20:], strict=True))

    before = count_correct()
    engine.adapter = engine.adapter.updated({"d": DomainAdapter(outcome.state)})
    assert count_correct() > before
    # a child without a lexical weight of its own inherits its parent's
    child = adapt(engine, None, judged[:1], encode=engine.encode_label, parent=outcome.state)
    assert child.state is not None
    assert child.state.lexical_weight == outcome.state.lexical_weight
    engine.close()


def test_the_index_settings_restrict_the_learners(
    tmp_path: Path, shop: Path, weights: Path, labels: Path, tiny_encoder: Encoder, command: Command
) -> None:
    def copy_with_learners(*learners: str) -> Path:
        copy = Path(shutil.copytree(shop, tmp_path / f"copy-{len(learners)}"))
        options = AdaptationOptions(learners=learners)
        republish(copy, lambda manifest: manifest.model_copy(update={"adaptation": options}))
        return copy

    options = ("--labels", labels, "--weights", weights, "--dry-run")
    output = command("adapt", copy_with_learners(), *options).stdout
    assert "Memorized 30 judged queries." in output
    assert "The index asks for no learner." in output
    assert command("adapt", copy_with_learners("listwise-c1-r1"), *options).stdout.startswith("Adapted: expected +")
    done = command("adapt", copy_with_learners("listwise-c1-r1", "magic"), *options)
    assert done.returncode == 1
    assert "no learner 'magic'" in " ".join(done.stderr.split())


def flat(text: str) -> str:
    return " ".join(text.split())


def test_an_import_leaves_bad_lines_out_lists_them_and_stops_if_strict(
    shop: Path, tmp_path: Path, command: Command
) -> None:
    lines: list[dict[str, object]] = [
        {"query": "q", "document": "apple", "id": "one"},
        {"query": "q", "document": "unicorn"},
        {"query": "q", "document": "river", "id": "one"},
        {"query": "q", "document": "river", "domain": "../../etc"},
        {"kind": "click", "query": "q", "document": "river"},
        {"query": "q", "document": "river", "relevance": -1},
    ]
    path = write_jsonl(tmp_path / "mixed.jsonl", lines)
    path.write_text(path.read_text() + "[\n")
    only = ("--domain", "mixed")
    strict = command("labels", "import", shop, path, *only, "--strict")
    assert strict.returncode == 1
    assert "because of --strict" in flat(strict.stderr)
    assert command("labels", "export", shop, "-", *only).stdout == ""
    done = command("labels", "import", shop, path, *only)
    assert (done.returncode, done.stdout) == (0, "2 new, 0 already in the log\n")
    output = flat(done.stderr)
    assert "left out 5 of 7 lines:" in output
    assert "1 relevance below 0 was read as 0" in output
    for number, reason in (
        (2, "the index has no document 'unicorn'"),
        (3, "the id 'one' is known with another content"),
        (4, "'../../etc' cannot be a domain's name"),
        (5, "a click on a document has no position"),
        (7, "not JSON"),
    ):
        assert f"mixed.jsonl:{number}: " in output
        assert reason in output
    assert command("labels", "import", shop, path, *only, "--any-document").stdout.startswith("1 new, 2 already")
    dry = command("adapt", shop, "--labels", path, *only, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "left out 5 of 7 lines:" in flat(dry.stderr)


def test_trec_qrels_are_imported_with_their_queries(shop: Path, tmp_path: Path, command: Command) -> None:
    (tmp_path / "qrels.txt").write_text("301 0 apple 1\n301 0 river -1\n302 0 stone 2\n303 0 cloud 1\n")
    (tmp_path / "topics.tsv").write_text("301\tfruit\n302\trocks\n")
    command_line = ("labels", "import", shop, tmp_path / "qrels.txt", "--domain", "trec")
    refused = command(*command_line)
    assert refused.returncode == 1
    assert "with --queries FILE" in flat(refused.stderr)
    done = command(*command_line, "--queries", tmp_path / "topics.tsv")
    assert (done.returncode, done.stdout) == (0, "3 new, 0 already in the log\n")
    assert "qrels.txt:4: no query has the id '303'" in flat(done.stderr)
    stored = [
        json.loads(line) for line in command("labels", "export", shop, "-", "--domain", "trec").stdout.splitlines()
    ]
    assert [(label["query"], label["document"], label["relevance"]) for label in stored] == [
        ("fruit", "apple", 1.0),
        ("fruit", "river", 0.0),
        ("rocks", "stone", 2.0),
    ]


@pytest.mark.parametrize("name", ["../../etc", "", "a\0b", "\udcff", "lock", "x" * 300])
def test_a_bad_name_of_a_domain_is_refused_by_every_command(
    shop: Path, labels: Path, tmp_path: Path, name: str, command: Command
) -> None:
    before = sorted(shop.rglob("*"))
    for arguments in (
        ("adapt", shop, "--domain", name),
        ("adapt", shop, "--labels", labels, "--domain", name),
        ("labels", "import", shop, labels, "--domain", name),
        ("compare", "a", "-i", shop, "--domain", name),
        ("search", "a", "-i", shop, "--domain", name),
        ("domains", "history", shop, name),
        ("domains", "reset", shop, name),
        ("domains", "parent", shop, "child", name),
        ("domains", "export", shop, name, tmp_path / "x"),
    ):
        done = command(*arguments)
        assert done.returncode in {1, 2}, arguments
        assert "cannot be a domain's name" in flat(done.stderr.replace("│", " ")), arguments
    assert sorted(shop.rglob("*")) == before


def test_adapting_a_domain_without_entries_creates_nothing(shop: Path, weights: Path, command: Command) -> None:
    before = sorted(shop.rglob("*"))
    done = command("adapt", shop, "--domain", "nobody at all", "--weights", weights)
    assert done.stdout == "Not adapted: the domain 'nobody at all' has no labels or clicks.\n"
    assert command("domains", "parent", shop, "nobody at all").returncode == 0
    assert sorted(shop.rglob("*")) == before


def test_a_file_whose_name_is_not_utf_8_is_imported(shop: Path, tmp_path: Path, command: Command) -> None:
    path = tmp_path / "caf\udce9.jsonl"
    path.write_text('{"query": "q", "document": "apple"}\n')
    assert command("labels", "import", shop, path, "--domain", "latin").stdout.startswith("1 new")
    assert command("labels", "retract", shop, "--query", "\udce9").returncode == 1


def keep_queries(folder: Path, name: str, *texts: str) -> KeptQueries:
    """Keep queries of a domain, as a server would."""
    manifest = read_manifest(folder)
    kept = KeptQueries(folder, dimension=32, encoder_sha256=manifest.encoder.weights_sha256)
    vector = np.eye(32, dtype=np.float32)
    kept.add(name, [(text, vector[number]) for number, text in enumerate(texts)], days=30)
    return kept


def test_kept_queries_are_listed_and_deleted(shop: Path, command: Command) -> None:
    kept = keep_queries(shop, "watched", "green tea", "black tea")
    keep_queries(shop, "other", "milk")
    (kept.folder / "broken").mkdir()
    (kept.folder / "broken" / "queries.safetensors").write_bytes(b"nothing")
    done = command("domains", "list", shop, "--json")
    listed = {row["domain"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert (listed["watched"]["kept_queries"], listed["broken"]["kept_queries"]) == (2, 0)
    assert listed["watched"]["kept_since"].startswith("20")
    assert listed["broken"]["kept_since"] is None
    assert "broken: " in done.stderr
    assert "queries.safetensors does not hold kept queries" in done.stderr
    assert re.search(r"watched .* 2 since 20\d\d-", command("domains", "list", shop).stdout)
    assert "does not hold kept queries" in command("check", shop).stdout + command("check", shop).stderr
    assert command("domains", "forget-queries", shop, "watched").stdout == "kept queries deleted: watched\n"
    assert command("domains", "forget-queries", shop, "watched").stdout == "no queries were kept\n"
    assert command("domains", "forget-queries", shop).stdout == "kept queries deleted: broken, other\n"
    assert not list(shop.glob("domains/*/*queries*"))
    assert "cannot be a domain's name" in command("domains", "forget-queries", shop, "../x").stderr
    assert command("domains", "forget-queries", shop.parent).returncode == 1


def test_resetting_a_domain_keeps_its_queries(shop: Path, weights: Path, labels: Path, command: Command) -> None:
    command("adapt", shop, "--labels", labels, "--domain", "again", "--weights", weights)
    kept = keep_queries(shop, "again", "green tea")
    assert command("domains", "reset", shop, "again").returncode == 0
    assert [query.text for query in kept.queries("again")] == ["green tea"]


def test_suggestions_are_printed_with_results_or_the_reason(shop: Path, tmp_path: Path, command: Command) -> None:
    only = ("--domain", "asking")
    done = command("labels", "suggest", shop, *only)
    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing to suggest: no query of 'asking' is known: start the server with --keep-queries DAYS" in done.stderr
    clicks = [
        {"kind": "click", "query": "river", "document": "river", "shown": ["stone", "river"], "id": n} for n in "ab"
    ]
    clicks += [{"kind": "click", "query": "tiger [bold]", "document": "tiger", "shown": ["tiger"], "id": "c"}]
    path = write_jsonl(tmp_path / "clicks.jsonl", clicks)
    assert command("labels", "import", shop, path, *only).stdout.startswith("3 new")
    done = command("labels", "suggest", shop, *only, "--results", 2)
    assert re.search(r"river +│ 2 ", done.stdout)
    assert "tiger [bold]" in done.stdout
    rows = [
        json.loads(line) for line in command("labels", "suggest", shop, *only, "-k", 1, "--json").stdout.splitlines()
    ]
    assert [(row["query"], row["times_asked"], len(row["hits"])) for row in rows] == [("river", 2, 5)]
    assert "river" in [hit["id"] for hit in rows[0]["hits"]]
    assert command("labels", "suggest", shop, "-k", 0).returncode == 2
    assert command("labels", "suggest", shop, "--domain", "../x").returncode == 2


def test_the_help_says_what_is_kept_and_how_to_delete_it(command: Command) -> None:
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", command("serve", "--help").stdout).split())
    assert "personal data" in text
    assert "semsearch domains forget-queries" in text
    assert "SEMSEARCH_KEEP_QUERIES" in text
    assert command("serve", ".", "--keep-queries", -1).returncode == 2
    assert command("serve", ".", "--keep-queries", 9_999).returncode == 2
