"""Completes an index in the background while a server answers from its first part."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from rich.console import Console

STOP_SECONDS = 2.0
"""Time that an interrupted command has to end by itself. An index is as it was before it, whatever happens."""


@contextmanager
def completing(index: Path, recipe: Path, options: Sequence[str], console: Console) -> Iterator[None]:
    """Add the documents of a recipe that the index does not have, then compact it, in other processes.

    options: further options of both commands. The server finds the changes on disk. When the context ends, so does
    the work; the next update goes on with what was encoded.
    """
    stopping = Event()
    running: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> bool:
        command = [sys.executable, "-m", "semsearch", *arguments, *options]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            running[:] = [process]
            if stopping.is_set():
                process.terminate()
            _, errors = process.communicate()
        if process.returncode and not stopping.is_set():
            console.print(f"the rest could not be indexed: {errors.strip()[-500:]}", markup=False, soft_wrap=True)
        return process.returncode == 0

    def complete() -> None:
        if run("update", str(index), str(recipe)) and run("compact", str(index)):
            console.print("all documents are indexed", soft_wrap=True)

    worker = Thread(target=complete, name="completing", daemon=True)
    worker.start()
    try:
        yield
    finally:
        stopping.set()
        for process in running:
            process.terminate()
        worker.join(STOP_SECONDS)
        for process in running:
            process.kill()
