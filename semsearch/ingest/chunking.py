"""Long texts to passages that fit the encoder's window. Does not depend on files or storing.

Cuts fall where the meaning allows: between paragraphs, else sentences, else words.
"""

from __future__ import annotations

from collections.abc import Iterator

from semantic_text_splitter import TextSplitter

from semsearch.encoders.encoder import Encoder
from semsearch.errors import RecipeError
from semsearch.storage.documents import encoder_text
from semsearch.types import Passage

HEADING_SHARE = 4
"""A title takes at most one part in this many of the window; the rest is the text's."""
LONGEST_TOKEN = 16
"""Characters that a passage may have for each of its tokens; more is no language but one endless word."""
SLAB = 20_000
"""Characters cut at a time: the splitter's time grows faster than the text."""


class Chunker:
    """Cuts texts for one encoder."""

    def __init__(self, encoder: Encoder, *, max_tokens: int | None = None, overlap_tokens: int = 32) -> None:
        """Choose the size of passages.

        max_tokens: of a passage with its title, at most the encoder's window. Raises RecipeError if it is more, or
        if the overlap leaves no room for progress.
        """
        self._encoder = encoder
        self.room = encoder.available_tokens("document")
        """Tokens that a title and a passage may have together."""
        if max_tokens is not None and max_tokens > self.room:
            raise RecipeError(
                f"chunking.max_tokens is {max_tokens}, but encoder {encoder.name!r} reads {self.room} of a passage:"
                " choose fewer"
            )
        self.room = max_tokens or self.room
        self._heading_room = self.room // HEADING_SHARE
        self._overlap = overlap_tokens
        self._splitters: dict[int, TextSplitter] = {}
        if 2 * overlap_tokens > self.room - self._heading_room:
            raise RecipeError(
                f"chunking.overlap_tokens is {overlap_tokens}, more than half a passage of {self.room} tokens:"
                " choose fewer"
            )

    def cut(self, title: str, text: str) -> tuple[str, list[tuple[Passage, int]]]:
        """What of the title stands before each passage, and the passages with their tokens, title included.

        Together the passages cover the text, whitespace between them apart; a text that fits is one passage.
        """
        heading = self._heading(title)
        whole, alone = self._encoder.count_tokens([encoder_text(heading, text), heading])
        if whole <= self.room and len(text) <= LONGEST_TOKEN * self.room:
            return heading, [(Passage(text, 0, len(text)), whole)]
        splitter = self._splitter(self.room - alone)
        spans = [
            (begin + start, begin + start + len(part))
            for begin, end in _slabs(text)
            for start, part in splitter.chunk_indices(text[begin:end])
        ]
        fitting = sorted(
            (start, stop, tokens) for span in spans for start, stop, tokens in self._halved(heading, text, *span)
        )
        return heading, [(Passage(text[start:stop], start, stop), tokens) for start, stop, tokens in fitting]

    def _halved(self, heading: str, text: str, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """A stretch with its tokens, cut in halves until it fits: few need it, those with endless words in them."""
        (tokens,) = self._encoder.count_tokens([encoder_text(heading, text[start:stop])])
        if stop - start < 2 or (tokens <= self.room and stop - start <= LONGEST_TOKEN * self.room):
            yield start, stop, tokens
            return
        middle = text.rfind(" ", start + 1, (start + stop) // 2)
        middle = middle if middle >= 0 else (start + stop) // 2
        yield from self._halved(heading, text, start, middle)
        yield from self._halved(heading, text, middle, stop)

    def _splitter(self, capacity: int) -> TextSplitter:
        """A splitter for passages of so many tokens; making one copies the tokenizer, so they are kept."""
        if capacity not in self._splitters:
            self._splitters[capacity] = TextSplitter.from_huggingface_tokenizer(
                self._encoder.tokenizer, capacity, overlap=self._overlap
            )
        return self._splitters[capacity]

    def _heading(self, title: str) -> str:
        found = self._encoder.tokenizer.encode(title[: LONGEST_TOKEN * self._heading_room], add_special_tokens=False)
        if len(found) <= self._heading_room:
            return title[: LONGEST_TOKEN * self._heading_room]
        return title[: found.offsets[self._heading_room - 1][1]]


def _slabs(text: str) -> list[tuple[int, int]]:
    """The text in stretches of at most SLAB characters, ending between paragraphs, else lines, else words."""
    slabs, begin = [], 0
    while len(text) - begin > SLAB:
        ends = (text.rfind(mark, begin + SLAB // 2, begin + SLAB) for mark in ("\n\n", "\n", ". ", " "))
        end = next((end + 1 for end in ends if end >= 0), begin + SLAB)
        slabs.append((begin, end))
        begin = end
    return [*slabs, (begin, len(text))]
