"""How many threads compute at once, and from how many pools of memory, for every library in one place; knows nothing
of what they compute."""

from __future__ import annotations

import ctypes
import os
import sys

from threadpoolctl import threadpool_limits

_M_ARENA_MAX = -8
"""The number by which glibc's `mallopt` knows the bound on its pools (malloc.h)."""


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def limit_threads(threads: int) -> None:
    """Have numpy's BLAS, OpenMP and torch use so many threads in every call from now on, and tokenizers one.

    FAISS counts for each calling thread apart and ONNX Runtime for each session: both are told where they are used.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threadpool_limits(threads)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)


def limit_arenas(arenas: int) -> bool:
    """Have all threads take memory from so many pools, before the threads start; whether this C library can.

    glibc gives a hundred threads sixteen pools on two cores, and what is free in one is of no use to the others.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, arenas))
    except (OSError, AttributeError):
        return False
