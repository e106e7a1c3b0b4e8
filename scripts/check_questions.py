#!/usr/bin/env python3
"""Search an index for questions whose answers are known, and count how often an answer comes first.

    python scripts/check_questions.py INDEX QUESTIONS [--failures]

QUESTIONS is a folder with queries.jsonl and qrels.tsv in BEIR's layout; a question may have several acceptable answers.
For each search mode it prints the share of questions with an answer first and among the first three, and the mean
reciprocal rank over the first ten. --failures lists the questions without an answer among the first three. Answers that
are not in the index are counted, and named if a question has no other.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from semsearch import Hit, Index, Mode
from semsearch.metalearn.datasets import read_labels

TOP = 10


@dataclass(frozen=True, slots=True)
class Answered:
    """A question with the results that a search found for it."""

    question: str
    results: list[str]
    """Ids of the first ten documents."""
    rank: int | None
    """Rank of the first acceptable answer from 1, None if it is not among the first ten."""


def answer(question: str, acceptable: set[str], hits: Sequence[Hit]) -> Answered:
    """Find the first acceptable answer among the hits of a question."""
    results = [hit.id for hit in hits]
    ranks = (rank for rank, result in enumerate(results, start=1) if result in acceptable)
    return Answered(question, results, next(ranks, None))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--failures", action="store_true", help="list the questions without an answer in the top 3")
    arguments = parser.parse_args()

    console = Console(width=160, soft_wrap=True)
    questions = [(text, set(relevance)) for text, relevance in read_labels(arguments.questions)]
    table = Table("mode", "first", "top 3", "MRR@10")
    with Index.open(arguments.index) as index:
        known = {doc_id for _, acceptable in questions for doc_id in acceptable if index.document(doc_id) is not None}
        unanswerable = [text for text, acceptable in questions if not acceptable & known]
        console.print(f"{len(questions)} questions; {len(unanswerable)} have no answer in the index", *unanswerable)
        texts = [text for text, _ in questions]
        for mode in (Mode.HYBRID, Mode.SEMANTIC):
            found = index.search_many(texts, k=TOP, mode=mode)
            answered = [answer(*question, hits) for question, hits in zip(questions, found, strict=True)]
            ranks = [one.rank for one in answered]
            shares = [sum(rank is not None and rank <= top for rank in ranks) / len(ranks) for top in (1, 3)]
            reciprocal = sum(1 / rank for rank in ranks if rank is not None) / len(ranks)
            table.add_row(mode.value, *(f"{share:.0%}" for share in shares), f"{reciprocal:.3f}")
            if arguments.failures:
                for one in answered:
                    if one.rank is None or one.rank > 3:
                        console.print(f"{mode.value}: {one.question} [rank {one.rank}]", markup=False)
                        console.print("   ", *one.results[:5], markup=False)
    console.print(table)


if __name__ == "__main__":
    main()
