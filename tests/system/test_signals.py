"""Ctrl-C while a program starts ends it at once and prints nothing."""

from __future__ import annotations

import signal
import subprocess
import sys

from semsearch.system.signals import ended_by_signals


def test_ctrl_c_ends_the_process_while_it_starts_and_raises_an_error_later() -> None:
    # tests that run in the background of a shell start with an ignored Ctrl-C
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with ended_by_signals():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ended_by_signals():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_the_command_line_is_imported_prints_nothing() -> None:
    code = (
        "import builtins, os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "original = builtins.__import__\n"
        "def interrupted(name, *rest):\n"
        "    if name == 'numpy': os.kill(os.getpid(), signal.SIGINT)\n"
        "    return original(name, *rest)\n"
        "builtins.__import__ = interrupted\n"
        "from semsearch.__main__ import main; sys.argv = ['semsearch', '--version']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
