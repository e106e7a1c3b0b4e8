"""Names the command that installs an optional library, in a checkout and elsewhere."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path


def install_command(package: str, extra: str, *, requirements: Callable[[str], list[str] | None] = requires) -> str:
    """Return the command that installs the libraries of an extra for the interpreter that runs.

    It names the libraries and not `semsearch[extra]`, which pip would look for in a package index. package: named alone
    if the extra is unknown. requirements: returns the requirements of an installed package, each as in PEP 508.
    """
    libraries = []
    try:
        for requirement in requirements("semsearch") or []:
            library, _, marker = requirement.partition(";")
            if re.search(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""", marker):
                libraries.append(library.strip())
    except PackageNotFoundError:
        pass  # imported from a folder that was not installed
    return shlex.join([_interpreter(), "-m", "pip", "install", *(libraries or [package])])


def _interpreter() -> str:
    """The path of the interpreter that runs, relative to the working folder if it is in it."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
