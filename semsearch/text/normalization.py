"""Normalization of text before it is cut into words, with the offsets of the original text. Does not depend on words.

Invisible characters are removed, and what can be written in several ways is written in one: NFKC (Unicode Standard
Annex 15) with the exceptions below. Documents and queries go through the same function.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import regex

MAX_MARKS = 30
"""Combining marks in a row that are kept, as in Unicode's Stream-Safe Text Format: sorting more takes square time."""

# Hangul fillers are ignorable by their property, but are shown as a space; tatweel only stretches a line
_INVISIBLE = regex.compile(r"[[\p{Default_Ignorable_Code_Point}\u0640]--[\u3164\uffa0]]+", regex.V1)
_LONG_MARKS = regex.compile(rf"\p{{M}}{{{MAX_MARKS + 1},}}")
_REPLACEMENTS = {
    "\u3164": " ",  # Hangul filler
    "\uffa0": " ",  # halfwidth Hangul filler
    "™": " ",  # NFKC would append its letters to the word before it
    "℠": " ",
    "´": "'",
    "\u02bb": "'",  # turned comma and apostrophe as letters: most people type an apostrophe
    "\u02bc": "'",
    "\u2212": "-",  # minus sign
    "♯": "#",
    "\u309b": "\u3099",  # voicing marks after a kana, as marks of it
    "\u309c": "\u309a",
    # a letter with a virama and a joiner, as a letter of its own
    "\u0d7a": "\u0d23\u0d4d",
    "\u0d7b": "\u0d28\u0d4d",
    "\u0d7c": "\u0d30\u0d4d",
    "\u0d7d": "\u0d32\u0d4d",
    "\u0d7e": "\u0d33\u0d4d",
    "\u0d7f": "\u0d15\u0d4d",
    "\u09ce": "\u09a4\u09cd",
}
_REPLACED = regex.compile(f"[{''.join(_REPLACEMENTS)}]")
_SEPARATE = regex.compile(
    r"[¼-¾⅐-⅟↉①-⑳⓪㉑-㉟㊱-㊿]"
    # a raised number belongs to a unit or a variable, but is no digit of a number and no part of a longer word
    r"|(?=[⁰¹²³⁴-⁹])(?<![⁰¹²³⁴-⁹])(?<!(?<![\p{L}\p{N}\p{M}])(?:\p{L}\p{M}*){1,3})[⁰¹²³⁴-⁹]+"
    r"|(?=[₀-₉])(?<=\p{N})[₀-₉]+",
    regex.V1,
)
"""Numbers that NFKC would join to the letters or digits next to them: 1½, 10⁶, ①②, a footnote's number."""
_JOINING = r"\p{M}\p{NFKC_Quick_Check=Maybe}\u3131-\u318e\uff9e\uff9f\uffa1-\uffdc"
_COMPOSED = regex.compile(rf"[^{_JOINING}]?[{_JOINING}]+|\p{{NFKC_Quick_Check=No}}")
"""What NFKC can change: a character with all that may be composed with it, or a character that is written otherwise."""


@dataclass(frozen=True, slots=True)
class NormalizedText:
    """A normalized text and where its characters come from."""

    text: str
    starts: list[int] | None
    """For each character, the first character of the original text that it was made of; None if nothing changed."""
    stops: list[int] | None
    """For each character, one past the last character of the original text that it was made of."""

    def original_span(self, start: int, stop: int) -> tuple[int, int]:
        """Return the span of the original text that the characters from `start` to `stop`, at least one, come from."""
        if self.starts is None or self.stops is None:
            return start, stop
        return self.starts[start], self.stops[stop - 1]


def normalize(text: str) -> NormalizedText:
    """Normalize a text: remove invisible characters, and write each character in one way."""
    normalized = NormalizedText(text, None, None)
    if text.isascii():
        return normalized
    normalized = _rewrite(normalized, _INVISIBLE, lambda _: "")
    normalized = _rewrite(normalized, _LONG_MARKS, lambda marks: marks[:MAX_MARKS])
    normalized = _rewrite(normalized, _REPLACED, _REPLACEMENTS.__getitem__)
    normalized = _rewrite(normalized, _SEPARATE, lambda number: f" {number} ")
    if unicodedata.is_normalized("NFKC", normalized.text):
        return normalized
    return _rewrite(normalized, _COMPOSED, lambda characters: unicodedata.normalize("NFKC", characters))


def remove_invisible(text: str) -> str:
    """Return the text without invisible characters, otherwise unchanged."""
    removed: str = _INVISIBLE.sub("", text)
    return removed


def _rewrite(normalized: NormalizedText, pattern: regex.Pattern[str], rewrite: Callable[[str], str]) -> NormalizedText:
    """Replace what the pattern matches. All characters of a replacement come from all of what it replaces."""
    text, end = normalized.text, 0
    pieces, starts, stops = list[str](), list[int](), list[int]()
    for match in pattern.finditer(text):
        start, stop = match.span()
        replacement = rewrite(match.group())
        if not end and not starts:
            old_starts = normalized.starts or list(range(len(text)))
            old_stops = normalized.stops or list(range(1, len(text) + 1))
        pieces += text[end:start], replacement
        starts += [*old_starts[end:start], *[old_starts[start]] * len(replacement)]
        stops += [*old_stops[end:start], *[old_stops[stop - 1]] * len(replacement)]
        end = stop
    if not end:
        return normalized
    return NormalizedText("".join((*pieces, text[end:])), starts + old_starts[end:], stops + old_stops[end:])
