"""The texts of the interface: complete in every language, with no missing and no unused key."""

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
COMPOSED = {"error.", "stage.", "mode.", "event.", "status.", "keys.", "verdict.", "storage.", "taught.", "tray.total-"}
"""Prefixes of keys that a template or a function composes."""


def forms(text: str | dict[str, str]) -> list[str]:
    return [text] if isinstance(text, str) else list(text.values())


def placeholders(text: str | dict[str, str]) -> set[str]:
    return {name for form in forms(text) for name in re.findall(r"{(\w+)}", form)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_language_has_every_text_with_the_same_placeholders(path: Path) -> None:
    english = json.loads((FOLDER / "en.json").read_text("utf-8"))
    texts = json.loads(path.read_text("utf-8"))
    assert set(texts) == set(english)
    for key, text in texts.items():
        assert placeholders(text) == placeholders(english[key]), key
        assert isinstance(text, dict) == isinstance(english[key], dict), key


def test_every_key_in_use_exists_and_every_key_is_in_use() -> None:
    sources = [
        *WEB.rglob("*.html"),
        *WEB.rglob("*.js"),
        *Path(semsearch.__file__).parent.joinpath("server").rglob("*.py"),
    ]
    used: set[str] = set()
    for path in sources:
        used |= set(re.findall(r"""\b(?:t|texts\(\)|texts)\(\s*['"]([\w.-]+)['"]""", path.read_text("utf-8")))
        used |= set(re.findall(r"""["']((?:[a-z]+)\.[a-z][\w-]*)["'] (?=if|else|:)""", path.read_text("utf-8")))
        used |= set(re.findall(r"""(?:\?|:) ["']([a-z]+\.[\w-]+)["']""", path.read_text("utf-8")))
    keys = set(json.loads((FOLDER / "en.json").read_text("utf-8")))
    prefixes = {key.split(".")[0] for key in keys}
    complete = {key for key in used if not key.endswith(".") and key.split(".")[0] in prefixes}
    assert {key for key in complete if "." in key} - keys == set()
    unused = {key for key in keys - complete if not any(key.startswith(prefix) for prefix in COMPOSED)}
    assert unused == set()


def test_plurals_and_numbers_follow_the_language() -> None:
    english = Texts("en", {"found": {"one": "{count} hit in {ms} ms", "other": "{count} hits in {ms} ms"}})
    assert english("found", count=1, ms="0.5") == "1 hit in 0.5 ms"
    assert english("found", count=12_345, ms=1_000) == "12,345 hits in 1,000 ms"
    german = Texts("de", {"found": {"one": "{count} Treffer", "other": "{count} Treffer"}})
    assert german("found", count=12_345) == "12.345 Treffer"
    assert (german.number(1234.5, 1), english.number(1234.5, 1)) == ("1.234,5", "1,234.5")
    assert (english.direction, Texts("ar", {}).direction) == ("ltr", "rtl")


@pytest.mark.parametrize(
    ("requested", "accepted", "chosen"),
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
def test_the_language_is_the_requested_one_or_the_first_accepted_one(
    requested: str, accepted: list[str], chosen: str
) -> None:
    header = LanguageAccept([(tag, 1 - position / 10) for position, tag in enumerate(accepted)])
    assert Languages(FOLDER, FOLDER / "none").best(requested, header).language == chosen
