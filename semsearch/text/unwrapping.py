"""Joins lines that were wrapped at a fixed width, so that a page can wrap them at its own.

Docstrings and plain text files are wrapped. Code, quotes, tables, lists and verse keep their lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

MIN_WIDTH, MAX_WIDTH = 40, 120
"""Characters of the longest line of a block that may be wrapped."""
MIN_PROSE_WIDTH = 60
"""Width up to which lines that begin with a capital are taken for verse, titles or other lines of their own."""
MIN_WORDS = 4
"""Words of a line of prose."""
MIN_SHARE_OF_WORDS = 0.7
"""Of what is between spaces in a line of prose, the share that consists of letters, apart from punctuation."""
_CONTINUES = re.compile(r"(?!\(?\w{1,3}[.)]\s)(?!\S+ ?:\s)(?!\S+\s+[-–—]{1,2}\s)(?!`{3})[\w(\"'‘“«`]")
"""What the second of two joined lines begins with: no item of a list, no parameter, no quote, code or rule."""
_SENTENCE_END = re.compile(r"([.!?][)\"'”’]?)  ")
"""Two spaces after a sentence, as typewriters had them; elsewhere they align columns."""
_CODE = ">$#/|%"
"""What the first of two joined lines does not begin with."""
_PUNCTUATION = ".,;:!?()[]`'\"*“”‘’…-–—"


def unwrapped(text: str, cuts: Sequence[int] = ()) -> list[str]:
    """Return the parts of a text with each line break that only wraps a sentence replaced by a space.

    cuts: ascending offsets at which the text is cut into parts, one more than there are cuts. A line break across a cut
    belongs to the part before it.
    """
    wraps = list(_wraps(text))
    return [_part(text, wraps, start, stop) for start, stop in pairwise([0, *cuts, len(text)])]


def _part(text: str, wraps: Sequence[tuple[int, int]], start: int, stop: int) -> str:
    pieces, position = [], start
    for first, last in wraps:
        if last <= start or first >= stop:
            continue
        pieces.append(text[position : max(first, start)])
        if first >= start:
            pieces.append(" ")
        position = min(last, stop)
    return "".join([*pieces, text[position:stop]])


def _wraps(text: str) -> Iterator[tuple[int, int]]:
    """Yield the offsets of the line breaks that wrap a sentence, with the white space around them, ascending."""
    lines = [(match.start(), match.group().rstrip()) for match in re.finditer(r"[^\n]*\n?", text)]
    for indentation, block in groupby(lines, lambda line: _indentation(line[1])):
        if indentation is None:
            continue
        block_lines = list(block)
        width = max(len(line) for _, line in block_lines)
        if not MIN_WIDTH <= width <= MAX_WIDTH:
            continue
        for (start, line), (next_start, following) in pairwise(block_lines):
            if _is_wrapped(line, following.lstrip(), width):
                yield start + len(line), next_start + indentation


def _is_wrapped(line: str, following: str, width: int) -> bool:
    """Whether a line goes on in the one after it, the first word of which would have made it wider than its block."""
    if len(line) + 1 + len(following.split(maxsplit=1)[0]) <= width or line.endswith((":", "-", "=", "\\")):
        return False
    if following[0].isupper() and width < MIN_PROSE_WIDTH:
        return False
    return _CONTINUES.match(following) is not None and _is_prose(line.lstrip())


def _is_prose(line: str) -> bool:
    words = _SENTENCE_END.sub(r"\1 ", line).split(" ")
    if len(words) < MIN_WORDS or "" in words or line[0] in _CODE:
        return False
    return sum(word.strip(_PUNCTUATION).isalpha() for word in words) >= MIN_SHARE_OF_WORDS * len(words)


def _indentation(line: str) -> int | None:
    """Characters of white space that a line begins with; None for a blank line."""
    stripped = line.lstrip()
    return len(line) - len(stripped) if stripped else None
