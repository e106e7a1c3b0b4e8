#!/usr/bin/env python3
"""Measure keyword search on real text, next to SQLite's FTS5.

    python scripts/benchmark_keywords.py DATA_DIR [--sizes 10000,100000,1000000] [--queries 500]

DATA_DIR holds domains/NAME with corpus.jsonl and queries.jsonl in BEIR's layout. The texts of all domains are cut every
180 words and mixed. If a size asks for more passages than there are, they are repeated in another order of words, three
in ten of which are drawn from all words. Both engines index the same stems and find the 200 best passages of the same
queries, in turn. Prints seconds and MB of a build, and for both, milliseconds of CPU per query: median, mean and the
99th percentile; of the queries with a word that a tenth of the passages contain; and filtered at random to 50%, 1% and
0.01% of the passages.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from semsearch.filters.tree import Comparison
from semsearch.search.ranking import KEYWORD_DEPTH
from semsearch.storage.fulltext import FullText, FullTextWriter, stems_of
from semsearch.text.tokens import KeywordQuery, parse_query
from semsearch.types import Mask

WORDS = 180
"""Words of a passage, at most."""
NOISE = 0.3
"""Share of the words of a repeated passage that are replaced."""
SHARES = (1.0, 0.5, 0.01, 0.0001)
FREQUENT = 0.1
"""Share of the passages that contain a frequent word."""
SIGNS = ".#@$-+"


class Fts5:
    """SQLite's FTS5 over the same stems."""

    def __init__(self, path: Path, texts: Sequence[str]) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute(
            f"""CREATE VIRTUAL TABLE words USING fts5 (stems, content = '', tokenize = "ascii tokenchars '{SIGNS}'")"""
        )
        self._connection.execute("BEGIN")
        self._connection.executemany(
            "INSERT INTO words (rowid, stems) VALUES (?, ?)", ((row, stemmed(text)) for row, text in enumerate(texts))
        )
        self._connection.execute("INSERT INTO words (words) VALUES ('optimize')")
        self._connection.execute("COMMIT")

    def search(self, query: KeywordQuery, k: int, allowed: Mask | None) -> list[int]:
        """Return the rows of the k best passages."""
        expression = " OR ".join(f'"{" ".join(term)}"' for term in query.terms)
        if not expression:
            return []
        select = "SELECT rowid FROM words WHERE words MATCH ? {} ORDER BY rank, rowid LIMIT ?"
        if allowed is None:
            found = self._connection.execute(select.format(""), (expression, k))
        else:
            listed = json.dumps(np.flatnonzero(allowed).tolist())
            condition = "AND +rowid IN (SELECT value FROM json_each(?))"
            found = self._connection.execute(select.format(condition), (expression, listed, k))
        return [row for (row,) in found]


def stemmed(text: str) -> str:
    """The stems of a text, separated by spaces."""
    return " ".join(stems_of(text))


def real_passages(data: Path) -> list[str]:
    """The passages of all domains, mixed."""
    passages = []
    for path in sorted((data / "domains").glob("*/corpus.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            words = f"{record.get('title', '')} {record['text']}".split()
            passages += [" ".join(words[start : start + WORDS]) for start in range(0, len(words), WORDS)]
    random.Random(0).shuffle(passages)
    return passages


def multiplied(passages: Sequence[str], size: int) -> Iterator[str]:
    """The passages, and as many noisy repetitions as `size` asks for."""
    draw = random.Random(1)
    pool = [word for text in passages[::7] for word in text.split()]
    yield from islice(passages, size)
    for number in range(len(passages), size):
        words = passages[number % len(passages)].split()
        draw.shuffle(words)
        yield " ".join(draw.choice(pool) if draw.random() < NOISE else word for word in words)


def real_queries(data: Path, count: int) -> list[str]:
    """Queries of all domains, the same number of each."""
    paths = sorted((data / "domains").glob("*/queries.jsonl"))
    queries = []
    for path in paths:
        texts = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
        random.Random(2).shuffle(texts)
        queries += texts[: count // len(paths) + 1]
    return queries


def describe(milliseconds: Sequence[float]) -> str:
    """The median, mean and 99th percentile."""
    if not milliseconds:
        return "none"
    return f"{np.median(milliseconds):8.2f}{np.mean(milliseconds):8.2f}{np.quantile(milliseconds, 0.99):8.2f}"


def measure(data: Path, size: int, count: int, folder: Path) -> None:
    """Measure one size and print the figures."""
    texts = list(multiplied(real_passages(data), size))
    folder.mkdir()
    started = perf_counter()
    writer = FullTextWriter(folder / "fulltext")
    draw = np.random.default_rng(3)
    masks = {share: draw.random(size) < share for share in SHARES}
    for row, text in enumerate(texts):
        writer.add(row, text, [str(share) for share, mask in masks.items() if mask[row]])
    writer.close()
    writer.stop()
    seconds = perf_counter() - started
    started = perf_counter()
    fulltext = FullText(folder / "fulltext")
    opened = perf_counter() - started
    started = perf_counter()
    fts5 = Fts5(folder / "fts5.sqlite", texts)
    fts5_seconds = perf_counter() - started
    megabytes = sum(path.stat().st_size for path in (folder / "fulltext").iterdir()) / 1e6
    fts5_megabytes = (folder / "fts5.sqlite").stat().st_size / 1e6
    print(
        f"\n{size:,} passages: built in {seconds:.1f} s ({fts5_seconds:.1f}), {megabytes:.0f} MB ({fts5_megabytes:.0f})"
    )
    print(f"and opened in {1000 * opened:.1f} ms; in brackets SQLite's FTS5. Milliseconds of CPU: median, mean, p99")
    queries = [parse_query(text) for text in real_queries(data, count)]
    frequent = [any(fulltext.frequency(term) > FREQUENT * size for term in query.terms) for query in queries]
    for share, mask in masks.items():
        allowed = mask if share < 1 else None
        compiled = fulltext.compile_filter(Comparison(field="share", eq=share), lambda one: [str(one.eq)])
        engines: dict[str, Callable[[KeywordQuery], object]] = {
            "fulltext": partial(fulltext.search, k=KEYWORD_DEPTH, allowed=allowed, compiled_filter=compiled),
            "FTS5": partial(fts5.search, k=KEYWORD_DEPTH, allowed=allowed),
        }
        times: dict[str, list[float]] = {name: [] for name in engines}
        for query in queries:
            for name, search in engines.items():
                started = process_time()
                search(query)
                times[name].append(1000 * (process_time() - started))
        for name, milliseconds in times.items():
            with_frequent = [value for value, is_frequent in zip(milliseconds, frequent, strict=True) if is_frequent]
            print(
                f"{100 * share:7g}% {name:10}{describe(milliseconds)}   with a frequent word"
                f" ({len(with_frequent)}):{describe(with_frequent)}",
                flush=True,
            )


def main() -> int:
    """Measure all sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--queries", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for size in map(int, options.sizes.split(",")):
            measure(options.data, size, options.queries, Path(folder) / str(size))
    return 0


if __name__ == "__main__":
    sys.exit(main())
