"""Run the guard and the inner loops in a separate process, so that they do not hold the server's interpreter lock.

Measured on two cores, an adaptation in a thread of the server lowered the rate of searches to three quarters. Does not
depend on domains or label logs.
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
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.state import DomainState
from semsearch.adapters.weights import Weights

# the server starts this process before it imports torch, and the process lowers its priority before it does
if TYPE_CHECKING:
    from semsearch.adapters.support import Support
    from semsearch.adapters.verdict import Verdict

NICENESS = 10
"""Added to the process's niceness: searches take precedence on a busy core."""

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_weights: Weights | None = None
"""Set in the adaptation process only."""


class AdaptationProcess:
    """Runs `Weights.adapt` in another process: one adaptation at a time, on one core."""

    def __init__(self, weights: Path) -> None:
        """Start the process. It is ready after some seconds; calls wait until then.

        weights: the meta-trained weights file.
        """
        self._path = weights
        self._closed = False
        self._process: BaseProcess | None = None
        self._pool = self._start()

    def __call__(
        self,
        basis: SpectralBasis,
        support: Support,
        parent: DomainState | None = None,
        learners: Sequence[str] | None = None,
    ) -> Verdict:
        """As `Weights.adapt`. If the process has died, it is started again, once per call.

        Raises BrokenProcessPool if it dies again, and that or CancelledError if `close` has ended it.
        """
        # as arrays: torch would share a tensor's memory with the other process instead of copying it
        tensors = {field.name: getattr(support, field.name) for field in fields(support)}
        arrays = {name: tensor.numpy() for name, tensor in tensors.items() if tensor is not None}
        try:
            return self._pool.submit(_adapt, basis, arrays, parent, learners).result()
        except BrokenProcessPool:
            if self._closed:
                raise
            self._pool = self._start()
            return self._pool.submit(_adapt, basis, arrays, parent, learners).result()

    def close(self) -> None:
        """End the process, also in the midst of an adaptation: its domain stays as it is."""
        self._closed = True
        if self._process is not None:
            self._process.kill()
        self._pool.shutdown(cancel_futures=True)

    def _start(self) -> ProcessPoolExecutor:
        # spawned, not forked: FAISS and torch may hang in a fork
        pool = ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context("spawn"), initializer=_initialize, initargs=(self._path,)
        )
        # libraries read these on import, before the initializer runs; a second thread would only spin
        before = {name: os.environ.get(name) for name in THREADS}
        os.environ.update(dict.fromkeys(THREADS, "1"))
        children = multiprocessing.active_children()
        try:
            pool.submit(os.getpid)  # the pool starts its process with the first task
            started = [child for child in multiprocessing.active_children() if child not in children]
            self._process = started[0] if started else None
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        return pool


def _initialize(weights: Path) -> None:
    global _weights  # noqa: PLW0603 - this process serves one pool only
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    # Ctrl-C reaches every process of a terminal; the parent decides when this one ends
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):
        os.nice(NICENESS)
    import torch

    torch.set_num_threads(1)
    _weights = Weights.open(weights)


def _exit_with_parent() -> None:
    """Exit when the parent has gone, also if it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _adapt(
    basis: SpectralBasis,
    support: Mapping[str, npt.NDArray[np.generic]],
    parent: DomainState | None,
    learners: Sequence[str] | None,
) -> Verdict:
    import torch

    from semsearch.adapters.support import Support

    assert _weights is not None
    tensors = {name: torch.from_numpy(array) for name, array in support.items()}
    return _weights.adapt(basis, Support(**tensors), parent, learners)
