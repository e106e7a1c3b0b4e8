"""Limits on threads and memory arenas."""

from __future__ import annotations

import platform
import subprocess
import sys

from semsearch.system.threads import limit_arenas

MANY_THREADS = """
import ctypes, threading
from semsearch.system.threads import limit_arenas
{limit}
all_started = threading.Barrier(9)
def hold():
    memory = bytearray(100_000)
    all_started.wait(30)
for _ in range(8):
    threading.Thread(target=hold).start()
ctypes.CDLL(None).malloc_stats()
all_started.wait(30)
"""


def arenas(limit: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", MANY_THREADS.format(limit=limit)], capture_output=True, text=True, check=True
    )
    return done.stderr.count("Arena ")


def test_many_threads_share_few_arenas() -> None:
    if platform.libc_ver()[0] != "glibc":  # other C libraries have no such setting
        assert not limit_arenas(2)
        return
    assert arenas("") > 2
    assert arenas("assert limit_arenas(2)") <= 2
