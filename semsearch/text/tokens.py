"""Tokenizing for full text and snippets: tokens with their stems and offsets, and the parsing of keyword queries.

Does not depend on files or on ranking. Text is normalized first (`semsearch.text.normalization`). Scripts without
spaces between words (Chinese, Japanese, Korean, Thai and others) are tokenized by character and looked up by bigrams.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import regex
from Stemmer import Stemmer

from semsearch.text.normalization import normalize

MAX_TERMS = 128
"""Different terms of a query that are looked up; of a longer query, the first ones."""
MAX_PAIRS = 32
"""Different pairs of neighbouring words of a query that are looked up; of a longer query, the first ones."""
MAX_PHRASES = 32
"""Different quoted phrases of a query; further ones are read as words. A phrase costs as much as 5 terms."""

_SCRIPTS = ["Han", "Hiragana", "Katakana", "Hangul", "Thai", "Lao", "Khmer", "Myanmar"]
UNSPACED = "".join(rf"\p{{Script_Extensions={script}}}" for script in _SCRIPTS)
"""Characters of scripts without spaces between words, for the inside of a character set."""
_SPACED = rf"[[\p{{L}}\p{{N}}]--[{UNSPACED}]]"
_UNSIGNED_WORD = rf"{_SPACED}[[\p{{L}}\p{{N}}\p{{M}}]--[{UNSPACED}]]*"
_WORD = regex.compile(
    rf"(?P<unspaced>[[{UNSPACED}]&&[\p{{L}}\p{{N}}]]\p{{M}}*)"
    rf"|(?P<sign>(?<![[{_SPACED}\p{{M}}_.#@\p{{Sc}}+\-]])(?:[.#@\p{{Sc}}]|--?))?"
    rf"(?P<word>{_UNSIGNED_WORD})"
    rf"(?P<mark>\+\+(?![{_SPACED}&&\p{{L}}])|\+(?![{_SPACED}\+])|\#(?!{_SPACED}))?",
    regex.V1,
)
_UNSIGNED_WORDS = regex.compile(_UNSIGNED_WORD, regex.V1)
_PLAIN_WORD = re.compile(
    r"(?P<sign>(?<![A-Za-z0-9_.#@$+-])(?:[.#@$]|--?))?(?P<word>[A-Za-z0-9]+)"
    r"(?P<mark>\+\+(?![A-Za-z])|\+(?![A-Za-z0-9+])|#(?![A-Za-z0-9]))?"
)
"""Equal to `_WORD` for ASCII text, and faster."""
_SIGNS_TO_SPACES = {code: " " for code in range(128) if not chr(code).isalnum()}
"""For `str.translate`: leaves the words of an ASCII text, separated by spaces."""
SIGNS = ".#@$-+"
"""The ASCII characters other than letters and digits that a stem may hold."""
_KEPT_CLASSES = frozenset({0, 7, 8, 9, *range(84, 133)})
"""Canonical combining classes of the marks that bear meaning as letters do: vowel signs, nuktas, voicing marks,
viramas, and the vowels and tones of Telugu, Thai, Lao and Tibetan. Accents and Hebrew and Arabic points are others."""
_DEVANAGARI_NUKTA = "\u093c"
_FOLDED_LETTERS = str.maketrans("ıёѐѝ", "iееи")
FUNCTION_WORDS = frozenset(
    """
    a an and are as at be been but by can could did do does for from get had has have how i if in into is it its me
    my no not of on one or our should so some than that the their them then there these they this those to use was
    we were what when where which while who why will with without would you your
    """.split()  # noqa: SIM905 (a list of seventy strings is no easier to read)
)
MAX_STEMMED = 64
"""Letters of a word from which on it keeps its ending: stemmers take time that grows with the square of its length."""
MAX_UNSTEMMED = 3
"""Letters and marks of a word up to which only English endings are removed."""
_STEMMER_OF = {
    "Latin": "english",
    "Arabic": "arabic",
    "Cyrillic": "russian",
    "Greek": "greek",
    "Devanagari": "hindi",
    "Armenian": "armenian",
    "Tamil": "tamil",
}
"""Script → language of the Snowball stemmer for its words."""
_SCRIPT = regex.compile("|".join(rf"(?P<{script}>[^\p{{L}}]*\p{{Script={script}}})" for script in _STEMMER_OF))
"""The script of the first letter of a word."""
_QUOTATION_MARKS = {
    '"': '"',
    "\u201c": "\u201d",
    "\u201d": "\u201d",
    "\u201e": "\u201c\u201d",
    "«": "»",
    "»": "«",
    "「": "」",
    "『": "』",
}
"""Opening mark → marks that may close it. Normalization has written fullwidth and halfwidth marks as these."""
_QUOTATION_MARK = regex.compile(
    rf"(?P<opens>(?<=^|[\s\p{{Ps}}{UNSPACED}]))?["
    + "".join(sorted({*_QUOTATION_MARKS, *"".join(_QUOTATION_MARKS.values())}))
    + rf"](?P<closes>(?=$|[\s\p{{P}}\p{{S}}{UNSPACED}]))?",
    regex.V1,
)


class Token(NamedTuple):
    """One word, or one character of a script without spaces.

    A word with a sign, such as `.net` or `notepad++`, is followed by the token of the word without it. A tuple, which
    is made three times as fast as a frozen dataclass: a text has hundreds.
    """

    stem: str
    """Used for comparing: letters, digits and signs, without case, accents or endings."""
    start: int
    """First character in the text."""
    stop: int
    """One past its last character."""
    unspaced: bool
    """Whether it is a character of a script without spaces between words."""
    is_function_word: bool
    """Whether it is a stop word such as `the` or `of`."""


Term: TypeAlias = tuple[str, ...]
"""Stems that stand next to each other in a text; one stem for a single word."""


WordPair: TypeAlias = tuple[str, str]
"""The stems of two neighbouring words."""


@dataclass(frozen=True, slots=True)
class KeywordQuery:
    """A query as the keyword search reads it."""

    phrases: tuple[Term, ...]
    """Quoted phrases. Every hit must contain each of them."""
    terms: tuple[Term, ...]
    """Optional terms. Each match raises the score."""
    pairs: tuple[WordPair, ...] = ()
    """Neighbouring words. A passage in which they are neighbours too scores higher."""


def tokenize(text: str) -> list[Token]:
    """Return the tokens of the text, in order. Their offsets are those of the text as it is given."""
    normalized = normalize(text)
    tokens = segment(normalized.text)
    if normalized.starts is None:
        return tokens
    return [
        Token(token.stem, *normalized.original_span(token.start, token.stop), token.unspaced, token.is_function_word)
        for token in tokens
    ]


def segment(text: str) -> list[Token]:
    """Return the tokens of a normalized text, in order."""
    return list(_ascii_tokens(text) if text.isascii() else _tokens(text))


def content_terms(text: str) -> list[Term]:
    """Return the terms of a text as keyword search looks them up, in order, without function words."""
    return [term for term, is_function_word in _words_and_bigrams(tokenize(text)) if not is_function_word]


def word_pairs(tokens: Iterable[Token]) -> list[WordPair]:
    """Return the pairs of different neighbouring words, each once, in order. Function words are passed over.

    Characters of scripts without spaces form none: their bigrams are terms already.
    """
    words = [token for token in tokens if not token.is_function_word]
    neighbours = (
        (first.stem, second.stem)
        for first, second in pairwise(words)
        # a word with a sign and the same word without it overlap
        if first.stop <= second.start and not first.unspaced and not second.unspaced and first.stem != second.stem
    )
    return list(dict.fromkeys(neighbours))


def match_spans(text: str, stems: frozenset[str]) -> list[tuple[int, int, str]]:
    """Return (first character, one past the last, stem) of every word in the text that has one of the stems.

    Of a word with a sign and the same word without it, both among the stems, only the first is returned.
    """
    if text.isascii() and all(stem.isalnum() for stem in stems):
        lower = text.lower()
        matching = [word for word in distinct_words(lower) if stem_word(word) in stems]
        # a single letter with a sign is another word than the letter
        if all(len(word) > 1 for word in matching):
            return sorted(
                (start, start + len(word), stem_word(word)) for word in matching for start in _starts(word, lower)
            )
    spans: list[tuple[int, int, str]] = []
    for token in tokenize(text):
        if token.stem in stems and not (spans and token.start < spans[-1][1]):
            spans.append((token.start, token.stop, token.stem))
    return spans


def distinct_words(text: str) -> set[str]:
    """Return the words of a lower-case text that `tokenize` finds in scripts with spaces, each once, without signs."""
    if text.isascii():
        return {*text.translate(_SIGNS_TO_SPACES).split()}
    return {*_UNSIGNED_WORDS.findall(text)}


def _starts(word: str, text: str) -> Iterator[int]:
    """Yield where a word of letters and digits begins in an ASCII text, not as a part of a longer word."""
    start = text.find(word)
    while start >= 0:
        stop = start + len(word)
        if not text[start - 1 : start].isalnum() and not text[stop : stop + 1].isalnum():
            yield start
        start = text.find(word, stop)


@lru_cache(maxsize=256)
def content_stems(query: str) -> frozenset[str]:
    """Return the stems of a query without its function words."""
    return frozenset(token.stem for token in tokenize(query) if not token.is_function_word)


def quoted_phrases(query: str) -> tuple[str, ...]:
    """Return the first MAX_PHRASES quoted phrases of a query that have a word, normalized, each once."""
    text = normalize(query).text
    phrases: dict[str, None] = {}
    for start, stop in _quotations(text):
        phrase = text[start:stop].strip()
        if phrase not in phrases and segment(phrase):
            phrases[phrase] = None
            if len(phrases) == MAX_PHRASES:
                break
    return tuple(phrases)


def parse_query(query: str, *, as_words: Collection[str] = ()) -> KeywordQuery:
    """Parse a query into phrases and terms for the keyword search.

    Function words count only if the query has no other terms. Words joined without a space, as in `os.path`,
    `SKU-1234` or `read_csv`, are also looked up as neighbours, so that exact names rank above their parts.

    as_words: quoted phrases, as `quoted_phrases` returns them, that are read as if they were not quoted.
    """
    text = normalize(query).text
    required = {*quoted_phrases(query)} - {*as_words}
    phrases: dict[Term, None] = {}
    unquoted, end = list[str](), 0
    for start, stop in _quotations(text):
        phrase = text[start:stop].strip()
        # the quotation marks are left out
        unquoted += text[end : start - 1], "" if phrase in required else phrase
        end = stop + 1
        if phrase in required and (stems := _stems(segment(phrase))):
            phrases[stems] = None
    terms: dict[Term, None] = {}
    function_words: dict[Term, None] = {}
    for part in " ".join((*unquoted, text[end:])).split():
        tokens = segment(part)
        terms |= dict.fromkeys(_compounds(tokens))
        for term, is_function_word in _words_and_bigrams(tokens):
            (function_words if is_function_word else terms)[term] = None
    pairs = tuple(word_pairs(segment(text)))[:MAX_PAIRS]
    return KeywordQuery(tuple(phrases), tuple(terms or function_words)[:MAX_TERMS], pairs)


def parse_phrases(phrases: Iterable[str]) -> KeywordQuery:
    """Return the query for texts that contain all phrases, which are normalized, as `quoted_phrases` returns them."""
    terms = (_stems(segment(phrase)) for phrase in phrases)
    return KeywordQuery(tuple(stems for stems in terms if stems), ())


def _quotations(text: str) -> list[tuple[int, int]]:
    """The (first character, one past the last) of what stands between quotation marks at word borders, in order.

    A mark may open at the start, after a space, an opening bracket or a character of a script without spaces, and
    close before the end, a space, punctuation or such a character. Straight marks touch the words that they quote.
    A mark after a number or inside a word, such as an inch mark or a Hebrew abbreviation's, does neither.
    """
    opened: dict[str, int] = {}  # closing mark → one past its opening mark
    pairs: list[tuple[int, int]] = []
    for match in _QUOTATION_MARK.finditer(text):
        mark, position = match.group(), match.start()
        start = opened.get(mark)
        is_straight = mark in _QUOTATION_MARKS.get(mark, "")
        if (
            start is not None
            and match["closes"] is not None
            and not (is_straight and text[position - 1 : position].isspace())
        ):
            pairs.append((start, position))
            del opened[mark]
        elif match["opens"] is not None and not (is_straight and text[position + 1 : position + 2].isspace()):
            opened |= dict.fromkeys(_QUOTATION_MARKS.get(mark, ""), position + 1)
    quotations: list[tuple[int, int]] = []
    # of nested quotations, the outer one
    for start, stop in sorted(pairs):
        if not quotations or start > quotations[-1][1]:
            quotations.append((start, stop))
    return quotations


def _ascii_tokens(text: str) -> Iterator[Token]:
    for match in _PLAIN_WORD.finditer(text):
        sign, word, mark = match.groups()
        plain = word.lower()
        if sign or mark:
            yield from _signed_tokens(match, plain, sign, mark)
        else:
            yield Token(stem_word(plain), match.start(), match.end(), False, plain in FUNCTION_WORDS)


def _tokens(text: str) -> Iterator[Token]:
    for match in _WORD.finditer(text):
        character, sign, word, mark = match.groups()
        if not (plain := fold(character or word)):
            continue
        if sign or mark:
            yield from _signed_tokens(match, plain, sign, mark)
        else:
            yield Token(stem_word(plain), match.start(), match.end(), character is not None, plain in FUNCTION_WORDS)


def _signed_tokens(
    match: re.Match[str] | regex.Match[str], plain: str, sign: str | None, mark: str | None
) -> Iterator[Token]:
    """Yield the tokens of a word with a sign before it or a mark after it.

    A single letter with a mark is another word than the letter (C, C++, C#); any other word is also found without it.
    """
    stem, (start, stop) = stem_word(plain), match.span("word")
    if sign:
        yield Token(sign + stem, match.start(), stop, False, False)
    if mark and not plain.isdigit():
        yield Token(stem + mark, start, match.end(), False, False)
        if len(plain) == 1:
            return
    yield Token(stem, start, stop, False, plain in FUNCTION_WORDS)


def _compounds(tokens: list[Token]) -> list[Term]:
    """All tokens of a part without spaces as one term, if it has several words."""
    has_several = any(token.stop <= following.start for token, following in pairwise(tokens))
    return [_stems(tokens)] if has_several and not any(token.unspaced for token in tokens) else []


def _words_and_bigrams(tokens: list[Token]) -> Iterator[tuple[Term, bool]]:
    """Yield (term, whether it is a function word): bigrams of unspaced neighbours, and every token in no bigram."""
    for previous, token, following in zip([None, *tokens], tokens, [*tokens[1:], None], strict=False):
        if following is not None and _form_bigram(token, following):
            yield (token.stem, following.stem), False
        elif previous is None or not _form_bigram(previous, token):
            yield (token.stem,), token.is_function_word


def _form_bigram(first: Token, second: Token) -> bool:
    """Whether both are characters of unspaced scripts with nothing between them."""
    return first.unspaced and second.unspaced and first.stop == second.start


def _stems(tokens: list[Token]) -> Term:
    return tuple(token.stem for token in tokens)


@lru_cache(maxsize=65_536)
def stem_word(plain: str) -> str:
    """Return a lower-case word without its ending, by the Snowball stemmer of its script's commonest language.

    Latin letters are taken for English. A word of a script without a stemmer is returned as it is, and so is one of up
    to MAX_UNSTEMMED letters in another script than Latin: little would remain of it.
    """
    language: str | None = "english"
    if not plain.isascii():
        script = _SCRIPT.match(plain)
        language = _STEMMER_OF[script.lastgroup] if script is not None and script.lastgroup else None
        if language != "english" and len(plain) <= MAX_UNSTEMMED:
            language = None
    # threads must not share a stemmer; making one is cheap
    if language is None or len(plain) > MAX_STEMMED:
        return plain
    # some stemmers leave nothing of a few short words
    return str(Stemmer(language, 0).stemWord(plain)) or plain


@lru_cache(maxsize=65_536)
def fold(word: str) -> str:
    """Return a normalized word without case, accents and points."""
    if word.isascii():
        return word.lower()
    folded = unicodedata.normalize("NFKC", word.casefold()).translate(_FOLDED_LETTERS)
    parts = "".join(part if _is_cyrillic(part) else unicodedata.normalize("NFKD", part) for part in folded)
    return unicodedata.normalize("NFC", "".join(part for part in parts if part.isalnum() or _is_kept_mark(part)))


def _is_cyrillic(character: str) -> bool:
    """Whether it is a Cyrillic letter: й and ї are letters of their own, not и and і with an accent."""
    return "\u0400" <= character <= "\u052f"


def _is_kept_mark(character: str) -> bool:
    return (
        unicodedata.category(character) in {"Mn", "Mc"}
        and unicodedata.combining(character) in _KEPT_CLASSES
        and character != _DEVANAGARI_NUKTA
    )
