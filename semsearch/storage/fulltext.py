"""Full text by passage row, in a folder of files. Does not depend on vectors or documents.

Tantivy indexes the stems that `semsearch.text.tokens` produces and ranks by BM25 (Robertson & Zaragoza 2009,
doi:10.1561/1500000019; k1 = 1.2, b = 0.75). BM25 weights a term by the number of passages that contain it; the caller
may give the weights of a larger corpus that these passages are a part of.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import TypeAlias

import numpy as np
import tantivy

from semsearch.errors import IndexFolderError, first_line
from semsearch.filters.tree import And, Comparison, Filter, Not
from semsearch.storage.word_pairs import WordPairs, WordPairsWriter
from semsearch.text.normalization import normalize
from semsearch.text.tokens import KeywordQuery, Term, Token, WordPair, segment, word_pairs
from semsearch.types import Mask, Rows, Scores

WRITER_BYTES = 64 * 2**20
"""Memory of a writer."""
FEW_ROWS = 1_000
"""Number of allowed rows up to which the engine looks for these alone, if it is given no compiled filter."""
MAX_LISTED_ROWS = 20_000
"""Number up to which it does so if few of the best rows are allowed."""
MAX_RANKED_SHARE = 0.3
"""Share of allowed rows from which on the best of all rows are filtered, which skips most of what matches less."""
TIED_ROWS = 20
"""Rows that are found beyond those that are wanted, to see whether they tie with the last of them."""
MAX_TIES = 10_000
"""Passages of the same score that are put in order at the end of a ranking."""
MIN_WEIGHT = 0.5
"""Least weight of a term, as a share of the weight that Lucene gives it."""
MIN_BEGINNING, LETTERS_OF_ENDING = 3, 3
"""Letters of a word that similar words begin with, and of its end that they may lack."""
CACHED_FREQUENCIES = 65_536
"""Terms whose passage frequency is kept in memory."""

Weight: TypeAlias = Callable[[Term], float]
"""Returns the inverse document frequency of a term."""

CompiledFilter: TypeAlias = tantivy.Query
"""A filter, as the engine evaluates it."""

_STEMS, _VALUES, _ROW = "stems", "values", "row"
_SPACES = "spaces"
_PAIRS = "word-pairs"
_NOTHING = np.empty(0, np.int64), np.empty(0, np.float32)


class FullTextWriter:
    """Writes a new folder, next to a temporary one. It is complete after `close`, and durable after an fsync."""

    def __init__(self, folder: Path) -> None:
        """Prepare to write the folder, which must not exist. Raises OSError if it cannot be written."""
        self._folder = folder
        # Tantivy adds locks and notes to the folder that it writes
        self._unfinished = Path(mkdtemp(prefix=".fulltext-", dir=folder.parent))
        schema = tantivy.SchemaBuilder()
        schema.add_text_field(_STEMS, tokenizer_name=_SPACES, index_option="position")
        schema.add_text_field(_VALUES, tokenizer_name=_SPACES, index_option="basic")
        schema.add_integer_field(_ROW, indexed=True, fast=True)
        try:
            index = tantivy.Index(schema.build(), path=str(self._unfinished))
            index.config_reader("manual")
            _register_tokenizer(index)
            # one thread keeps the passages in their order
            self._writer = index.writer(heap_size=WRITER_BYTES, num_threads=1)
            self._pairs = WordPairsWriter(self._unfinished / _PAIRS)
        except (ValueError, OSError) as error:
            _remove(self._unfinished)
            raise self._not_written(error) from error

    def add(self, row: int, text: str, value_terms: Iterable[str] = ()) -> None:
        """Add the text of the passage in this row, the next one. Raises OSError if the folder cannot be written.

        value_terms: texts without spaces that stand for the metadata values of its document.
        """
        tokens = _tokens(text)
        self._pairs.add(word_pairs(tokens))
        document = tantivy.Document()
        # no stem holds a space
        document.add_text(_STEMS, " ".join(token.stem for token in tokens))
        document.add_text(_VALUES, " ".join(value_terms))
        document.add_integer(_ROW, row)
        try:
            self._writer.add_document(document)
        except ValueError as error:
            raise self._not_written(error) from error

    def close(self) -> None:
        """Complete the files. Raises OSError if the folder cannot be written."""
        self._pairs.close()
        try:
            self._writer.commit()
            self._writer.wait_merging_threads()
        except ValueError as error:
            raise self._not_written(error) from error
        self._folder.mkdir()
        for path in self._unfinished.iterdir():
            if not path.name.startswith("."):
                path.rename(self._folder / path.name)

    def stop(self) -> None:
        """End its threads, and remove what was not completed."""
        del self._writer
        self._pairs.stop()
        _remove(self._unfinished)

    def _not_written(self, error: ValueError | OSError) -> OSError:
        return OSError(f"{self._folder.name} could not be written ({first_line(error)})")


class FullText:
    """Keyword search over passages. Any number of threads may use it."""

    def __init__(self, folder: Path) -> None:
        """Open a complete folder; its files stay in memory, so that they may be removed while it is in use.

        Raises IndexFolderError if the folder has no full text.
        """
        self._folder = folder
        with _damage(folder), _linked(folder) as links:
            index = tantivy.Index.open(str(links))
            index.config_reader("manual")
            _register_tokenizer(index)
            self._searcher = index.searcher()
        self._schema = index.schema
        self.count: int = self._searcher.num_docs
        """Number of passages."""
        with _damage(folder):
            self._pairs = WordPairs(folder / _PAIRS, self.count)
        self._frequencies: dict[Term, int] = {}

    def search(
        self,
        query: KeywordQuery,
        k: int,
        *,
        weight: Weight | None = None,
        allowed: Mask | None = None,
        compiled_filter: CompiledFilter | None = None,
    ) -> tuple[Rows, Scores]:
        """Return the k best passages by BM25: rows (n,) and scores (n,) > 0, n ≤ k, best first, ties by row number.

        Every passage returned contains each quoted phrase. weight: by default, by the frequencies of these passages.
        allowed: (count,) rows that may be returned. compiled_filter: one that all allowed rows match; it spares time.

        Raises IndexFolderError if the files are damaged in a way that their checksums do not show.
        """
        with _damage(self._folder):
            return self._search(query, k, weight, allowed, compiled_filter)

    def _search(
        self,
        query: KeywordQuery,
        k: int,
        weight: Weight | None,
        allowed: Mask | None,
        compiled_filter: CompiledFilter | None,
    ) -> tuple[Rows, Scores]:
        compiled = self._compile(query, weight)
        if compiled is None:
            return _NOTHING
        if allowed is None:
            return self._best(compiled, k)
        for attempt, considered in self._attempts(compiled, k, allowed, compiled_filter):
            rows, scores = self._best(attempt, considered)
            is_allowed = allowed[rows]
            if np.count_nonzero(is_allowed) >= k or len(rows) < considered:
                break
        return rows[is_allowed][:k], scores[is_allowed][:k]

    def _attempts(
        self, query: tantivy.Query, k: int, allowed: Mask, compiled_filter: CompiledFilter | None
    ) -> Iterator[tuple[tantivy.Query, int]]:
        """Yield what to search for, and how many rows, until k of these are allowed or no more match."""
        count = int(np.count_nonzero(allowed))
        # on average, this many ranked rows include k allowed ones, with a margin
        considered = math.ceil(1.5 * k * len(allowed) / max(1, count)) + 50
        is_narrow = count < MAX_RANKED_SHARE * len(allowed) and (compiled_filter is not None or count <= FEW_ROWS)
        if not is_narrow:
            yield query, considered
        # what matches the query may rarely match the filter
        if compiled_filter is not None or count <= MAX_LISTED_ROWS:
            if compiled_filter is None:
                compiled_filter = self._any_of(_ROW, np.flatnonzero(allowed).tolist())
            # of what matches both, most is allowed
            query, considered = _filtered(query, compiled_filter), k
        while True:
            considered *= 4
            yield query, considered

    def pair_shares(self, rows: Rows, pairs: Sequence[WordPair]) -> Scores:
        """Return the share of the pairs, at least one, that are neighbours in each passage: (n,) for (n,) rows."""
        return self._pairs.shares(rows, pairs)

    def compile_filter(
        self, tree: Filter, value_terms: Callable[[Comparison], Sequence[str] | None]
    ) -> CompiledFilter | None:
        """Return a filter as the engine evaluates it; None if it cannot.

        value_terms: returns the texts of which a document that matches the comparison has at least one, and no other
        document; None if there are too many.
        """
        if isinstance(tree, Comparison):
            terms = value_terms(tree)
            if terms is None:
                return None
            within = self._any_of(_VALUES, terms)
            return _none_of(within) if tree.exists is False else within
        if isinstance(tree, Not):
            operand = self.compile_filter(tree.operand, value_terms)
            return None if operand is None else _none_of(operand)
        parts = [
            self.compile_filter(part, value_terms) for part in (tree.all_of if isinstance(tree, And) else tree.any_of)
        ]
        occur = tantivy.Occur.Must if isinstance(tree, And) else tantivy.Occur.Should
        compiled = [(occur, part) for part in parts if part is not None]
        return tantivy.Query.boolean_query(compiled) if len(compiled) == len(parts) else None

    def frequency(self, term: Term) -> int:
        """Return the number of passages that contain these stems next to each other."""
        frequency = self._frequencies.get(term)
        if frequency is None:
            if len(self._frequencies) >= CACHED_FREQUENCIES:
                self._frequencies.clear()
            if len(term) == 1:
                frequency = self._searcher.doc_freq(_STEMS, term[0])
            else:
                frequency = self._searcher.search(self._phrase(term), 1, count=True).count  # type: ignore[attr-defined]
            self._frequencies[term] = frequency
        return frequency

    def similar_stems(self, stem: str, edits: int, k: int) -> Rows:
        """Return up to k passages with a stem that at most `edits` letters make of this one, (n,), in no order.

        The end of a misspelled word is often taken for no ending, so stems that begin like its beginning count too.
        Raises IndexFolderError as `search` does.
        """
        beginning = stem[: max(MIN_BEGINNING, len(stem) - LETTERS_OF_ENDING)]
        queries = [
            tantivy.Query.fuzzy_term_query(self._schema, _STEMS, stem, distance=edits),
            tantivy.Query.fuzzy_term_query(self._schema, _STEMS, beginning, distance=1, prefix=True),
        ]
        return self._rows_of_any(queries, k)

    def stems_beginning(self, beginning: str, k: int) -> Rows:
        """Return up to k passages with a stem that begins so, (n,), in no order.

        Raises IndexFolderError as `search` does.
        """
        query = tantivy.Query.fuzzy_term_query(self._schema, _STEMS, beginning, distance=0, prefix=True)
        return self._rows_of_any([query], k)

    def _rows_of_any(self, queries: Iterable[tantivy.Query], k: int) -> Rows:
        """Return up to k passages for each query, (n,) distinct rows, ascending."""
        with _damage(self._folder):
            hits = [hit for query in queries for hit in self._searcher.search(query, k, count=False).hits]
            return np.unique(self._rows([address for _, address in hits]))

    def rows(self) -> Rows:
        """Return the rows of all passages, (count,), ascending. Raises IndexFolderError as `search` does."""
        with _damage(self._folder):
            hits = self._searcher.search(tantivy.Query.all_query(), max(1, self.count), count=False).hits
            return np.sort(self._rows([address for _, address in hits]))

    def _compile(self, query: KeywordQuery, weight: Weight | None) -> tantivy.Query | None:
        """The query for the engine; None if no passage can match it."""
        required = [self._weighted(phrase, weight) for phrase in query.phrases]
        optional = [self._weighted(term, weight) for term in query.terms]
        parts = [(tantivy.Occur.Must, part) for part in required if part is not None]
        if len(parts) < len(required):
            return None
        parts += [(tantivy.Occur.Should, part) for part in optional if part is not None]
        return tantivy.Query.boolean_query(parts) if parts else None

    def _weighted(self, term: Term, weight: Weight | None) -> tantivy.Query | None:
        """A term with its weight; None if no passage contains it."""
        frequency = self.frequency(term)
        if not frequency:
            return None
        wanted = self._own_weight(term) if weight is None else weight(term)
        if len(term) == 1:
            query = tantivy.Query.term_query(self._schema, _STEMS, term[0], "freq")
        else:
            query = self._phrase(term)
        # the engine would weigh a phrase by the sum of its stems, so that a frequent one of rare stems counts too much
        of_engine = sum(math.log1p(_odds(self.frequency((stem,)), self.count)) for stem in term)
        return tantivy.Query.boost_query(query, wanted / of_engine)

    def _own_weight(self, term: Term) -> float:
        return inverse_frequency(self.frequency(term), self.count)

    def _phrase(self, term: Term) -> tantivy.Query:
        return tantivy.Query.phrase_query(self._schema, _STEMS, list(term))

    def _any_of(self, field: str, values: Sequence[str | int]) -> tantivy.Query:
        if not values:
            return tantivy.Query.empty_query()
        return tantivy.Query.term_set_query(self._schema, field, values)

    def _best(self, query: tantivy.Query, k: int) -> tuple[Rows, Scores]:
        limit = k + TIED_ROWS
        while True:
            hits = self._searcher.search(query, max(1, min(limit, self.count)), count=False).hits
            scores = np.array([score for score, _ in hits], np.float32)
            # the engine orders equal scores as its own segments were written and merged
            is_cut = len(hits) == limit and scores[-1] == scores[k - 1]
            if not is_cut or limit >= k + MAX_TIES:
                break
            limit *= 4
        rows = self._rows([address for _, address in hits])
        order = np.lexsort((rows, -scores))[:k]
        return rows[order], scores[order]

    def _rows(self, addresses: list[tantivy.DocAddress]) -> Rows:
        return np.array(self._searcher.fast_field_values(_ROW, addresses), np.int64)


def _filtered(query: tantivy.Query, compiled_filter: CompiledFilter) -> tantivy.Query:
    """The query for what matches the filter too, which does not count for the score."""
    unscored = tantivy.Query.const_score_query(compiled_filter, 0.0)
    return tantivy.Query.boolean_query([(tantivy.Occur.Must, query), (tantivy.Occur.Must, unscored)])


def _none_of(compiled_filter: CompiledFilter) -> CompiledFilter:
    return tantivy.Query.boolean_query(
        [(tantivy.Occur.Must, tantivy.Query.all_query()), (tantivy.Occur.MustNot, compiled_filter)]
    )


@contextmanager
def _damage(folder: Path) -> Iterator[None]:
    """Convert errors for missing and damaged files into IndexFolderError."""
    try:
        yield
    except BaseException as error:
        # what Tantivy takes to be impossible is no `Exception`
        if isinstance(error, OSError | ValueError | TypeError) or type(error).__name__ == "PanicException":
            reason = first_line(error)[:200]
            raise IndexFolderError(f"{folder} has no full text ({reason}): build the index again") from error
        raise


@contextmanager
def _linked(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder of links to the files of another one.

    Tantivy writes a lock into the folder that it opens, but that of an index may be read-only, and is not to change.
    Raises IndexFolderError if no temporary folder can be made.
    """
    paths = list(folder.iterdir())
    links = None
    try:
        links = Path(mkdtemp(prefix="semsearch-"))
        for path in paths:
            (links / path.name).symlink_to(path.absolute())
    except OSError as error:
        if links is not None:
            _remove(links)
        raise IndexFolderError(
            f"no temporary folder of links can be made ({error.strerror}), which opening {folder} needs: make room for"
            " one, or set TMPDIR to a folder that can be written"
        ) from error
    try:
        yield links
    finally:
        _remove(links)


def _remove(folder: Path) -> None:
    # a thread of Tantivy may write the lock once more while the folder is removed
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def stems_of(text: str) -> list[str]:
    """Return the stems of a text, in order, as they are indexed. They hold no space."""
    return [token.stem for token in _tokens(text)]


def _tokens(text: str) -> list[Token]:
    return segment(normalize(text).text)


def inverse_frequency(frequency: int, passages: int) -> float:
    """Return the inverse document frequency of a term that `frequency` of the passages contain, above 0.

    That of Robertson & Zaragoza, log((N - n + 0.5) / (n + 0.5)), which is negative for a term in more than half of the
    passages; but at least half of Lucene's, log(1 + (N - n + 0.5) / (n + 0.5)).
    """
    odds = _odds(frequency, passages)
    return max(math.log(odds), MIN_WEIGHT * math.log1p(odds))


def _odds(frequency: int, passages: int) -> float:
    return (passages - frequency + 0.5) / (frequency + 0.5)


def _register_tokenizer(index: tantivy.Index) -> None:
    index.register_tokenizer(_SPACES, tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build())
