"""The command line in processes of its own: output and exit codes."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO, TextIOWrapper
from itertools import cycle
from pathlib import Path
from time import monotonic, sleep

import pytest

from semsearch import Index
from tests.conftest import ANIMALS, NEEDS_IPV6, Command, build_index, write_jsonl


def run(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "semsearch", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", **environment},
        timeout=120,
        check=False,
    )


@contextmanager
def served(index: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], http.client.HTTPConnection]]:
    """A server of an index, and a connection to it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "semsearch", "serve", index, "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        assert process.stderr is not None
        url = next(match for line in process.stderr if (match := re.search(r"http://\[?([\w.:]+?)\]?:(\d+)/", line)))
        yield process, http.client.HTTPConnection(url[1], int(url[2]), timeout=30)
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


@pytest.mark.parametrize("command", ["", "build", "serve", "search", "info", "demo"])
def test_help_shows_usage_and_environment_variables(command: str) -> None:
    done = run(*command.split(), "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout
    assert command in {"", "info"} or "SEMSEARCH_" in done.stdout
    assert command in {"", "info"} or "[default: all cores]" in done.stdout


def test_the_version_is_printed() -> None:
    assert run("--version").stdout == "0.1.0\n"


def test_build_info_and_search(tmp_path: Path, tiny_model: Path) -> None:
    source = write_jsonl(tmp_path / "animals.jsonl", ANIMALS)
    script = Path(__file__).parents[2] / "scripts" / "build_index.py"
    options: list[str | Path] = [
        source,
        "--out",
        tmp_path / "index" / "animals",
        "--encoder",
        tiny_model,
        "--device",
        "cpu",
    ]
    built = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert "6 documents in 6 passages" in built.stderr
    assert "6 in 6 passages" in run("info", tmp_path / "index" / "animals").stdout
    done = run("search", "nectar and honey", "-k", "2", "--json", cwd=tmp_path)
    best, second = map(json.loads, done.stdout.splitlines())
    assert best["id"] == "bee"
    assert best["score"] > second["score"]


@pytest.mark.parametrize(
    ("mode", "code"), [("semantic", 0), ("keyword", 0), ("Hybrid", 0), ("lexical", 0), ("magic", 2), ("", 2)]
)
def test_the_mode_is_chosen_by_its_name_or_former_name(animals: Path, command: Command, mode: str, code: int) -> None:
    done = command("search", "nectar honey", "-i", animals, "-k", "1", "--mode", mode, "--json", "--device", "cpu")
    assert done.returncode == code, done.stderr
    if code:
        assert "is not a mode: choose one of semantic, keyword, hybrid" in " ".join(
            done.stderr.replace("│", " ").split()
        )
    else:
        hit = json.loads(done.stdout)
        assert hit["id"] == "bee"
        assert (hit["score_breakdown"]["similarity"] is None) == (mode in {"keyword", "lexical"})


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--offset", "9" * 20), "skip at most 1,000,000 documents"),
        (("-k", "9" * 20), "ask for at most 100,000 results"),
        (("--sort", "\udcff"), "is not valid Unicode"),
        (("--domain", "\udcff"), "it is not valid UTF-8"),
    ],
)
def test_a_search_option_that_is_not_valid_is_wrong_usage(
    animals: Path, command: Command, options: tuple[str, str], problem: str
) -> None:
    done = command("search", "honey", "-i", animals, "--mode", "keyword", *options)
    assert done.returncode == 2
    assert problem in " ".join(done.stderr.replace("│", " ").split())
    assert options[0] in done.stderr


@pytest.fixture
def bees(tmp_path: Path, tiny_model: Path) -> Path:
    """An index whose texts, names and labels ASCII cannot express."""
    source = write_jsonl(tmp_path / "bées.jsonl", [{"id": "bée", "title": "Bée →", "text": "honey 数据库", "art": "é"}])
    build_index(tmp_path / "bées", source, model=tiny_model, title="Bées")
    registry = Index.open(tmp_path / "bées", device="cpu")
    registry.domain("équipe").label("honey é", "bée")
    registry.close()
    return tmp_path / "bées"


OUTPUTS: dict[str, tuple[str, ...]] = {
    "search": ("search", "honey", "-i", "INDEX", "--mode", "keyword", "--explain"),
    "search as JSON": ("search", "honey", "-i", "INDEX", "--mode", "keyword", "--json"),
    "a filter's error": ("search", "honey", "-i", "INDEX", "--mode", "keyword", "--filter", "é = 1"),
    "info": ("info", "INDEX"),
    "info as JSON": ("info", "INDEX", "--json"),
    "check": ("check", "INDEX"),
    "check as JSON": ("check", "INDEX", "--json"),
    "labels": ("labels", "export", "INDEX", "-"),
    "domains": ("domains", "list", "INDEX"),
    "domains as JSON": ("domains", "list", "INDEX", "--json"),
    "compare": ("compare", "honey é", "-i", "INDEX", "--domain", "équipe", "--device", "cpu"),
    "delete": ("delete", "INDEX", "fé"),
    "compact": ("compact", "INDEX"),
    "adapt": ("adapt", "INDEX", "--domain", "équipe", "--device", "cpu"),
    "help": ("search", "--help"),
}


def test_output_in_ascii_has_no_traceback(bees: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, words in OUTPUTS.items():
        stdout = TextIOWrapper(BytesIO(), "ascii")
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", stdout)
            done = command(*(str(bees) if word == "INDEX" else word for word in words))
        stdout.flush()
        printed = stdout.buffer.getvalue().decode("ascii")
        assert "Traceback" not in done.stderr, name
        assert done.returncode == (name == "a filter's error"), (name, done.stderr)
        if "JSON" in name or name == "labels":
            assert "?" not in printed, name
            json.loads(printed)


def test_a_domain_without_its_adaptation_is_named(animals: Path, tmp_path: Path, command: Command) -> None:
    index = Path(shutil.copytree(animals, tmp_path / "index"))
    (index / "domains" / "team").mkdir(parents=True)
    (index / "domains" / "team" / "domain.json").write_text("{")
    for domain, problem in (("team", "domain.json"), ("taem", "nothing is known of this domain yet")):
        for mode in ("semantic", "keyword"):
            done = command("search", "honey", "-i", index, "--mode", mode, "--domain", domain, "--device", "cpu")
            assert done.returncode == 0
            assert f"note: domain '{domain}' is searched without adaptation: " in done.stderr
            assert problem in done.stderr
    assert "note" not in command("search", "honey", "-i", index, "--device", "cpu").stderr


def test_hybrid_search_answers_by_keywords_if_the_encoder_fails(
    tiny_model: Path, tmp_path: Path, command: Command
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    source = write_jsonl(tmp_path / "animals.jsonl", ANIMALS)
    build_index(tmp_path / "animals", source, model=model)
    shutil.rmtree(model)
    done = command("search", "nectar honey", "-i", tmp_path / "animals", "-k", "1", "--json", "--explain")
    assert (done.returncode, json.loads(done.stdout)["id"]) == (0, "bee")
    assert "note: keyword search answered instead of hybrid search: " in done.stderr
    assert f"put it back at {model}" in done.stderr
    failed = command("search", "nectar honey", "-i", tmp_path / "animals", "--mode", "semantic")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert f"put it back at {model}" in failed.stderr


def test_lexical_is_keyword_search(animals: Path, command: Command) -> None:
    options = ("-i", animals, "--json", "--device", "cpu", "--mode")
    former, current = (command("search", "nectar honey", *options, mode) for mode in ("lexical", "keyword"))
    assert former.stdout == current.stdout != ""


@pytest.mark.parametrize("option", ["--collapse", "--fold"])
def test_near_duplicates_are_collapsed(tmp_path: Path, tiny_model: Path, command: Command, option: str) -> None:
    text = "Bees make honey from nectar, and store it in the cells of their comb for the winter."
    source = write_jsonl(tmp_path / "bees.jsonl", [{"id": "a", "text": text}, {"id": "b", "text": text}])
    command("build", source, "--out", tmp_path / "bees", "--encoder", tiny_model, "--device", "cpu")
    search = ("search", "honey", "-i", tmp_path / "bees", "--json", "--device", "cpu")
    assert len(command(*search).stdout.splitlines()) == 2
    [hit] = map(json.loads, command(*search, option).stdout.splitlines())
    assert len(hit["duplicates"]) == 1


def test_former_names_of_options_are_not_shown() -> None:
    shown = run("search", "--help").stdout
    assert "--collapse" in shown
    assert "--fold" not in shown
    assert "lexical" not in shown


def test_failed_work_is_explained_and_exits_with_1(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": "x"}\n{bad')
    for arguments, complaint in (
        (("build", tmp_path / "bad.jsonl", "--out", tmp_path / "x", "--encoder", tiny_model), "bad.jsonl:2: not JSON"),
        (("info", tmp_path / "nowhere"), "no index at"),
        (("build", tmp_path / "none.toml"), "no recipe at"),
    ):
        done = run(*arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        assert complaint in done.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "arguments",
    [("build",), ("build", "a.jsonl"), ("build", "a.toml", "b.toml"), ("search", ""), ("search", "x"), ("fly",)],
)
def test_wrong_usage_exits_with_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert run(*arguments, cwd=tmp_path).returncode == 2


def test_a_server_answers_until_it_is_terminated(animals: Path) -> None:
    with served(animals, SEMSEARCH_MAX_K="3") as (process, connection):
        assert process.stderr is not None
        connection.request("GET", "/api/search?query=nectar+and+honey&k=3")
        assert json.loads(connection.getresponse().read())["results"][0]["hits"][0]["id"] == "bee"
        connection.request("GET", "/api/search?query=nectar&k=4")
        assert connection.getresponse().status == 422
        connection.close()
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(30) == 0
        assert "nectar" not in rest
        assert json.loads(rest.splitlines()[0])["event"] == "request"


def test_signals_while_a_server_stops_change_nothing(animals: Path) -> None:
    with served(animals) as (process, connection):
        assert process.stderr is not None
        connection.close()
        numbers = cycle((signal.SIGTERM, signal.SIGINT))
        until = monotonic() + 30
        while process.poll() is None and monotonic() < until:
            process.send_signal(next(numbers))
            sleep(0.02)
        assert process.wait(1) == 0
        assert "Traceback" not in process.stderr.read()


def test_a_server_releases_the_generation_before_a_change(animals: Path, tmp_path: Path) -> None:
    index = shutil.copytree(animals, tmp_path / "zoo")
    with served(index) as (_, connection):
        body = json.dumps({"documents": [{"id": "owl", "text": "An owl hunts at night."}]})
        connection.request("PUT", "/api/documents", body, {"Content-Type": "application/json"})
        assert connection.getresponse().read()
        connection.close()
        until = monotonic() + 20
        while (index / "g-000001").exists() and monotonic() < until:
            sleep(0.1)
        assert [path.name for path in index.glob("g-*")] == ["g-000002"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", pytest.param("::1", marks=NEEDS_IPV6)])
def test_a_server_answers_at_its_own_address_and_refuses_other_names(animals: Path, host: str) -> None:
    with served(animals, SEMSEARCH_HOST=host) as (_, connection):
        # the client sends the address as its Host header
        connection.request("GET", "/api/indexes")
        assert connection.getresponse().read().startswith(b'{"indexes":')
        connection.close()
        connection.request("GET", "/api/indexes", headers={"Host": "elsewhere.example"})
        assert connection.getresponse().status == 400
        connection.close()


def test_a_taken_port_is_reported_before_anything_is_loaded(animals: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("serve", animals, "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "choose another with --port" in done.stderr
    assert "opened" not in done.stderr


def test_a_phrase_that_was_not_found_is_named(command: Command, animals: Path) -> None:
    done = command("search", '"prey of bird" [b]', "-i", animals, "--mode", "keyword", "--device", "cpu")
    assert "Eagle" in done.stdout
    assert 'the phrase "prey of bird" was not found: its words were searched' in done.stderr
    assert "was not found" not in command("search", '24" or 27" bird', "-i", animals, "--device", "cpu").stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--trusted-proxy", "localhost"), "the trusted proxy 'localhost' is not an IP address: give the one"),
        (("--trusted-host", "http://a.example"), "the trusted host 'http://a.example' is not a host name: give it"),
        (("--root-path", "/a//b"), "the root path '/a//b' is not a path such as /search"),
        (("--max-k", "0"), "--max-k"),
        (("--max-waiting", "1000000000"), "--max-waiting"),
        (("--max-offset", "-1"), "--max-offset"),
        (("--deadline-s", "0"), "--deadline-s"),
        (("--deadline-s", "nan"), "--deadline-s"),
        (("--deadline-s", "inf"), "--deadline-s"),
        (("--query-cache-size", "-1"), "--query-cache-size"),
        (("--max-body-bytes", "1"), "--max-body-bytes"),
        (("--click-exponent", "nan"), "--click-exponent"),
        (("--write-key", "short"), "NAME=KEY"),
        (("--weights", "/no/such/file"), "/no/such/file holds no weights"),
    ],
)
def test_a_bad_option_of_serve_is_named_before_anything_is_loaded(
    command: Command, options: tuple[str, str], message: str
) -> None:
    """The index does not exist: its absence is noticed when it is opened."""
    done = command("serve", "no/such/index", "--port", "0", *options)
    assert done.returncode in {1, 2}
    assert message in " ".join(done.stderr.split())
    assert "no/such/index" not in done.stderr
