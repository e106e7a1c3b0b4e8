"""What Ctrl-C does while libraries are loaded. Does not depend on other libraries, so that it is imported at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let Ctrl-C end the process at once, as SIGTERM does, while a program starts: nothing needs to be cleaned up.

    A library that is interrupted while it is imported would print the interruption, or ignore it.
    """
    previous = signal.getsignal(signal.SIGINT)
    if previous is not signal.SIG_IGN:  # of a program in the background of a shell, it stays ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
