"""The command that installs an optional library."""

from __future__ import annotations

import shlex
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from semsearch.system.extras import install_command

REQUIRES = [
    "numpy>=2",
    'pypdf>=7; extra == "pdf"',
    "a>=1; extra == 'two'",
    "b<3; python_version > '3' and extra == 'two'",
]


@pytest.mark.parametrize(
    ("extra", "libraries"),
    [("pdf", ["pypdf>=7"]), ("two", ["a>=1", "b<3"]), ("unknown", ["package"]), ("pd", ["package"])],
)
def test_the_libraries_of_an_extra_are_installed_for_this_interpreter(extra: str, libraries: list[str]) -> None:
    words = shlex.split(install_command("package", extra, requirements=lambda _name: REQUIRES))
    assert words[1:] == ["-m", "pip", "install", *libraries]
    assert Path(words[0]).absolute() == Path(sys.executable)


def test_a_package_that_is_not_installed_names_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_name: str) -> list[str]:
        raise PackageNotFoundError

    monkeypatch.setattr(sys, "executable", str(Path.cwd() / ".venv" / "bin" / "python"))
    command = install_command("matplotlib", "evaluate", requirements=absent)
    assert command == ".venv/bin/python -m pip install matplotlib"
