"""Every example in the README works: Python and commands are run, requests are sent, links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import typer
from flask.testing import FlaskClient

from semsearch import Index
from semsearch.cli.main import app
from semsearch.encoders.encoder import Encoder
from semsearch.metalearn.datasets import read_labels
from semsearch.search.engine import SearchEngine
from semsearch.server.app import create_app
from tests.conftest import Command, build_index, write_jsonl

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PARSED_ONLY = {"demo", "serve", "learn", "evaluate"}
"""Commands that run until they are stopped, or need labelled domains: their command lines are parsed, not run."""


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Request:
    """What a curl command sends."""

    method: str
    address: str
    body: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


def blocks(text: str) -> list[Block]:
    found = re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE)
    return [Block(match[1].strip(), match[2], text[: match.start()].count("\n") + 1) for match in found]


def command_lines(block: Block) -> list[list[str]]:
    """The commands of a shell block; of a console block, the lines after a prompt."""
    if block.language == "sh":
        lines = block.text.splitlines()
    elif block.language == "console":
        lines = [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]
        assert lines, f"README.md, line {block.line}: a console block without a prompt"
    else:
        lines = []
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def all_commands(program: str) -> list[list[str]]:
    return [words[1:] for block in blocks(README) for words in command_lines(block) if words[0] == program]


def curl_request(words: list[str]) -> Request:
    """The request of a curl command line. Raises ValueError for an option that curl lines here do not have."""
    method, body, address, headers = "", None, "", {}
    rest = iter(words)
    for word in rest:
        if word == "-X":
            method = next(rest)
        elif word == "--json":
            body = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(":")
            headers[name] = value.strip()
        elif word.startswith("-"):
            raise ValueError(f"curl's option {word} is not known to this test")
        else:
            parts = urlsplit(word)
            address = f"{parts.path}?{parts.query}"
    return Request(method or ("GET" if body is None else "POST"), address, body, headers)


def parse(words: list[str]) -> None:
    """Parse a command line as the program does, without running it. Raises click's UsageError for a wrong one."""
    group = typer.main.get_command(app)
    context = group.make_context("semsearch", list(words), resilient_parsing=False)
    while hasattr(group, "resolve_command"):
        name, group, words = group.resolve_command(context, [*context._protected_args, *context.args])
        context = group.make_context(name, list(words), parent=context)


@pytest.fixture(scope="module")
def python_index(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A small index of what the README's labels and filters name."""
    folder = tmp_path_factory.mktemp("readme")
    labelled = (doc_id for _, relevance in read_labels(ROOT / "docs" / "example") for doc_id in relevance)
    names = dict.fromkeys(["str.lower", *labelled])
    records = [
        {"id": name, "title": name, "text": f"Documentation of {name}.", "kind": "method", "module": "builtins"}
        for name in names
    ]
    build_index(folder / "python", write_jsonl(folder / "python.jsonl", records), model=tiny_model)
    return folder / "python"


@pytest.fixture
def client(python_index: Path, tiny_encoder: Encoder) -> Iterator[FlaskClient]:
    engine = SearchEngine.open(python_index, encoder=tiny_encoder)
    served = create_app({"python": engine})
    yield served.test_client()
    served.extensions["semsearch"].close()
    engine.close()


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert blocks(README)
    for block in blocks(README):
        assert block.language in {"python", "sh", "console"}, f"README.md, line {block.line}: {block.language!r}"
        for words in command_lines(block):
            assert words[0] in {"semsearch", "curl", "make"}, f"README.md, line {block.line}: {words[0]!r}"


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_encoder: Encoder) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Encoder, "open", lambda *_args, **_options: real_encoder)  # the default one, opened once
    [example] = [block.text for block in blocks(README) if block.language == "python"]
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    hits, many, index, result = names["hits"], names["many"], names["index"], names["result"]
    assert isinstance(hits, list)
    assert isinstance(many, list)
    assert isinstance(index, Index)
    assert [len(found) for found in many] == [2, 2]
    assert [found[0].id for found in many] == ["a", "b"]
    assert hits[0].id == "a"
    assert getattr(result, "labels", None) == 1
    assert (tmp_path / "help" / "current").exists()
    assert [hit.id for hit in index.search("reset my pin")][:1] == ["a"]
    assert len(index) == 2
    index.close()


def test_every_command_runs_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, python_index: Path, tiny_model: Path
) -> None:
    (tmp_path / "articles").mkdir()
    (tmp_path / "articles" / "reset.md").write_text("# Reset\n\nHow to reset a PIN.", encoding="utf-8")
    write_jsonl(tmp_path / "faq.jsonl", [{"id": f"faq-{n}", "text": f"Answer {n}."} for n in (12, 13, 14)])
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "python").symlink_to(python_index)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    (tmp_path / "data" / "domains").mkdir(parents=True)
    (tmp_path / "weights").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEMSEARCH_ENCODER", str(tiny_model))
    ran = []
    for words in all_commands("semsearch"):
        parse(words)
        if words[0] == "tune":
            done = command(*words, "--labels", "no-labels")
            assert done.returncode == 1, done.stderr  # it starts, and says that the folder does not exist
        elif words[0] not in PARSED_ONLY:
            done = command(*words)
            assert done.returncode == 0, (words, done.stdout, done.stderr)
        ran.append(words[0])
    assert {"build", "search", "info", "serve", "update", "delete", "compact", "adapt", "compare", "tune"} <= set(ran)


def test_every_request_is_answered(client: FlaskClient) -> None:
    requests = [curl_request(words) for words in all_commands("curl")]
    assert len(requests) >= 5
    for sent in requests:
        body = None if sent.body is None else json.dumps(json.loads(sent.body))
        answer = client.open(
            sent.address, method=sent.method, data=body, content_type=body and "application/json", headers=sent.headers
        )
        assert answer.status_code < 400, (sent, answer.text)


def test_the_shown_answer_has_the_fields_of_a_real_one(client: FlaskClient) -> None:
    [shown] = [block.text for block in blocks(README) if '"timing_ms"' in block.text]
    answer = client.get("/api/search?query=split+a+string+at+commas&k=1&mode=hybrid")
    keys = re.compile(r'"(\w+)":')
    metadata = {"kind", "module"}
    assert set(keys.findall(shown)) - metadata == set(keys.findall(answer.text)) - metadata


def test_every_make_target_and_every_link_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in {word for words in all_commands("make") for word in words}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        text = (ROOT / path).read_text(encoding="utf-8") if anchor else ""
        headings = [re.sub(r"[^\w\- ]", "", line).strip().replace(" ", "-").lower() for line in text.splitlines()]
        assert (ROOT / path).exists(), link
        assert not anchor or anchor in headings, link
    for script in set(re.findall(r"scripts/[\w-]+\.\w+", README)):
        assert (ROOT / script).exists(), script
