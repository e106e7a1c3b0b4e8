"""Corrects words of a query that no passage has, from the words of the passages. Does not depend on files."""

from __future__ import annotations

from collections.abc import Iterator

from rapidfuzz.distance import OSA

from semsearch.storage.corpus import AllowedRows, Corpus
from semsearch.text.tokens import Token, tokenize

MIN_LETTERS = 4
"""Letters of a word from which on it is corrected; too many words are one letter away from shorter ones."""
TWO_EDITS_FROM = 8
"""Letters from which on two edits are allowed instead of one."""
MAX_UNKNOWN = 3
"""Unknown words up to which a query is corrected; a query of more is hardly a misspelling."""
CANDIDATE_PASSAGES = 50
"""Passages that are looked at for each unknown word."""
MAX_CHARACTERS = 4_000
"""Of each of them, from its beginning."""


def corrected(query: str, corpus: Corpus, allowed: AllowedRows) -> str | None:
    """Return the query with its unknown words replaced by similar ones of the passages; None if none is replaced.

    Only words of letters in scripts with spaces are unknown; codes and numbers are left as they are. allowed: the
    passages whose words may be shown.
    """
    unknown = [token for token in tokenize(query) if _is_unknown(query[token.start : token.stop], token, corpus)]
    if len(unknown) > MAX_UNKNOWN:
        return None
    result, replaced = query, False
    # from the end, so that the offsets stay those of the query
    for token in reversed(unknown):
        word = query[token.start : token.stop]
        similar = _most_similar(word, token.stem, corpus, allowed)
        if similar is not None:
            result = result[: token.start] + similar + result[token.stop :]
            replaced = True
    return result if replaced else None


def _is_unknown(word: str, token: Token, corpus: Corpus) -> bool:
    return (
        not token.unspaced
        and not token.is_function_word
        and len(word) >= MIN_LETTERS
        and word.isalpha()
        and not corpus.frequency((token.stem,))
    )


def _most_similar(word: str, stem: str, corpus: Corpus, allowed: AllowedRows) -> str | None:
    """The word of a passage with the fewest edits to a word, of several the one that most passages have."""
    edits = 1 if len(word) < TWO_EDITS_FROM else 2
    best: tuple[int, int, str] | None = None
    seen: set[str] = set()
    for other, other_stem in _words(stem, edits, corpus, allowed):
        if other in seen:
            continue
        seen.add(other)
        distance = OSA.distance(word.lower(), other, score_cutoff=edits)
        if distance <= edits:
            found = distance, -corpus.frequency((other_stem,)), other
            best = found if best is None else min(best, found)
    return None if best is None else best[2]


def _words(stem: str, edits: int, corpus: Corpus, allowed: AllowedRows) -> Iterator[tuple[str, str]]:
    """Yield words of letters and their stems from passages with a stem that is similar."""
    rows = corpus.similar_stems(stem, edits, CANDIDATE_PASSAGES, allowed=allowed)
    for whole in corpus.encoder_texts(rows):
        text = whole[:MAX_CHARACTERS].lower()
        for token in tokenize(text):
            word = text[token.start : token.stop]
            if word.isalpha():
                yield word, token.stem
