"""Adapt a domain to its own vocabulary, and compare its results with those of the frozen encoder.

    python examples/label_and_adapt.py

A team has code names for its products, in a sense that no encoder was trained on. A few labelled queries are enough to
find the right documents for the team; the results of all other domains stay the same.
"""

from __future__ import annotations

from semsearch import Index

DOCUMENTS = [
    {"id": "ledger", "text": "Accounting: book invoices, payments and taxes of the month."},
    {"id": "mail", "text": "Electronic mail: accounts, filters and shared folders."},
    {"id": "backup", "text": "Copies of all servers are made at night and kept for a year."},
    {"id": "wiki", "text": "Write and find articles about how we work."},
    {"id": "access", "text": "Ask for a key card or for access to a system."},
    {"id": "print", "text": "Set up a printer, order paper and toner."},
]
CODE_NAMES = {"ledger": "Falcon", "mail": "Otter", "backup": "Glacier", "wiki": "Beehive"}
TEMPLATES = ["{} is down", "how do I use {}", "who owns {}", "what is new in {}"]


def main() -> None:
    """Label queries, adapt, and print the best document before and after."""
    with Index.build(documents=DOCUMENTS) as index:
        team = index.domain("team")
        team.label_many(
            [(template.format(name), doc) for doc, name in CODE_NAMES.items() for template in TEMPLATES[:3]]
        )
        result = team.adapt()
        print(result.reason)
        for doc, name in CODE_NAMES.items():
            query = TEMPLATES[-1].format(name)
            before, after = index.search(query, k=1)[0], team.search(query, k=1)[0]
            print(f"{query!r}: {before.id} before, {after.id} now, labelled as {doc}")


if __name__ == "__main__":
    main()
