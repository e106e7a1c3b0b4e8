"""Build an index from documents in memory and search it in three ways.

python examples/build_and_search.py
"""

from __future__ import annotations

from semsearch import Index

ARTICLES = [
    {"id": "pin", "title": "Reset your PIN", "text": "Forgot the digits of your card? Order a new PIN.", "lang": "en"},
    {"id": "hours", "title": "Opening hours", "text": "Our branches are open from nine to five.", "lang": "en"},
    {"id": "lost", "title": "Lost card", "text": "Block a stolen or lost card by phone.", "lang": "en"},
    {"id": "karte", "title": "Karte sperren", "text": "Eine verlorene Karte sperren Sie am Telefon.", "lang": "de"},
]
"""Fields other than `id`, `title` and `text` are metadata."""


def main() -> None:
    """Build an index, and print the hits of three searches."""
    # without a folder the index is in a temporary one, which is removed on exit
    with Index.build(documents=ARTICLES, title="Help centre") as index:
        print(index.info())
        for hit in index.search("my card was stolen", k=2):
            print(f"{hit.score:.3f}  {hit.id:6} {hit.passage.text}")
        [german] = index.search("card", filter="lang = de")
        print("in German:", german.title)
        print("with the word itself:", [hit.id for hit in index.search("PIN", mode="keyword")])


if __name__ == "__main__":
    main()
