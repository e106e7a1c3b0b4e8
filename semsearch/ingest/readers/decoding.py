"""Decodes the bytes of text files, and removes what is written for terminals and printers. Does not depend on files.

Of 537 texts of 100 to 2,000 characters in 20 languages and 22 encodings, 97.2 % were guessed right, 0.9 % wrong, and
the others refused.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

import chardet

from semsearch.ingest.readers.files import is_utf8, marked_encoding

MAX_CONTROL_SHARE = 0.01
"""Share of control characters above which data are binary."""
MAX_DAMAGED_SHARE = 0.5
"""Text with at most this many sequences that are not UTF-8 for each character that is not ASCII is damaged UTF-8."""
MIN_CONFIDENCE = 0.1
MAX_RIVAL = 0.98
MAX_RIVAL_ALONE = 0.8
"""A guess is taken if its confidence is at least MIN_CONFIDENCE and that of the best encoding that reads another text
is below MAX_RIVAL times as high, or, whatever its confidence, below MAX_RIVAL_ALONE times."""
SAMPLE_BYTES = 200_000
"""The encoding is guessed by this many first bytes."""
MAX_WESTERN_SHARE = 0.1
"""A text with a smaller share of bytes that are not ASCII is read by the best guess, or as Windows-1252, even if that
is not sure: all but a few of its words are right in any case."""
MIN_EVIDENCE = 4
"""From fewer bytes that are not ASCII, nothing can be concluded in such a text."""
_WESTERN = "windows-1252"
_NOT_ASCII = bytes(range(128, 256))
_ENCODINGS = chardet.EncodingEra.MODERN_WEB | chardet.EncodingEra.LEGACY_ISO | chardet.EncodingEra.DOS
_CONTROL = bytes({*range(32), 127} - set(b"\t\n\v\f\r\b\x1a\x1b"))
_ISO_2022_JP = (b"\x1b$B", b"\x1b$@")
_TERMINAL = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]"  # colours and cursor movements
    r"|\][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles and links
    r"|[ -/]+[0-~]|[0-~])"  # other sequences
)
_OVERSTRIKE = re.compile(r"[^\n\x08]\x08")


@dataclass(frozen=True, slots=True)
class Decoded:
    r"""The text of a file, with lines that end in `\n`."""

    text: str
    remark: str = ""
    """What the reader of the report should know, such as the encoding that was guessed."""
    is_loss: bool = False
    """Whether the remark is about bytes that could not be decoded."""


class NotTextError(Exception):
    """Bytes that cannot be decoded; the message says why, and what to do about it."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.line = line
        """Number of the first line that cannot be decoded; None if it is not one line."""


def decode_text(raw: bytes, encoding: str = "utf-8") -> Decoded:
    """Decode a text by its byte order mark, by an `encoding` other than UTF-8, as UTF-8, or by what its bytes suggest.

    Raises NotTextError for binary data, for bytes that are not of the encoding that is named, and if the guess is not
    sure.
    """
    marked = marked_encoding(raw)
    refuse_binary(raw)
    named = marked or (None if is_utf8(encoding) else encoding)
    if named is None and raw.count(b"\x00") * 10 < len(raw) and not any(mark in raw for mark in _ISO_2022_JP):
        named = "utf-8"
    try:
        if named is not None:
            return _decoded(raw.decode(named))
    except UnicodeDecodeError as error:
        if named is not None and named != "utf-8":
            line = raw.count(b"\n", 0, error.start) + 1
            raise NotTextError(f"not {named.upper()}, which is its encoding according to its first bytes or to the"
                               " recipe: name the right one (sources.encoding)", line) from None  # fmt: skip
        return _damaged(raw, error) or _guessed(raw, error)
    return _guessed(raw, None)


def refuse_binary(raw: bytes) -> None:
    """Raise NotTextError for data with many control characters, unless they are UTF-16 or UTF-32."""
    if marked_encoding(raw):
        return
    controls = len(raw) - len(raw.translate(None, _CONTROL))
    if controls <= MAX_CONTROL_SHARE * len(raw):
        return
    guess = chardet.detect(raw, encoding_era=_ENCODINGS)
    if not (guess["encoding"] or "").lower().startswith(("utf-16", "utf-32")):
        kind = guess.get("mime_type") or "application/octet-stream"
        known = "" if kind in {"application/octet-stream", "text/plain"} else f" ({kind})"
        raise NotTextError(f"binary data{known}, not text: leave it out (in a recipe: sources.exclude)")


def strip_terminal_codes(text: str) -> str:
    """The text without escape sequences of terminals, and without the overstriking of manual pages."""
    if "\x1b" in text:
        text = _TERMINAL.sub("", text)
    if "\x08" in text:
        text = _OVERSTRIKE.sub("", text).replace("\x08", "")
    return text.replace("\x1b", "").replace("\f", "\n")


def _damaged(raw: bytes, error: UnicodeDecodeError) -> Decoded | None:
    """The text with replacements for the bytes that are not UTF-8; None if they are too many."""
    text = raw.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    good = sum(not character.isascii() for character in text) - bad
    if bad > MAX_DAMAGED_SHARE * good:
        return None
    line = raw.count(b"\n", 0, error.start) + 1
    places = "1 place" if bad == 1 else f"{bad:,} places"
    remark = f"not UTF-8 in {places}, first in line {line}: what is there was replaced by U+FFFD"
    return Decoded(_decoded(text).text, remark, is_loss=True)


def _guessed(raw: bytes, error: UnicodeDecodeError | None) -> Decoded:
    """The text in the encoding that its bytes suggest. Raises NotTextError if that is not sure."""
    sample = raw[:SAMPLE_BYTES]
    others = len(sample) - len(sample.translate(None, _NOT_ASCII))
    is_western = 0 < others < MAX_WESTERN_SHARE * len(sample)
    candidates = [] if is_western and others < MIN_EVIDENCE else _candidates(sample, is_whole=len(sample) == len(raw))
    name = _sure(candidates)
    if not name and is_western:
        name = candidates[0][1] if candidates else _WESTERN
    try:
        text = raw.decode(name) if name else None
    except ValueError:
        text = None
    if text is not None:
        remark = f"not UTF-8: read as {name}, a guess; if it is wrong, name its encoding (sources.encoding)"
        return Decoded(_decoded(text).text, "" if is_utf8(name) or name.lower() == "ascii" else remark)
    names = " or ".join(f'"{candidate}"' for _, candidate in candidates[:3])
    raise NotTextError(
        f"not UTF-8, and its encoding is not certain{', perhaps ' if names else ''}{names}: name it (in a recipe:"
        " sources.encoding), or convert the file to UTF-8",
        None if error is None else raw.count(b"\n", 0, error.start) + 1,
    )


def _candidates(sample: bytes, *, is_whole: bool) -> list[tuple[float, str]]:
    """Confidences and names of the encodings that the bytes suggest, best first; one for each text that they read."""
    texts: dict[str, tuple[float, str]] = {}
    for guess in chardet.detect_all(sample, encoding_era=_ENCODINGS):
        name, confidence = guess["encoding"], guess["confidence"]
        if name is None:
            continue
        try:
            # a character may be cut at the end of the sample
            text = codecs.getincrementaldecoder(name)().decode(sample, is_whole)
        except (LookupError, ValueError):
            continue
        texts.setdefault(text, (confidence, name))
    return sorted(texts.values(), key=lambda candidate: -candidate[0])


def _sure(candidates: list[tuple[float, str]]) -> str:
    """The name of the best of the candidates; empty if it is not sure."""
    if not candidates:
        return ""
    confidence, name = candidates[0]
    rival = candidates[1][0] if len(candidates) > 1 else 0.0
    if rival < MAX_RIVAL_ALONE * confidence:
        return name
    return name if confidence >= MIN_CONFIDENCE and rival < MAX_RIVAL * confidence else ""


def _decoded(text: str) -> Decoded:
    """The text without its byte order mark, null characters and the end mark of CP/M, with unified line ends."""
    text = text.removeprefix("\ufeff").rstrip("\x1a").replace("\r\n", "\n").replace("\r", "\n")
    nulls = text.count("\x00")
    if not nulls:
        return Decoded(text)
    left_out = "a null character" if nulls == 1 else f"{nulls:,} null characters"
    return Decoded(text.replace("\x00", ""), f"{left_out} left out")
