"""Teach a domain what its own words mean, and compare its results with those of the frozen encoder.

    python examples/label_and_adapt.py

A team calls its products by code names that no encoder has seen in this sense. Some labelled queries are enough to find
the right documents for the team, while everybody else searches as before.
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
WAYS_TO_ASK = ["{} is down", "how do I use {}", "who owns {}", "what is new in {}"]


def main() -> None:
    """Label, adapt, and show what changed."""
    with Index.build(documents=DOCUMENTS) as index:
        team = index.domain("team")
        team.label_many([(way.format(name), doc) for doc, name in CODE_NAMES.items() for way in WAYS_TO_ASK[:3]])
        result = team.adapt()
        print(result.reason)
        for doc, name in CODE_NAMES.items():
            query = WAYS_TO_ASK[-1].format(name)
            before, after = index.search(query, k=1)[0], team.search(query, k=1)[0]
            print(f"{query!r}: {before.id} before, {after.id} now, labelled as {doc}")


if __name__ == "__main__":
    main()
