"""Compare recommendations on MovieLens with popularity, the mean of liked vectors and collaborative filtering.

    python scripts/benchmark_recommending.py MOVIELENS_DIR      (needs: pip install implicit)

MOVIELENS_DIR holds items.jsonl and interactions.tsv. Films are indexed by title and genres only. The last fifth of each
user's ratings, by time, is held out; ratings of at least 4 are likes. Every user with five likes before the cut and one
after it is recommended ten films that they had not rated. Prints recall@10 and nDCG@10 over the held-out likes, mean
over users, with 95% intervals of the difference to popularity (paired bootstrap over users).
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from semsearch import SearchEngine
from semsearch.domains.recommending import recommend
from semsearch.ingest.building import build
from semsearch.ingest.recipe import Recipe, Source

K = 10


@dataclass(frozen=True)
class User:
    """The ratings of one user before and after the cut."""

    liked: list[str]
    """In chronological order."""
    seen: set[str]
    held_out: set[str]


def read_users(path: Path) -> list[User]:
    """Read the users with enough likes on both sides of the cut."""
    rated: dict[str, list[tuple[float, str, float]]] = defaultdict(list)
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            rated[row["user_id"]].append((float(row["timestamp"]), row["item_id"], float(row["rating"])))
    users = []
    for rows in rated.values():
        rows.sort()
        held = max(1, len(rows) // 5)
        past, future = rows[:-held], rows[-held:]
        liked, held_out = ([item for _, item, rating in part if rating >= 4] for part in (past, future))
        if len(liked) >= 5 and held_out:
            users.append(User(liked, {item for _, item, _ in past}, set(held_out)))
    return users


def evaluate(users: list[User], name: str, recommended: Callable[[int, User], list[str]]) -> npt.NDArray[np.float64]:
    """Return (users, 2) recall@10 and nDCG@10 of a method, and print their means."""
    discount = 1 / np.log2(np.arange(2, K + 2))
    rows = []
    for number, user in enumerate(users):
        items = recommended(number, user)
        assert len(items) <= K
        assert not user.seen & set(items)
        hits = np.array([item in user.held_out for item in items] + [False] * (K - len(items)), float)
        ideal = discount[: min(K, len(user.held_out))].sum()
        rows.append((hits.sum() / len(user.held_out), hits @ discount / ideal))
    values = np.array(rows)
    print(f"{name:44} recall@10 {values[:, 0].mean():.4f}   nDCG@10 {values[:, 1].mean():.4f}", end="", flush=True)
    return values


def interval(difference: npt.NDArray[np.float64]) -> str:
    """Describe the mean of a paired difference with its bootstrap interval."""
    rng = np.random.default_rng(0)
    means = [difference[rng.integers(len(difference), size=len(difference))].mean() for _ in range(2000)]
    low, high = np.quantile(means, [0.025, 0.975])
    return f"   nDCG@10 over popularity {difference.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


def main() -> int:
    """Build the index, and evaluate all methods."""
    if len(sys.argv) != 2:
        sys.stderr.write(__doc__ or "")
        return 2
    data = Path(sys.argv[1])
    items = [json.loads(line) for line in (data / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    users = read_users(data / "interactions.tsv")
    likes = Counter(item for user in users for item in user.liked)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "films.jsonl"
        with source.open("w", encoding="utf-8") as file:
            for item in items:
                text = f"Genres: {', '.join(item['genres']) or 'none'}"
                file.write(json.dumps({"id": item["_id"], "title": item["title"], "text": text}) + "\n")
        for _ in build(Recipe(sources=(Source(path=source),)), Path(folder) / "films"):
            pass
        engine = SearchEngine.open(Path(folder) / "films")
        print(f"{len(users)} users, {len(items)} films")
        rows = engine.corpus.live_rows
        vectors = engine.corpus.vectors(rows)
        doc_ids = engine.corpus.doc_ids(rows)
        rows_by_id = {doc_id: row for row, doc_id in enumerate(doc_ids)}

        def best(user: User, scores: npt.NDArray[np.float64]) -> list[str]:
            scores = scores.copy()
            scores[[rows_by_id[item] for item in user.seen]] = -np.inf
            return [doc_ids[row] for row in np.argsort(-scores, kind="stable")[:K].tolist()]

        def semsearch(diversity: float, *, use_likes: bool) -> Callable[[int, User], list[str]]:
            def recommended(_: int, user: User) -> list[str]:
                own = set(user.liked)
                counts = {item: count - (item in own) for item, count in likes.items()} if use_likes else {}
                result = recommend(engine, user.liked, seen=user.seen, like_counts=counts, k=K, diversity=diversity)
                assert result is not None
                return [hit.id for hit in result.hits]

            return recommended

        popular = np.array([float(likes[doc_id]) for doc_id in doc_ids])
        base = evaluate(users, "popularity", lambda _, user: best(user, popular))
        print()
        methods: list[tuple[str, Callable[[int, User], list[str]]]] = [
            (
                "mean of liked vectors",
                lambda _, user: best(
                    user, (vectors @ vectors[[rows_by_id[item] for item in user.liked]].mean(0)).astype(float)
                ),
            ),
            ("semsearch, without others' likes", semsearch(0.0, use_likes=False)),
            ("semsearch, diversity 0", semsearch(0.0, use_likes=True)),
            ("semsearch, diversity 0.3 (default)", semsearch(0.3, use_likes=True)),
            ("semsearch, diversity 0.6", semsearch(0.6, use_likes=True)),
            *collaborative(users, doc_ids, best),
        ]
        for name, method in methods:
            values = evaluate(users, name, method)
            print(interval(values[:, 1] - base[:, 1]))
        engine.close()
    return 0


def collaborative(
    users: list[User],
    doc_ids: list[str],
    best: Callable[[User, npt.NDArray[np.float64]], list[str]],
) -> list[tuple[str, Callable[[int, User], list[str]]]]:
    """Return alternating least squares and item neighbours of the library `implicit`, fitted on the same likes."""
    from implicit.als import AlternatingLeastSquares
    from implicit.nearest_neighbours import BM25Recommender
    from scipy.sparse import csr_matrix

    rows_by_id = {doc_id: row for row, doc_id in enumerate(doc_ids)}
    rows = np.repeat(np.arange(len(users)), [len(user.liked) for user in users])
    columns = np.array([rows_by_id[item] for user in users for item in user.liked])
    liked = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(users), len(doc_ids)))
    factors = AlternatingLeastSquares(factors=32, regularization=0.05, alpha=1, random_state=0, num_threads=1)
    factors.fit(liked, show_progress=False)
    neighbours = BM25Recommender(K=50, num_threads=1)
    neighbours.fit(liked, show_progress=False)
    return [
        ("implicit, ALS (32 factors)", lambda n, user: best(user, factors.item_factors @ factors.user_factors[n])),
        (
            "implicit, item neighbours (BM25)",
            lambda n, user: best(user, (liked[n] @ neighbours.similarity).toarray()[0]),
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
