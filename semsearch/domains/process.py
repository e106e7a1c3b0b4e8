"""Guard and inner loops in a process of their own, so that searches do not wait for this one's interpreter lock.

A thread would do, but for that lock: measured on two cores, searches went on at three quarters of their rate beside an
adaptation in a thread. Does not depend on domains or logs.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import fields
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.guard import Verdict
from semsearch.adapters.state import DomainState
from semsearch.adapters.support import Support
from semsearch.adapters.weights import Weights

NICENESS = 10
"""How much everything else goes before adapting where both want a core."""

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_weights: Weights | None = None
"""In the process that adapts: what it starts from."""


class AdaptationProcess:
    """What `Weights.adapt` does, elsewhere: one adaptation at a time, on one core."""

    def __init__(self, weights: Path) -> None:
        """Start the process, which takes some seconds to be ready; meanwhile calls wait."""
        self._path = weights
        self._pool = self._started()

    def __call__(
        self,
        basis: SpectralBasis,
        support: Support,
        parent: DomainState | None = None,
        learners: Sequence[str] | None = None,
    ) -> Verdict:
        """As `Weights.adapt`. A process that has died is started anew, once for each call."""
        # by a file: a pipe would keep this process from ever ending if the other one died while megabytes go through
        # (a fault of Python before 3.11.5)
        with NamedTemporaryFile(suffix=".npz") as file:
            parts = {**_packed("basis", basis), **_packed("support", support), **_packed("parent", parent)}
            np.savez(file, **parts)  # type: ignore[arg-type]
            file.flush()
            try:
                return self._pool.submit(_adapt, file.name, learners).result()
            except BrokenProcessPool:
                self._pool = self._started()
                return self._pool.submit(_adapt, file.name, learners).result()

    def close(self) -> None:
        """End the process after what it is doing."""
        self._pool.shutdown(cancel_futures=True)

    def _started(self) -> ProcessPoolExecutor:
        # spawned, not forked: FAISS and torch may hang in a fork
        pool = ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context("spawn"), initializer=_begin, initargs=(self._path,)
        )
        # libraries read these when they are loaded, before the initializer runs: a second thread would only spin
        before = {name: os.environ.get(name) for name in THREADS}
        os.environ.update(dict.fromkeys(THREADS, "1"))
        try:
            pool.submit(os.getpid)  # starts the process
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        return pool


def _begin(weights: Path) -> None:
    global _weights  # noqa: PLW0603 - the state of a process that does nothing else
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    # Ctrl-C reaches every process of a terminal; this one ends when its parent has it end
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    with suppress(OSError):
        os.nice(NICENESS)
    _weights = Weights.open(weights)


def _leave_with_parent() -> None:
    """A server that was killed leaves nobody behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _packed(name: str, value: SpectralBasis | Support | DomainState | None) -> dict[str, npt.NDArray[np.generic]]:
    """What a value is made of, by name; nothing of None."""
    if value is None:
        return {}
    parts = {field.name: getattr(value, field.name) for field in fields(value)}
    return {f"{name}.{part}": np.asarray(content) for part, content in parts.items() if content is not None}


def _adapt(path: str, learners: Sequence[str] | None) -> Verdict:
    assert _weights is not None
    given: dict[str, dict[str, Any]] = {"basis": {}, "support": {}, "parent": {}}
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            value, _, part = name.partition(".")
            given[value][part] = arrays[name]
    support = Support(**{part: torch.from_numpy(content) for part, content in given["support"].items()})
    parent = given["parent"]
    if "lexical_weight" in parent:
        parent["lexical_weight"] = float(parent["lexical_weight"])
    return _weights.adapt(SpectralBasis(**given["basis"]), support, DomainState(**parent) if parent else None, learners)
