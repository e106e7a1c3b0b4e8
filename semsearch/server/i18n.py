"""The texts of the interface, in each language.

A language is a JSON file in `web/static/texts`. It maps a key to a text, or to the text's plural forms by their CLDR
names. `{name}` in a text is replaced by a value. The page's script reads the same files.

The library and the API speak English only. `web/messages` has, for each other language, the English messages that a
page may show, with `{name}` for what differs, and their translations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from babel import Locale
from babel.numbers import format_decimal
from flask import current_app, g, request
from werkzeug.datastructures import LanguageAccept

DEFAULT = "en"
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class Texts:
    """The texts of one language."""

    def __init__(
        self, language: str, texts: Mapping[str, str | Mapping[str, str]], messages: Mapping[str, str] | None = None
    ) -> None:
        """Create the texts of a language.

        language: a BCP 47 tag, such as `zh-Hans`. messages: translations of English messages; without any, messages
        stay as they are.
        """
        self.language = language
        self.keys = frozenset(texts)
        self._texts = texts
        self._locale = Locale.parse(language, sep="-")
        # what has more letters of its own is more specific
        templates = sorted(messages or {}, key=lambda template: -len(_PLACEHOLDER.sub("", template)))
        self._messages = [(_pattern(template), (messages or {})[template]) for template in templates]

    @property
    def direction(self) -> str:
        """`ltr` or `rtl`."""
        return self._locale.text_direction

    def __call__(self, key: str, /, *, count: int | None = None, **values: object) -> str:
        """Return the text of a key with its values filled in.

        count: selects the plural form, and replaces `{count}`.
        """
        text = self._texts[key]
        if not isinstance(text, str):
            assert count is not None
            text = text[self._locale.plural_form(count)]
        if count is not None:
            values["count"] = count
        return text.format(**{name: self._format(value) for name, value in values.items()})

    def translated(self, message: str) -> str | None:
        """Return an English message of the library or the API in this language; None if it has no translation."""
        if self.language == DEFAULT:
            return message
        for pattern, translation in self._messages:
            if match := pattern.fullmatch(message):
                # a value may be a message too, such as the reason in a sentence about a filter
                values = {name: self.translated(value) or value for name, value in match.groupdict().items()}
                return translation.format(**values)
        return None

    def number(self, value: float, decimals: int = 0) -> str:
        """Format a number as the language does."""
        return str(format_decimal(value, f"#,##0.{'0' * decimals}".rstrip("."), locale=self._locale))

    def _format(self, value: object) -> object:
        return self.number(value) if isinstance(value, int) else value


class Languages:
    """The languages of the interface."""

    def __init__(self, folder: Path, messages: Path) -> None:
        """Read the languages in `folder`, one JSON file each, and the translations of messages in `messages`."""
        self.all = {
            path.stem: Texts(path.stem, _read(path), _read(messages / path.name))
            for path in sorted(folder.glob("*.json"))
        }

    def best(self, requested: str, accepted: LanguageAccept) -> Texts:
        """Choose the requested language, otherwise the first accepted one, otherwise English.

        requested: a language tag, or an empty string. accepted: the browser's `Accept-Language`.
        """
        if requested in self.all:
            return self.all[requested]
        for tag in accepted.values():
            for texts in self.all.values():
                if _primary_subtag(texts.language) == _primary_subtag(tag):
                    return texts
        return self.all[DEFAULT]


def texts() -> Texts:
    """Return the texts in the language of the current request."""
    if "texts" not in g:
        languages: Languages = current_app.extensions["semsearch.languages"]
        g.texts = languages.best(request.args.get("lang", ""), request.accept_languages)
    current: Texts = g.texts
    return current


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object; an empty one if there is no such file."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _pattern(template: str) -> re.Pattern[str]:
    """Return the pattern of the messages that a template stands for."""
    parts = _PLACEHOLDER.split(template)
    # the parts at odd positions are the names
    return re.compile(
        "".join(f"(?P<{part}>.+?)" if number % 2 else re.escape(part) for number, part in enumerate(parts)), re.DOTALL
    )


def _primary_subtag(tag: str) -> str:
    return tag.partition("-")[0].lower()
