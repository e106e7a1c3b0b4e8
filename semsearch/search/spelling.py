"""Corrects and completes words of a query that no passage has, from those of the passages. Does not depend on files."""

from __future__ import annotations

from collections.abc import Iterable

from rapidfuzz.distance import OSA

from semsearch.storage.corpus import AllowedRows, Corpus
from semsearch.text.tokens import Token, distinct_words, fold, tokenize
from semsearch.types import Rows

MIN_LETTERS = 4
"""Letters of a word from which on it is corrected; too many words are one letter away from shorter ones."""
TWO_EDITS_FROM = 8
"""Letters from which on two edits are allowed instead of one."""
MIN_BEGINNING = 3
"""Letters of an unfinished word from which on it is completed."""
LETTERS_OF_ENDING = 3
"""Letters of an unfinished word that the stem of the whole word may lack."""
MAX_UNKNOWN = 3
"""Unknown words up to which a query is corrected; a query of more is hardly a misspelling."""
CANDIDATE_PASSAGES = 50
"""Passages that are looked at for each unknown word."""
MAX_CHARACTERS = 2_000
"""Of each of them, from its beginning."""


def corrected(query: str, corpus: Corpus, allowed: AllowedRows) -> str | None:
    """Return the query with its unknown words replaced by similar ones of the passages; None if none is replaced.

    The last word may be unfinished, as for `completed`.

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
        similar = _longer(word, corpus, allowed) if token.stop == len(query) else None
        similar = similar or _most_similar(word, token.stem, corpus, allowed)
        if similar is not None:
            result = result[: token.start] + similar + result[token.stop :]
            replaced = True
    return result if replaced else None


def completed(query: str, corpus: Corpus, allowed: AllowedRows) -> str | None:
    """Return the query with its last word completed, if no passage has it but some have words that begin with it.

    Of the words in some passages, the one that most passages have. The word is unfinished if nothing, not even a space,
    follows it. None if it stays as it is. allowed: the passages whose words may be shown.
    """
    tokens = tokenize(query)
    if not tokens or tokens[-1].stop < len(query):
        return None
    token = tokens[-1]
    word = query[token.start :]
    longer = _longer(word, corpus, allowed) if _is_unknown(word, token, corpus, MIN_BEGINNING) else None
    return None if longer is None else query[: token.start] + longer


def _longer(word: str, corpus: Corpus, allowed: AllowedRows) -> str | None:
    """A word of a passage that begins with a word, of several the one that most passages have."""
    beginning = fold(word)
    # a stem has no ending, so what is typed may already be longer than it
    for known in dict.fromkeys([beginning, beginning[: max(MIN_BEGINNING, len(beginning) - LETTERS_OF_ENDING)]]):
        rows = corpus.stems_beginning(known, CANDIDATE_PASSAGES, allowed=allowed)
        words = {other for other in _words(rows, corpus) if fold(other).startswith(beginning)}
        if found := _most_frequent(words, corpus):
            return found
    return None


def _is_unknown(word: str, token: Token, corpus: Corpus, min_letters: int = MIN_LETTERS) -> bool:
    return (
        not token.unspaced
        and not token.is_function_word
        and len(word) >= min_letters
        and word.isalpha()
        and not corpus.frequency((token.stem,))
    )


def _most_similar(word: str, stem: str, corpus: Corpus, allowed: AllowedRows) -> str | None:
    """The word of a passage with the fewest edits to a word, of several the one that most passages have."""
    edits = 1 if len(word) < TWO_EDITS_FROM else 2
    rows = corpus.similar_stems(stem, edits, CANDIDATE_PASSAGES, allowed=allowed)
    distances = {other: OSA.distance(word.lower(), other, score_cutoff=edits) for other in _words(rows, corpus)}
    for distance in range(edits + 1):
        nearest = {other for other, of_other in distances.items() if of_other == distance}
        if found := _most_frequent(nearest, corpus):
            return found
    return None


def _words(rows: Rows, corpus: Corpus) -> set[str]:
    """The words of letters of passages, in lower case."""
    texts = (text[:MAX_CHARACTERS].lower() for text in corpus.encoder_texts(rows))
    return {word for text in texts for word in distinct_words(text) if word.isalpha()}


def _most_frequent(candidates: Iterable[str], corpus: Corpus) -> str | None:
    """The word that most passages have, of several the shortest; None if no passage has one of them."""
    frequencies = {word: corpus.frequency((token.stem,)) for word in candidates for token in tokenize(word)[:1]}
    found = [word for word, frequency in frequencies.items() if frequency]
    return min(found, key=lambda word: (-frequencies[word], len(word), word), default=None)
