"""Cuts long texts into passages that fit the encoder's window. Does not depend on files or storage.

Texts are cut between paragraphs; if these are too long, between sentences, then between words.
"""

from __future__ import annotations

from collections.abc import Iterator

from semantic_text_splitter import TextSplitter

from semsearch.encoders.encoder import Encoder
from semsearch.errors import RecipeError
from semsearch.storage.documents import encoder_text
from semsearch.types import Passage

HEADING_SHARE = 4
"""A title gets at most 1/HEADING_SHARE of the passage's tokens."""
MAX_CHARS_PER_TOKEN = 16
"""A passage may have this many characters per token; more is a word without end, not language."""
SLAB_CHARS = 20_000
"""Characters given to the splitter at a time: its time grows faster than linearly."""


class Chunker:
    """Cuts texts into passages for one encoder."""

    def __init__(self, encoder: Encoder, *, max_tokens: int | None = None, overlap_tokens: int = 32) -> None:
        """Set the size of passages.

        max_tokens: tokens of a passage with its title, by default as many as the encoder reads.
        overlap_tokens: tokens that a passage may share with the one before.

        Raises RecipeError if max_tokens exceeds the encoder's window, or if the overlap exceeds half a passage.
        """
        self._encoder = encoder
        available = encoder.available_tokens("document")
        if max_tokens is not None and max_tokens > available:
            raise RecipeError(
                f"chunking.max_tokens is {max_tokens}, but encoder {encoder.name!r} reads {available} of a passage:"
                " choose fewer"
            )
        self.max_tokens = max_tokens or available
        """Tokens of a passage, its title included."""
        self._max_chars = MAX_CHARS_PER_TOKEN * self.max_tokens
        self._heading_tokens = self.max_tokens // HEADING_SHARE
        self._overlap = overlap_tokens
        self._splitters: dict[int, TextSplitter] = {}
        if 2 * overlap_tokens > self.max_tokens - self._heading_tokens:
            raise RecipeError(
                f"chunking.overlap_tokens is {overlap_tokens}, more than half a passage of {self.max_tokens} tokens:"
                " choose fewer"
            )

    def cut(self, title: str, text: str) -> tuple[str, list[tuple[Passage, int]]]:
        """Return the heading that precedes every passage, and each passage with its number of tokens.

        The heading is the title, cut to its share; the tokens include it. Together the passages cover the text, except
        for whitespace between them. A text that fits is one passage.
        """
        heading = self.heading(title)
        return heading, [passage for passages in self.passages(heading, text) for passage in passages]

    def passages(self, heading: str, text: str) -> Iterator[list[tuple[Passage, int]]]:
        """Yield the passages of `cut` by and by, in their order; `heading` is the result of the method of that name."""
        # counting the tokens of a text of many MiB would take minutes, in which nothing could interrupt it
        if len(text) <= self._max_chars:
            (total,) = self._encoder.count_tokens([encoder_text(heading, text)])
            if total <= self.max_tokens:
                yield [(Passage(text, 0, len(text)), total)]
                return
        (heading_tokens,) = self._encoder.count_tokens([heading])
        splitter = self._splitter(self.max_tokens - heading_tokens)
        for begin, end in _slabs(text):
            spans = [
                (begin + start, begin + start + len(part)) for start, part in splitter.chunk_indices(text[begin:end])
            ]
            fitting = sorted(
                (start, stop, tokens) for span in spans for start, stop, tokens in self._halved(heading, text, *span)
            )
            yield [(Passage(text[start:stop], start, stop), tokens) for start, stop, tokens in fitting]

    def _halved(self, heading: str, text: str, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield (start, stop, tokens) of a span, halved until it fits; only spans with very long words need halving."""
        (tokens,) = self._encoder.count_tokens([encoder_text(heading, text[start:stop])])
        if stop - start < 2 or self._fits(tokens, stop - start):
            yield start, stop, tokens
            return
        middle = text.rfind(" ", start + 1, (start + stop) // 2)
        middle = middle if middle >= 0 else (start + stop) // 2
        yield from self._halved(heading, text, start, middle)
        yield from self._halved(heading, text, middle, stop)

    def _splitter(self, capacity: int) -> TextSplitter:
        """The splitter for passages of `capacity` tokens. They are cached, because making one copies the tokenizer."""
        if capacity not in self._splitters:
            self._splitters[capacity] = TextSplitter.from_huggingface_tokenizer(
                self._encoder.tokenizer, capacity, overlap=self._overlap
            )
        return self._splitters[capacity]

    def heading(self, title: str) -> str:
        """Return the heading that precedes every passage: the title, cut to its share."""
        if not title:
            return ""
        title = title[: MAX_CHARS_PER_TOKEN * self._heading_tokens]
        encoding = self._encoder.tokenizer.encode(title, add_special_tokens=False)
        if len(encoding) <= self._heading_tokens:
            return title
        return title[: encoding.offsets[self._heading_tokens - 1][1]]

    def _fits(self, tokens: int, characters: int) -> bool:
        return tokens <= self.max_tokens and characters <= self._max_chars


def _slabs(text: str) -> Iterator[tuple[int, int]]:
    """(start, stop) of spans of at most SLAB_CHARS characters, ending between paragraphs, lines, sentences or words."""
    begin = 0
    while len(text) - begin > SLAB_CHARS:
        ends = (text.rfind(mark, begin + SLAB_CHARS // 2, begin + SLAB_CHARS) for mark in ("\n\n", "\n", ". ", " "))
        end = next((end + 1 for end in ends if end >= 0), begin + SLAB_CHARS)
        yield begin, end
        begin = end
    yield begin, len(text)
