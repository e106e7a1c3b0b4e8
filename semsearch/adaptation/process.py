"""Guard and inner loops in a process of their own, so that searches do not wait for this one's interpreter lock.

A thread would do, but for that lock: measured on two cores, searches went on at three quarters of their rate beside an
adaptation in a thread. Knows nothing of domains or logs.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import fields
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from semsearch.basis import SpectralBasis
from semsearch.learning.guard import Verdict
from semsearch.learning.support import Support
from semsearch.learning.weights import Weights
from semsearch.state import DomainState

NICENESS = 10
"""How much everything else goes before adapting where both want a core."""

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_weights: Weights | None = None
"""In the process that adapts: what it starts from."""


class AdaptingProcess:
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
        parts = {field.name: getattr(support, field.name) for field in fields(support)}
        arrays = {name: None if part is None else part.numpy() for name, part in parts.items()}
        try:
            return self._pool.submit(_adapt, basis, arrays, parent, learners).result()
        except BrokenProcessPool:
            self._pool = self._started()
            return self._pool.submit(_adapt, basis, arrays, parent, learners).result()

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


def _adapt(
    basis: SpectralBasis,
    arrays: Mapping[str, npt.NDArray[np.generic] | None],
    parent: DomainState | None,
    learners: Sequence[str] | None,
) -> Verdict:
    assert _weights is not None
    parts = {name: None if part is None else torch.from_numpy(part) for name, part in arrays.items()}
    return _weights.adapt(basis, Support(**parts), parent, learners)  # type: ignore[arg-type]
