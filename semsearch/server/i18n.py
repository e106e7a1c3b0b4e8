"""What the page says, in the languages there are.

A language is a file of `web/static/texts`: JSON, from a key to a text, or to its plural forms by CLDR's names. `{name}`
in a text stands for a value. The page's script reads the same files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from babel import Locale
from babel.numbers import format_decimal
from flask import current_app, g, request
from werkzeug.datastructures import LanguageAccept

DEFAULT = "en"


class Texts:
    """What the page says in one language."""

    def __init__(self, language: str, texts: Mapping[str, str | Mapping[str, str]]) -> None:
        """language: a tag of BCP 47, such as `zh-Hans`."""
        self.language = language
        self.keys = frozenset(texts)
        self._texts = texts
        self._locale = Locale.parse(language, sep="-")

    @property
    def direction(self) -> str:
        """`ltr` or `rtl`."""
        return self._locale.text_direction

    def __call__(self, key: str, /, *, count: int | None = None, **values: object) -> str:
        """The text of this key; count: a number that it is about, `{count}` in it."""
        text = self._texts[key]
        if not isinstance(text, str):
            assert count is not None
            text = text[self._locale.plural_form(count)]
        if count is not None:
            values["count"] = count
        return text.format(**{name: self._shown(value) for name, value in values.items()})

    def number(self, value: float, decimals: int = 0) -> str:
        """A number as it is written in this language."""
        return str(format_decimal(value, f"#,##0.{'0' * decimals}".rstrip("."), locale=self._locale))

    def _shown(self, value: object) -> object:
        return self.number(value) if isinstance(value, int) else value


class Languages:
    """All that the page can speak."""

    def __init__(self, folder: Path) -> None:
        """Those of the files in this folder."""
        self.all = {
            path.stem: Texts(path.stem, json.loads(path.read_text(encoding="utf-8")))
            for path in sorted(folder.glob("*.json"))
        }

    def best(self, asked: str, accepted: LanguageAccept) -> Texts:
        """What was asked for where it is there, else what the browser likes best, else English."""
        if asked in self.all:
            return self.all[asked]
        for wanted in accepted.values():
            found = [texts for texts in self.all.values() if _language(texts.language) == _language(wanted)]
            if found:
                return found[0]
        return self.all[DEFAULT]


def texts() -> Texts:
    """What the page says, in the language of the present request."""
    if "texts" not in g:
        languages: Languages = current_app.extensions["semsearch.languages"]
        g.texts = languages.best(request.args.get("lang", ""), request.accept_languages)
    found: Texts = g.texts
    return found


def _language(tag: str) -> str:
    return tag.partition("-")[0].lower()
