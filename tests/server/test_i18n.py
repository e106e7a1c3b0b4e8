"""What the page says: complete in every language, and nothing that it says is missing or left over."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from werkzeug.datastructures import LanguageAccept

import semsearch
from semsearch.server.i18n import Languages, Texts

WEB = Path(semsearch.__file__).parent.parent / "web"
FOLDER = WEB / "static" / "texts"
FILES = sorted(FOLDER.glob("*.json"))
COMPUTED = {"error.", "stage.", "mode.", "how.", "status.", "keys.", "verdict."}
"""Keys whose end is only known while the page is made."""


def forms(text: str | dict[str, str]) -> list[str]:
    return [text] if isinstance(text, str) else list(text.values())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_language_says_everything_with_the_same_values(path: Path) -> None:
    english = json.loads((FOLDER / "en.json").read_text("utf-8"))
    texts = json.loads(path.read_text("utf-8"))
    assert set(texts) == set(english)
    for key, text in texts.items():
        wanted = {name for one in forms(english[key]) for name in re.findall(r"{(\w+)}", one)}
        given = {name for one in forms(text) for name in re.findall(r"{(\w+)}", one)}
        assert given == wanted, key
        assert isinstance(text, dict) == isinstance(english[key], dict), key


def test_what_is_asked_for_is_there_and_what_is_there_is_asked_for() -> None:
    sources = [
        *WEB.rglob("*.html"),
        *WEB.rglob("*.js"),
        *Path(semsearch.__file__).parent.joinpath("server").rglob("*.py"),
    ]
    asked: set[str] = set()
    for path in sources:
        asked |= set(re.findall(r"""\b(?:t|texts\(\)|texts)\(\s*['"]([\w.-]+)['"]""", path.read_text("utf-8")))
        asked |= set(re.findall(r"""["']((?:[a-z]+)\.[a-z][\w-]*)["'] (?=if|else|:)""", path.read_text("utf-8")))
        asked |= set(re.findall(r"""(?:\?|:) ["']([a-z]+\.[\w-]+)["']""", path.read_text("utf-8")))
    keys = set(json.loads((FOLDER / "en.json").read_text("utf-8")))
    complete = {key for key in asked if not key.endswith(".")}
    called = {key for key in complete if key.split(".")[0] in {one.split(".")[0] for one in keys}}
    assert {key for key in called if "." in key} - keys == set()
    left_over = {key for key in keys - called if not any(key.startswith(begin) for begin in COMPUTED)}
    assert left_over == set()


def test_plurals_and_numbers_are_the_languages_own() -> None:
    english = Texts("en", {"found": {"one": "{count} hit in {ms} ms", "other": "{count} hits in {ms} ms"}})
    assert english("found", count=1, ms="0.5") == "1 hit in 0.5 ms"
    assert english("found", count=12_345, ms=1_000) == "12,345 hits in 1,000 ms"
    german = Texts("de", {"found": {"one": "{count} Treffer", "other": "{count} Treffer"}})
    assert german("found", count=12_345) == "12.345 Treffer"
    assert (german.number(1234.5, 1), english.number(1234.5, 1)) == ("1.234,5", "1,234.5")
    assert (english.direction, Texts("ar", {}).direction) == ("ltr", "rtl")


@pytest.mark.parametrize(
    ("asked", "accepted", "spoken"),
    [
        ("", ["zh-CN", "en"], "zh-Hans"),
        ("", ["de", "zh"], "zh-Hans"),
        ("", ["en-GB", "zh"], "en"),
        ("", ["fr"], "en"),
        ("", [], "en"),
        ("zh-Hans", ["en"], "zh-Hans"),
        ("../en", ["zh"], "zh-Hans"),
    ],
)
def test_the_language_is_what_was_asked_for_or_what_the_browser_likes(
    asked: str, accepted: list[str], spoken: str
) -> None:
    liked = LanguageAccept([(tag, 1 - place / 10) for place, tag in enumerate(accepted)])
    assert Languages(FOLDER).best(asked, liked).language == spoken
