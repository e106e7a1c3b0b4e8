"""Recommendations on MovieLens against popularity, the mean of liked vectors and collaborative filters.

    python scripts/benchmark_recommending.py MOVIELENS_DIR      (needs: pip install implicit)

MOVIELENS_DIR holds items.jsonl and interactions.tsv. Films are indexed by title and genres only. The last fifth of each
user's ratings, by time, is held out; ratings from 4 on are likes. Every user with five likes before and one after is
recommended ten films that they had not rated before: recall@10 and nDCG@10 over the likes held out, mean over users,
with 95% intervals of the difference to popularity (paired bootstrap over users).
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
    """One person's past and future."""

    liked: list[str]
    """In the order of time."""
    seen: set[str]
    wanted: set[str]


def read_users(path: Path) -> list[User]:
    """Users with enough likes on both sides of the cut."""
    rated: dict[str, list[tuple[float, str, float]]] = defaultdict(list)
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            rated[row["user_id"]].append((float(row["timestamp"]), row["item_id"], float(row["rating"])))
    users = []
    for rows in rated.values():
        rows.sort()
        held = max(1, len(rows) // 5)
        past, future = rows[:-held], rows[-held:]
        liked, wanted = ([one for _, one, rating in part if rating >= 4] for part in (past, future))
        if len(liked) >= 5 and wanted:
            users.append(User(liked, {one for _, one, _ in past}, set(wanted)))
    return users


def scored(users: list[User], name: str, chosen: Callable[[int, User], list[str]]) -> npt.NDArray[np.float64]:
    """(users, 2) recall@10 and nDCG@10; prints their means."""
    discount = 1 / np.log2(np.arange(2, K + 2))
    rows = []
    for number, user in enumerate(users):
        found = chosen(number, user)
        assert len(found) <= K
        assert not user.seen & set(found)
        hits = np.array([one in user.wanted for one in found] + [False] * (K - len(found)), float)
        ideal = discount[: min(K, len(user.wanted))].sum()
        rows.append((hits.sum() / len(user.wanted), hits @ discount / ideal))
    values = np.array(rows)
    print(f"{name:44} recall@10 {values[:, 0].mean():.4f}   nDCG@10 {values[:, 1].mean():.4f}", end="", flush=True)
    return values


def interval(difference: npt.NDArray[np.float64]) -> str:
    """Mean of a paired difference with its bootstrap interval."""
    rng = np.random.default_rng(0)
    means = [difference[rng.integers(len(difference), size=len(difference))].mean() for _ in range(2000)]
    low, high = np.quantile(means, [0.025, 0.975])
    return f"   nDCG@10 over popularity {difference.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


def main() -> int:
    """Build, recommend, measure."""
    if len(sys.argv) != 2:
        sys.stderr.write(__doc__ or "")
        return 2
    data = Path(sys.argv[1])
    items = [json.loads(line) for line in (data / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    users = read_users(data / "interactions.tsv")
    likes = Counter(one for user in users for one in user.liked)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "films.jsonl"
        with source.open("w", encoding="utf-8") as file:
            for one in items:
                text = f"Genres: {', '.join(one['genres']) or 'none'}"
                file.write(json.dumps({"id": one["_id"], "title": one["title"], "text": text}) + "\n")
        for _ in build(Recipe(sources=(Source(path=source),)), Path(folder) / "films"):
            pass
        engine = SearchEngine.open(Path(folder) / "films")
        print(f"{len(users)} users, {len(items)} films")
        rows, vectors = engine.corpus.live_passages()
        identities = engine.corpus.doc_ids(rows)
        place = {one: row for row, one in enumerate(identities)}

        def best(user: User, scores: npt.NDArray[np.float64]) -> list[str]:
            scores = scores.copy()
            scores[[place[one] for one in user.seen]] = -np.inf
            return [identities[row] for row in np.argsort(-scores, kind="stable")[:K].tolist()]

        def ours(diversity: float, *, others: bool) -> Callable[[int, User], list[str]]:
            def chosen(_: int, user: User) -> list[str]:
                mine = set(user.liked)
                liking = {one: number - (one in mine) for one, number in likes.items()} if others else {}
                found = recommend(engine, user.liked, seen=user.seen, others=liking, k=K, diversity=diversity)
                assert found is not None
                return [hit.id for hit in found.hits]

            return chosen

        popular = np.array([float(likes[one]) for one in identities])
        base = scored(users, "popularity", lambda _, user: best(user, popular))
        print()
        ways: list[tuple[str, Callable[[int, User], list[str]]]] = [
            (
                "mean of liked vectors",
                lambda _, user: best(
                    user, (vectors @ vectors[[place[one] for one in user.liked]].mean(0)).astype(float)
                ),
            ),
            ("semsearch, what others like not known", ours(0.0, others=False)),
            ("semsearch, diversity 0", ours(0.0, others=True)),
            ("semsearch, diversity 0.3 (default)", ours(0.3, others=True)),
            ("semsearch, diversity 0.6", ours(0.6, others=True)),
            *collaborative(users, identities, best),
        ]
        for name, way in ways:
            values = scored(users, name, way)
            print(interval(values[:, 1] - base[:, 1]))
        engine.close()
    return 0


def collaborative(
    users: list[User],
    identities: list[str],
    best: Callable[[User, npt.NDArray[np.float64]], list[str]],
) -> list[tuple[str, Callable[[int, User], list[str]]]]:
    """The library implicit's alternating least squares and item neighbours, on the same likes."""
    from implicit.als import AlternatingLeastSquares
    from implicit.nearest_neighbours import BM25Recommender
    from scipy.sparse import csr_matrix

    place = {one: row for row, one in enumerate(identities)}
    rows = np.repeat(np.arange(len(users)), [len(user.liked) for user in users])
    columns = np.array([place[one] for user in users for one in user.liked])
    liked = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(users), len(identities)))
    factors = AlternatingLeastSquares(factors=32, regularization=0.05, alpha=1, random_state=0, num_threads=1)
    factors.fit(liked, show_progress=False)
    near = BM25Recommender(K=50, num_threads=1)
    near.fit(liked, show_progress=False)
    return [
        ("implicit, ALS (32 factors)", lambda n, user: best(user, factors.item_factors @ factors.user_factors[n])),
        ("implicit, item neighbours (BM25)", lambda n, user: best(user, (liked[n] @ near.similarity).toarray()[0])),
    ]


if __name__ == "__main__":
    sys.exit(main())
