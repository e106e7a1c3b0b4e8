"""Count the functions and modules that a query, a label and a document pass through.

    python scripts/trace_paths.py [CHECKOUT]

Three paths through the package of CHECKOUT, by default this one, are traced: a query from GET /api/search to its
response, labels from POST /api/labels to the adapted state (POST /api/domains/NAME/adapt), and documents from
`semsearch build` to the published index. Every call of a function of the package counts, on all threads of the process,
except lambdas and comprehensions. For each path, the script prints the numbers of distinct functions and modules, and
the number of returns to a module: consecutive calls within one module are one visit, and every visit after a module's
first is a return. Loops repeat visits, so the inputs are small and always the same: one query, four labels, six
documents.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

DOCUMENTS = [
    {"id": "cat", "text": "A small animal that purrs and hunts mice."},
    {"id": "dog", "text": "A loyal animal that barks and guards the house."},
    {"id": "eagle", "text": "A large bird of prey that soars over mountains."},
    {"id": "salmon", "text": "A fish that swims up rivers to spawn."},
    {"id": "bee", "text": "An insect that collects nectar and makes honey."},
    {"id": "whale", "text": "The largest animal of the sea, it breathes air."},
]


class Trace:
    """A profile function that records the calls of functions in a package, in order."""

    def __init__(self, package: Path) -> None:
        self._prefix = f"{package}{os.sep}"
        self._lock = threading.Lock()
        self.calls: list[tuple[str, str]] = []

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        """Record a call; the signature is that of `sys.setprofile`."""
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(self._prefix) and not code.co_name.startswith("<"):
            with self._lock:
                self.calls.append((code.co_filename.removeprefix(self._prefix), code.co_qualname))

    @contextmanager
    def path(self, name: str) -> Iterator[None]:
        """Trace the calls in this context, and print their counts."""
        self.calls.clear()
        yield
        visits = [
            file for number, (file, _) in enumerate(self.calls) if not number or self.calls[number - 1][0] != file
        ]
        files = set(visits)
        print(
            f"{name}: {len(set(self.calls))} functions in {len(files)} modules, {len(visits) - len(files)} returns to a"
            " module"
        )


def trace_paths() -> None:
    """Trace the three paths in the package that this process imports."""
    import semsearch

    trace = Trace(Path(semsearch.__file__).parent)
    with tempfile.TemporaryDirectory() as folder:
        source, index = Path(folder) / "animals.jsonl", Path(folder) / "zoo"
        source.write_text("".join(json.dumps(document) + "\n" for document in DOCUMENTS), encoding="utf-8")

        def build() -> None:
            sys.argv = ["semsearch", "build", str(source), "--out", str(index), "--device", "cpu", "--threads", "1"]
            try:
                runpy.run_module("semsearch", run_name="__main__")
            except SystemExit as exit_:
                if exit_.code:
                    raise

        build()  # not traced: imports and one-time preparations belong to no path
        _profile(trace, build, "a document, from `semsearch build` to the published index")
        from semsearch import SearchEngine
        from semsearch.server.app import create_app

        threading.setprofile(trace)  # for the threads that start here
        app = create_app({"zoo": SearchEngine.open(index, threads=1)})
        threading.setprofile(None)
        client = app.test_client()
        client.get("/api/search?query=an+animal")

        def query() -> None:
            assert client.get("/api/search?query=honey&k=3").status_code == 200

        def label() -> None:
            labels = [
                {"query": f"about the {document['id']}", "document": document["id"]} for document in DOCUMENTS[:4]
            ]
            assert client.post("/api/labels", json={"domain": "team", "labels": labels}).status_code == 201
            assert client.post("/api/domains/team/adapt").status_code == 200

        _profile(trace, query, "a query, from the request to its response")
        _profile(trace, label, "labels, from the request to the adapted state")
        app.extensions["semsearch"].close()
    sys.stdout.flush()
    os._exit(0)


def _profile(trace: Trace, run: Callable[[], None], name: str) -> None:
    with trace.path(name):
        sys.setprofile(trace)
        try:
            run()
        finally:
            sys.setprofile(None)


if __name__ == "__main__":
    if os.environ.get("SEMSEARCH_TRACED"):
        trace_paths()
    checkout = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1]).resolve()
    environment = {**os.environ, "PYTHONPATH": str(checkout), "SEMSEARCH_TRACED": "1", "HF_HUB_OFFLINE": "1"}
    sys.exit(subprocess.run([sys.executable, __file__], env=environment, check=False).returncode)
