"""The documentation of the Python that runs: public modules, classes and functions of its standard library.

Run as a program it prints one JSON record a line. It imports what it documents, so it is only ever run in a process
of its own, without a terminal, a display or a browser (see `records`); it uses the standard library alone.
"""

from __future__ import annotations

import builtins
import importlib
import inspect
import io
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

LEFT_OUT = frozenset({
    # they do something when imported: print a poem, open a browser
    "this", "antigravity",
    # windows and games, not a library
    "idlelib", "turtledemo", "tkinter", "turtle",
    # the library's own tests and a converter of Python 2
    "test", "lib2to3",
    # public as os.path
    "posixpath", "ntpath", "genericpath", "nturl2path",
    "__main__",
})  # fmt: skip

LONGEST_DEFAULT = 40
"""Characters of a parameter's default value that are shown."""


def records() -> Iterator[dict[str, str]]:
    """What the program prints, as it prints it, read from a process of its own.

    Yields dictionaries with id, title, text, source, module and kind. Raises RuntimeError if the process fails.
    """
    with (
        tempfile.TemporaryDirectory(prefix="semsearch-") as elsewhere,
        tempfile.TemporaryFile("w+", encoding="utf-8") as complaints,
        subprocess.Popen(
            [sys.executable, "-I", "-B", __file__],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            cwd=elsewhere,
            # nothing of this machine's to be found, no display or browser to be opened
            env={"HOME": elsewhere, "PATH": os.defpath, "LANG": "C.UTF-8"},
            encoding="utf-8",
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield json.loads(line)
        except GeneratorExit:
            process.kill()
            raise
        if process.wait() != 0:
            complaints.seek(0)
            raise RuntimeError(f"reading Python's documentation failed: {complaints.read()[-500:].strip()}")


def main() -> None:
    """Print the records; whatever the imported modules print goes nowhere."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    warnings.simplefilter("ignore")
    with out:
        titles: set[str] = set()
        for record in _documented(_modules()):
            # unittest.main is a class and, hidden behind it, a module
            if record["title"] not in titles:
                titles.add(record["title"])
                out.write(json.dumps(record, ensure_ascii=False) + "\n")


def _modules() -> dict[str, ModuleType]:
    """Public modules by qualified name, the shallow ones first: `asyncio` before `asyncio.tasks`."""
    names: list[str] = []
    for name in sorted(sys.stdlib_module_names - LEFT_OUT):
        if name.startswith("_"):
            continue
        module = _imported(name)
        if module is None:
            continue
        names.append(name)
        if hasattr(module, "__path__"):
            names.extend(found.name for found in _inside(module))
    names.append("os.path")
    modules = {name: _imported(name) for name in sorted(names, key=lambda name: (name.count("."), name))}
    return {name: module for name, module in modules.items() if module is not None}


def _inside(package: ModuleType) -> Iterator[pkgutil.ModuleInfo]:
    """The public modules of a package, found without importing the private ones."""
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        last = found.name.rpartition(".")[2]
        if last.startswith("_") or last in {"test", "tests"}:
            continue
        yield found
        if found.ispkg and (inner := _imported(found.name)) is not None:
            yield from _inside(inner)


def _imported(name: str) -> ModuleType | None:
    """The module, or None where it does not exist on this platform."""
    try:
        return importlib.import_module(name)
    except BaseException:  # noqa: BLE001 - a module of another platform may fail in any way, even by exiting
        return None


def _documented(modules: dict[str, ModuleType]) -> Iterator[dict[str, str]]:
    # by identity, since not everything has a hash; the things are kept, or their ids would be given out again
    seen: dict[int, object] = {}
    for name, module in modules.items():
        if id(module) not in seen:
            seen[id(module)] = module
            yield from _record(name, module, module=name, kind="module")
        for public in _public_names(module):
            member = getattr(module, public, None)
            if not (inspect.isclass(member) or inspect.isroutine(member)) or id(member) in seen:
                continue
            if not _belongs(member, name, module):
                continue
            seen[id(member)] = member
            # what is always at hand is called by its own name
            title = public if module is builtins else f"{name}.{public}"
            yield from _record(title, member, module=name, kind="class" if inspect.isclass(member) else "function")
            if module is builtins and inspect.isclass(member):
                yield from _methods(title, member, module=name)


def _public_names(module: ModuleType) -> list[str]:
    listed = getattr(module, "__all__", None)
    return sorted(set(listed)) if listed else sorted(name for name in vars(module) if not name.startswith("_"))


def _belongs(member: Any, name: str, module: ModuleType) -> bool:
    """Whether a member is the module's own: listed by it, or made in it or in its C half."""
    made_in = getattr(member, "__module__", None)
    return module is builtins or hasattr(module, "__all__") or made_in in {None, name, f"_{name}", module.__name__}


def _methods(title: str, kind: type, *, module: str) -> Iterator[dict[str, str]]:
    """The public methods of a built-in type: much of what one looks up about the language itself."""
    if not issubclass(kind, BaseException):
        for name, method in sorted(vars(kind).items()):
            if not name.startswith("_") and inspect.isroutine(method):
                yield from _record(f"{title}.{name}", method, module=module, kind="method")


def _record(title: str, thing: Any, *, module: str, kind: str) -> Iterator[dict[str, str]]:
    """The record of one documented thing; nothing for an undocumented one."""
    # vars and not getattr for classes: what a class inherits documents its parent
    doc = vars(thing).get("__doc__") if inspect.isclass(thing) else getattr(thing, "__doc__", None)
    if not isinstance(doc, str) or not doc.strip():
        return
    doc = inspect.cleandoc(doc).strip()
    signature = "" if kind == "module" else _signature(title, thing)
    if signature and doc.startswith(signature):
        signature = ""
    yield {
        "id": title,
        "title": title,
        "text": f"{signature}\n\n{doc}".strip(),
        "source": f"Python {sys.version_info.major}.{sys.version_info.minor}",
        "module": module,
        "kind": kind,
    }


def _signature(title: str, thing: Any) -> str:
    try:
        found = inspect.signature(thing)
    except (ValueError, TypeError):
        return ""
    shown = [
        parameter if parameter.default is parameter.empty else parameter.replace(default=_Default(parameter.default))
        for parameter in found.parameters.values()
    ]
    return title.rpartition(".")[2] + str(found.replace(parameters=shown))


class _Default:
    """A default value as it would be written: a plain value or a name; what else there is may hold the machine's own
    environment, paths or addresses, and is an ellipsis.
    """

    def __init__(self, value: object) -> None:
        plain = value is None or isinstance(value, bool | int | float | complex | str | bytes)
        plain = plain or (isinstance(value, tuple) and all(isinstance(item, int | float) for item in value))
        named = getattr(value, "__qualname__", "") if inspect.isclass(value) or inspect.isfunction(value) else ""
        written = repr(value) if plain else named
        self._written = written if 0 < len(written) <= LONGEST_DEFAULT and "<" not in written else "..."

    def __repr__(self) -> str:
        return self._written


if __name__ == "__main__":
    sys.stderr = sys.stderr or io.StringIO()
    main()
