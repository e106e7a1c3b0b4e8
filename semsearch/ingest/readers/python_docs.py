"""Reads the documentation of the running Python: public modules, classes and functions of the standard library.

Run as a program it prints one JSON record per line. It imports what it documents, so it only runs in a separate
process, without a terminal, a display or a browser (see `records`). It uses only the standard library.
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

EXCLUDED = frozenset({
    # importing them has effects: they print a poem, open a browser
    "this", "antigravity",
    # windows and games, not a library
    "idlelib", "turtledemo", "tkinter", "turtle",
    # the library's own tests and a converter of Python 2
    "test", "lib2to3",
    # public as os.path
    "posixpath", "ntpath", "genericpath", "nturl2path",
    "__main__",
})  # fmt: skip

MAX_DEFAULT_CHARS = 40
"""A parameter's default value is shown up to this many characters."""


def records() -> Iterator[dict[str, str]]:
    """Yield the records that this module prints when it is run as a program, in a separate process.

    Each is a dictionary with id, title, text, source, module and kind. Raises RuntimeError if the process fails.
    """
    with (
        tempfile.TemporaryDirectory(prefix="semsearch-") as folder,
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
        subprocess.Popen(
            [sys.executable, "-I", "-B", __file__],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=folder,
            # hides this user's files, the display and the browser
            env={"HOME": folder, "PATH": os.defpath, "LANG": "C.UTF-8"},
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
            errors.seek(0)
            raise RuntimeError(f"reading Python's documentation failed: {errors.read()[-500:].strip()}")


def main() -> None:
    """Print the records; what the imported modules print is discarded."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    warnings.simplefilter("ignore")
    with out:
        titles: set[str] = set()
        for record in _documented(_modules()):
            # unittest.main is a class, and also a module of the same name
            if record["title"] not in titles:
                titles.add(record["title"])
                out.write(json.dumps(record, ensure_ascii=False) + "\n")


def _modules() -> dict[str, ModuleType]:
    """Public modules by qualified name, parents before children: `asyncio` before `asyncio.tasks`."""
    names: list[str] = []
    for name in sorted(sys.stdlib_module_names - EXCLUDED):
        if name.startswith("_"):
            continue
        module = _import(name)
        if module is None:
            continue
        names.append(name)
        if hasattr(module, "__path__"):
            names.extend(info.name for info in _submodules(module))
    names.append("os.path")
    modules = {name: _import(name) for name in sorted(names, key=lambda name: (name.count("."), name))}
    return {name: module for name, module in modules.items() if module is not None}


def _submodules(package: ModuleType) -> Iterator[pkgutil.ModuleInfo]:
    """The public modules of a package, found without importing the private ones."""
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        last = info.name.rpartition(".")[2]
        if last.startswith("_") or last in {"test", "tests"}:
            continue
        yield info
        if info.ispkg and (subpackage := _import(info.name)) is not None:
            yield from _submodules(subpackage)


def _import(name: str) -> ModuleType | None:
    """The module, or None if it cannot be imported on this platform."""
    try:
        return importlib.import_module(name)
    except BaseException:  # noqa: BLE001 - a module of another platform may fail in any way, even by exiting
        return None


def _documented(modules: dict[str, ModuleType]) -> Iterator[dict[str, str]]:
    # by id, since not every object has a hash; the objects are kept, so that no id is reused
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
            # built-ins are named without their module
            title = public if module is builtins else f"{name}.{public}"
            yield from _record(title, member, module=name, kind="class" if inspect.isclass(member) else "function")
            if module is builtins and inspect.isclass(member):
                yield from _methods(title, member, module=name)


def _public_names(module: ModuleType) -> list[str]:
    listed = getattr(module, "__all__", None)
    return sorted(set(listed)) if listed else sorted(name for name in vars(module) if not name.startswith("_"))


def _belongs(member: Any, name: str, module: ModuleType) -> bool:
    """Whether a member belongs to a module: it is listed in `__all__`, or defined there or in its C extension."""
    defined_in = getattr(member, "__module__", None)
    return module is builtins or hasattr(module, "__all__") or defined_in in {None, name, f"_{name}", module.__name__}


def _methods(title: str, kind: type, *, module: str) -> Iterator[dict[str, str]]:
    """The public methods of a built-in type."""
    if not issubclass(kind, BaseException):
        for name, method in sorted(vars(kind).items()):
            if not name.startswith("_") and inspect.isroutine(method):
                yield from _record(f"{title}.{name}", method, module=module, kind="method")


def _record(title: str, member: Any, *, module: str, kind: str) -> Iterator[dict[str, str]]:
    """The record of a documented member; none for an undocumented one."""
    # vars and not getattr for classes: an inherited docstring documents the parent
    doc = vars(member).get("__doc__") if inspect.isclass(member) else getattr(member, "__doc__", None)
    if not isinstance(doc, str) or not doc.strip():
        return
    doc = inspect.cleandoc(doc).strip()
    signature = "" if kind == "module" else _signature(title, member)
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


def _signature(title: str, member: Any) -> str:
    try:
        signature = inspect.signature(member)
    except (ValueError, TypeError):
        return ""
    parameters = [
        parameter if parameter.default is parameter.empty else parameter.replace(default=_Default(parameter.default))
        for parameter in signature.parameters.values()
    ]
    return title.rpartition(".")[2] + str(signature.replace(parameters=parameters))


class _Default:
    """A default value as source text: a literal or a name; any other value is an ellipsis.

    The repr of other values may contain this machine's environment, paths or addresses.
    """

    def __init__(self, value: object) -> None:
        literal = value is None or isinstance(value, bool | int | float | complex | str | bytes)
        literal = literal or (isinstance(value, tuple) and all(isinstance(item, int | float) for item in value))
        name = getattr(value, "__qualname__", "") if inspect.isclass(value) or inspect.isfunction(value) else ""
        source = repr(value) if literal else name
        self._source = source if 0 < len(source) <= MAX_DEFAULT_CHARS and "<" not in source else "..."

    def __repr__(self) -> str:
        return self._source


if __name__ == "__main__":
    sys.stderr = sys.stderr or io.StringIO()
    main()
