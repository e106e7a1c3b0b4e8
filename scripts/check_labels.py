"""Kill a server at random moments while labels arrive, and check that no acknowledged label is lost.

    python scripts/check_labels.py INDEX --times 50

Four clients send labels and clicks, one request after the other, with ids of their own, and record the acknowledged
ones, while the domains adapt. At a random moment the server is killed (SIGKILL). After each kill the log must hold
every acknowledged entry once, with its content, every domain's record and state must open, and a new server must
answer.

Exit code 1 if a check failed.
"""

from __future__ import annotations

import argparse
import http.client
import random
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from time import sleep

from servers import Client, start

from semsearch.storage.corpus import Corpus
from semsearch.storage.domains import DomainStore
from semsearch.storage.generations import open_current, read_manifest
from semsearch.storage.labels import EntryFilter, LabelLog
from semsearch.types import Click, Label

CLIENTS = 4
MAX_RUN_S = 1.5


class Sender(threading.Thread):
    """A client that sends entries until the server is killed; `acknowledged` holds those that the server accepted."""

    def __init__(self, client: Client, number: int, documents: list[str], seed: int) -> None:
        super().__init__(daemon=True)
        self.sent = 0
        self.acknowledged: dict[str, tuple[str, str]] = {}
        self._client = Client(client.host, client.port)
        self._chooser = random.Random(f"{seed} {number}")
        self._name = f"{seed}-{number}"
        self._documents = documents

    def run(self) -> None:
        """Send one request after the other."""
        try:
            while True:
                self._send()
        except (OSError, http.client.HTTPException):
            self._client.close()

    def _send(self) -> None:
        chooser = self._chooser
        kind, fields = chooser.choice([("labels", {}), ("clicks", {"position": 1})])
        entries: list[dict[str, object]] = []
        sent: dict[str, tuple[str, str]] = {}
        for _ in range(chooser.choice([1, 1, 1, 20])):
            entry_id, document = f"{self._name}-{self.sent}", chooser.choice(self._documents)
            query = f"question {chooser.randrange(30)} of {chooser.choice('abcd')}"
            entries.append({"id": entry_id, "query": query, "document": document, **fields})
            sent[entry_id] = (query, document)
            self.sent += 1
        self._client.call("POST", f"/api/{kind}", {"domain": f"d{chooser.randrange(3)}", kind: entries})
        self.acknowledged.update(sent)


def open_store(index: Path) -> DomainStore:
    """Return the domains of an index."""
    record = read_manifest(index).encoder
    return DomainStore(index, encoder_sha256=record.weights_sha256, dimension=record.dimension)


def check_disk(index: Path, acknowledged: dict[str, tuple[str, str]]) -> list[str]:
    """Return the errors in the log and in the domains' records and states."""
    log = LabelLog(index)
    entries: list[Label | Click] = [entry for _, entry in log.labels(EntryFilter())]
    entries += [entry for _, entry in log.clicks(EntryFilter())]
    log.close()
    logged = {entry.id: (entry.query, entry.document or "") for entry in entries}
    errors = [f"{entry_id} is not in the log" for entry_id in acknowledged if entry_id not in logged]
    errors += [
        f"{entry_id} changed" for entry_id, content in acknowledged.items() if logged.get(entry_id, content) != content
    ]
    errors += [] if len(logged) == len(entries) else ["an entry is in the log twice"]
    store = open_store(index)
    for name in store.names():
        for version in store.record(name).versions:
            state = store.state(name, version)
            if state is None and version.learner != "none" and version.number > store.record(name).number - 20:
                errors.append(f"{name} has lost version {version.number}")
    return errors


def main() -> None:
    """Repeatedly start a server, kill it and check the disk."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chooser = random.Random(options.seed)
    acknowledged: dict[str, tuple[str, str]] = {}
    failures, versions, sent = 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        shutil.copytree(options.index, index, ignore=shutil.ignore_patterns("domains", "labels.sqlite*"))
        generation = open_current(index)
        documents = Corpus.open(generation, threads=1).all_doc_ids()[:200]
        generation.close()
        for kill in range(options.times):
            server, client = start(index, "--threads", "1", "--adapt-after", "5")
            # start the adaptation process before the first kill
            client.call("POST", "/api/labels", {"domain": "d0", "query": "a first query", "document": documents[0]})
            client.call("POST", "/api/domains/d0/adapt", {"wait": True})
            senders = [Sender(client, number, documents, kill) for number in range(CLIENTS)]
            for sender in senders:
                sender.start()
            sleep(chooser.uniform(0.02, MAX_RUN_S))
            server.kill()
            server.wait(30)
            client.close()
            for sender in senders:
                sender.join(30)
                acknowledged.update(sender.acknowledged)
                sent += sender.sent
            errors = check_disk(index, acknowledged)
            failures += bool(errors)
            for error in errors[:5]:
                print(f"kill {kill + 1}: {error}")
        store = open_store(index)
        versions = sum(store.record(name).number for name in store.names())
    print(
        f"{options.times} kills: {len(acknowledged)} of {sent} entries acknowledged, {versions} versions made,"
        f" {failures} kills after which an entry was lost or a file was damaged"
    )
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
