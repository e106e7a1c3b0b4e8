"""Python's own documentation: complete, the same every time, and nothing of this machine in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from semsearch.ingest.readers.python_docs import EXCLUDED, records

CANARY = "canary-8d1f-not-to-be-indexed"


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMSEARCH_CANARY", CANARY)
        patch.setenv("HOME", f"/nowhere/{CANARY}")
        return {record["id"]: record for record in records()}


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("json", "module"),
        ("json.dumps", "function"),
        ("asyncio.gather", "function"),
        ("collections.OrderedDict", "class"),
        ("os.path.join", "function"),
        ("open", "function"),
        ("str.split", "method"),
        ("csv.DictReader", "class"),
        ("datetime.datetime.now", "method"),
        ("zipfile.ZipFile.extractall", "method"),
        ("threading.Thread.start", "method"),
        ("pathlib.PurePath.suffix", "property"),
        ("multiprocessing", "module"),
        ("multiprocessing.Pool", "function"),
        ("xml.etree.ElementTree.parse", "function"),
        ("OSError", "class"),
    ],
)
def test_what_people_look_for_is_there(found: dict[str, dict[str, str]], title: str, kind: str) -> None:
    assert found[title]["kind"] == kind


def test_a_text_is_signature_and_docstring(found: dict[str, dict[str, str]]) -> None:
    assert found["json.loads"]["text"].startswith("loads(s, *, cls=None, object_hook=None")
    assert "Deserialize" in found["json.loads"]["text"]


@pytest.mark.parametrize(
    "title",
    ["posixpath.join", "EnvironmentError", "ast.Constant", "cgi", "distutils", "encodings.cp037", "json.encoder"],
)
def test_other_names_and_what_is_deprecated_or_private_are_left_out(
    found: dict[str, dict[str, str]], title: str
) -> None:
    assert title not in found
    assert not any(other.startswith(f"{title}.") for other in found)


def test_a_method_is_one_document_with_the_names_that_inherit_it(found: dict[str, dict[str, str]]) -> None:
    assert "Also datetime.datetime.strftime." in found["datetime.date.strftime"]["text"]
    assert "datetime.datetime.strftime" not in found
    assert "random.Random.randint" in found["random.randint"]["text"]


def test_a_member_says_what_its_module_is_for(found: dict[str, dict[str, str]]) -> None:
    assert found["re.sub"]["text"].endswith("In re: Support for regular expressions (RE).")


def test_a_class_without_a_docstring_has_its_signature(found: dict[str, dict[str, str]]) -> None:
    assert found["csv.DictReader"]["text"].startswith("DictReader(f, fieldnames=None, restkey=None")


def test_nothing_of_this_machine_is_in_it(found: dict[str, dict[str, str]]) -> None:
    everything = json.dumps(list(found.values()))
    assert CANARY not in everything
    assert str(Path.home()) + "/" not in everything
    assert " at 0x7" not in everything


def test_nothing_that_acts_on_import_is_read(found: dict[str, dict[str, str]]) -> None:
    assert {record["module"].partition(".")[0] for record in found.values()} & EXCLUDED == set()


def test_it_is_the_same_every_time(found: dict[str, dict[str, str]]) -> None:
    assert list(records()) == list(found.values())


def test_nothing_is_printed(found: dict[str, dict[str, str]], capfd: pytest.CaptureFixture[str]) -> None:
    assert next(iter(records()))["id"] in found
    assert capfd.readouterr() == ("", "")
