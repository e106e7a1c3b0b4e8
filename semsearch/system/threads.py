"""Limits on threads and memory arenas for all numerical libraries, in one place."""

from __future__ import annotations

import ctypes
import os
import sys

from threadpoolctl import threadpool_limits

_M_ARENA_MAX = -8
"""The parameter number of `mallopt` for the maximum number of arenas (glibc, malloc.h)."""


def available_cores() -> int:
    """Return the number of CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def limit_threads(threads: int) -> None:
    """Limit numpy's BLAS, OpenMP and torch to this number of threads for each call, and tokenizers to one.

    FAISS has its own setting per calling thread and ONNX Runtime per session; both are set where they are used.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threadpool_limits(threads)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)


def limit_arenas(arenas: int) -> bool:
    """Limit the number of memory arenas that all threads share. Call it before threads start.

    By default glibc creates up to eight arenas per core, and memory that is free in one is not available to the others.
    Returns False if the C library has no such setting.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, arenas))
    except (OSError, AttributeError):
        return False


def trim_arenas() -> bool:
    """Return the memory that is free in the arenas to the system. Returns False if there was none, or no way to."""
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (OSError, AttributeError):
        return False
