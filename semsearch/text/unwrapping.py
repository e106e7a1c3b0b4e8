"""Joins lines that were wrapped at a fixed width, so that a page can wrap them at its own.

Docstrings, e-mails and plain text files are wrapped. Code, tables and lists keep their lines.
"""

from __future__ import annotations

import re
from itertools import pairwise

MIN_WRAPPED_CHARS = 40
"""Length of a line from which on it may have been wrapped; shorter ones were ended on purpose."""
MIN_WORDS = 4
"""Words of a line of prose."""
MIN_SHARE_OF_WORDS = 0.7
"""Of what is between spaces in a line of prose, the share that consists of letters, apart from punctuation."""
_STARTS_ITEM = re.compile(r"[-*+•|#]|\d+[.)]|>>>|\.\.\.|:\w+|@\w+|\S+ ?:\s|\S+\s+[-–—]{1,2}\s")
"""What a line begins with that starts a list's item, a line of a table, code or the description of a parameter."""
_PUNCTUATION = ".,;:!?()[]`'\"*“”‘’…-–—"


def unwrapped(text: str, start: int = 0, stop: int | None = None) -> str:
    """Return a part of a text with each line break that only wraps a sentence replaced by a space.

    start, stop: offsets of the part; the whole text decides which line breaks these are.
    """
    stop = len(text) if stop is None else stop
    parts, position = [], start
    for first, last in _wraps(text):
        if last <= start or first >= stop:
            continue
        parts.append(text[position : max(first, start)])
        # a break across the beginning of the part belongs to the part before it
        parts.append(" " if first >= start else "")
        position = min(last, stop)
    return "".join([*parts, text[position:stop]])


def _wraps(text: str) -> list[tuple[int, int]]:
    """Return the offsets of the line breaks that wrap a sentence, with the white space around them, ascending."""
    lines = [(match.start(), match.group()) for match in re.finditer(r"[^\n]*", text) if match.group().strip()]
    found = []
    for (start, line), (next_start, following) in pairwise(lines):
        end = start + len(line.rstrip())
        is_next_line = text.count("\n", end, next_start) == 1
        if is_next_line and _is_wrapped(line, following):
            found.append((end, next_start + len(following) - len(following.lstrip())))
    return found


def _is_wrapped(line: str, following: str) -> bool:
    """Whether a line goes on in the line after it, which would have been too long in one."""
    if _indentation(line) != _indentation(following) or _STARTS_ITEM.match(following.lstrip()):
        return False
    joined = len(line.rstrip()) + 1 + len(following.split(maxsplit=1)[0])
    return joined > max(MIN_WRAPPED_CHARS, len(following.rstrip())) and _is_prose(line)


def _is_prose(line: str) -> bool:
    text = line.strip()
    words = text.split(" ")
    if len(text) < MIN_WRAPPED_CHARS or len(words) < MIN_WORDS or "" in words or text.startswith(">>>"):
        return False
    return sum(word.strip(_PUNCTUATION).isalpha() for word in words) >= MIN_SHARE_OF_WORDS * len(words)


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())
