"""The memory that this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def machine_memory(root: Path = Path("/")) -> int:
    """Return the bytes of memory of this machine, or the lowest limit of this process's control groups if lower.

    A container, a service and a batch job have such a limit. root: where `proc` and `sys` are.
    """
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_limits(root)])


def _limits(root: Path) -> Iterator[int]:
    """Limits of the control groups that this process is in, and of their parents; a group without a limit has none."""
    for path in _limit_files(root):
        try:
            yield int(path.read_text())
        except (OSError, ValueError):  # no such group in this mount, or one whose limit is `max`
            continue


def _limit_files(root: Path) -> Iterator[Path]:
    mounts = root / "sys/fs/cgroup"
    # in a container, the groups may be named as the host names them, and be mounted without their parents
    yield mounts / "memory.max"
    yield mounts / "memory/memory.limit_in_bytes"
    try:
        lines = os.fsdecode((root / "proc/self/cgroup").read_bytes()).splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        # hierarchy:controllers:group, and no controllers in version 2
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        inside = PurePosixPath(group.lstrip("/"))
        for parent in (inside, *inside.parents):
            if not controllers:
                yield mounts / parent / "memory.max"
                # where version 1 is mounted too
                yield mounts / "unified" / parent / "memory.max"
            elif "memory" in controllers.split(","):
                yield mounts / "memory" / parent / "memory.limit_in_bytes"
