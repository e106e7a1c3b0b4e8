"""Reads the documentation of the running Python: public modules, classes, functions and methods of its library.

Each is read once, by the name under which it is documented. Deprecated ones are left out, and so are those of which
there is nothing to say: undocumented exceptions, and what C extensions define without a text.

Run as a program it prints one JSON record per line. It imports what it documents, so it only runs in a separate
process, without a terminal, a display or a browser (see `records`). It uses only the standard library.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from types import DynamicClassAttribute, ModuleType
from typing import Any

EXCLUDED = frozenset({
    # importing them has effects: they print a poem, open a browser
    "this", "antigravity",
    # windows and games, not a library
    "idlelib", "turtledemo", "tkinter", "turtle",
    # the library's own tests and a converter of Python 2
    "test", "lib2to3",
    # public under other names: os, os.path, xml.parsers.expat, dis
    "posix", "nt", "posixpath", "ntpath", "genericpath", "nturl2path", "pyexpat", "opcode",
    "pydoc_data",
    "__main__",
})  # fmt: skip

SUBMODULES = frozenset({
    "collections.abc", "concurrent.futures", "ctypes.util", "curses.ascii", "curses.panel", "curses.textpad",
    "dbm.dumb", "dbm.gnu", "dbm.ndbm", "email.charset", "email.contentmanager", "email.encoders", "email.errors",
    "email.generator", "email.header", "email.headerregistry", "email.iterators", "email.message",
    "email.mime.application", "email.mime.audio", "email.mime.base", "email.mime.image", "email.mime.message",
    "email.mime.multipart", "email.mime.nonmultipart", "email.mime.text", "email.parser", "email.policy",
    "email.utils", "encodings.idna", "html.entities", "html.parser", "http.client", "http.cookiejar", "http.cookies",
    "http.server", "importlib.abc", "importlib.machinery", "importlib.metadata", "importlib.resources",
    "importlib.resources.abc", "importlib.util", "json.tool", "logging.config", "logging.handlers",
    "multiprocessing.connection", "multiprocessing.dummy", "multiprocessing.managers", "multiprocessing.pool",
    "multiprocessing.shared_memory", "multiprocessing.sharedctypes", "os.path", "unittest.mock", "urllib.error",
    "urllib.parse", "urllib.request", "urllib.response", "urllib.robotparser", "wsgiref.handlers", "wsgiref.headers",
    "wsgiref.simple_server", "wsgiref.types", "wsgiref.util", "wsgiref.validate", "xml.dom", "xml.dom.minidom",
    "xml.dom.pulldom", "xml.etree.ElementTree", "xml.parsers.expat", "xml.sax", "xml.sax.handler", "xml.sax.saxutils",
    "xml.sax.xmlreader", "xmlrpc.client", "xmlrpc.server",
})  # fmt: skip
"""The submodules with a page of their own in the library's reference. What others define is public in a parent."""

COMMON = (
    "builtins", "os", "os.path", "pathlib", "json", "csv", "datetime", "re", "collections", "itertools", "functools",
    "random", "math", "time", "string", "shutil", "subprocess", "sys", "logging", "argparse", "threading", "asyncio",
    "urllib.parse", "urllib.request", "zipfile", "tempfile", "copy", "pickle", "sqlite3", "dataclasses", "enum",
    "typing", "contextlib", "statistics", "decimal", "glob", "io", "hashlib", "base64", "uuid", "textwrap", "pprint",
    "traceback", "multiprocessing", "concurrent.futures", "queue", "heapq", "bisect", "operator", "http.server",
)  # fmt: skip
"""The modules that most people ask about, which are read first."""

_LEGAL = re.compile(r"copyright|licen[cs]e|\.py$", re.IGNORECASE | re.MULTILINE)
_DEPRECATED_MODULE = re.compile(r"'?(\w+)'?(?: module| package)? is deprecated")
DEPRECATED_WITHIN = 200
"""A member is deprecated if its documentation says so within this many characters."""
MAX_ALIASES = 3
"""Names under which a method is inherited that its text lists."""
MAX_SUMMARY_CHARS = 120
"""Of the first paragraph of a module's documentation, for the texts of its members."""
MAX_NAMES = 30
"""Names that the text of an undocumented module or class lists."""
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
        for entry in _entries(_modules()):
            text = _text(entry)
            # unittest.main is a class, and also a module of the same name
            if text and entry.title not in titles:
                titles.add(entry.title)
                record = {
                    "id": entry.title,
                    "title": entry.title,
                    "text": text,
                    "source": f"Python {sys.version_info.major}.{sys.version_info.minor}",
                    "module": entry.module,
                    "kind": entry.kind,
                }
                out.write(json.dumps(record, ensure_ascii=False) + "\n")


@dataclass(slots=True)
class _Entry:
    """A module, class, function, method or property, under the name that it is documented by."""

    title: str
    member: Any
    module: str
    kind: str
    documentation: str
    """Its docstring; empty if it has none."""
    summary: str
    """The first paragraph of its module's documentation."""
    aliases: list[str] = field(default_factory=list)
    """Other names of a method: of public classes that inherit it."""


def _modules() -> dict[str, ModuleType]:
    """Documented modules by qualified name: common ones, then parents before children, without deprecated ones."""
    names = {name for name in sys.stdlib_module_names if not name.startswith("_")} | SUBMODULES
    names = {name for name in names if name.partition(".")[0] not in EXCLUDED}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        modules = {name: _import(name) for name in sorted(names, key=_place)}
    deprecated = {
        match[1] for warning in caught if (match := _DEPRECATED_MODULE.search(str(warning.message))) is not None
    }
    return {
        name: module
        for name, module in modules.items()
        if module is not None and name.partition(".")[0] not in deprecated
    }


def _place(name: str) -> tuple[int, int, str]:
    return COMMON.index(name) if name in COMMON else len(COMMON), name.count("."), name


def _import(name: str) -> ModuleType | None:
    """The module, or None if it cannot be imported on this platform."""
    try:
        return importlib.import_module(name)
    except BaseException:  # noqa: BLE001 - a module of another platform may fail in any way, even by exiting
        return None


def _entries(modules: dict[str, ModuleType]) -> list[_Entry]:
    """Every public module, class, function, method and property once; a class is followed by its methods."""
    # by id, since not every object has a hash; an entry keeps its object, so that no id is used again
    entries: dict[int, _Entry] = {}
    for name, module in modules.items():
        documentation = _documentation(module) or _comment(module)
        # that of built-ins is of no use: what they have in common is no subject
        summary = "" if module is builtins else " ".join(documentation.partition("\n\n")[0].split())[:MAX_SUMMARY_CHARS]
        entries.setdefault(id(module), _Entry(name, module, name, "module", documentation, summary))
        for public, member in _public_members(name, module):
            # built-ins are named without their module
            title = public if module is builtins else f"{name}.{public}"
            kind = "class" if inspect.isclass(member) else "function"
            entry = _Entry(title, member, name, kind, _documentation(member), summary)
            entries.setdefault(id(_underlying(member)), entry)

    classes = {key: entry for key, entry in entries.items() if entry.kind == "class"}
    for entry in classes.values():
        entry.documentation = entry.documentation or _inherited_documentation(entry.member, classes)
        for base, name, member in _methods(entry.member):
            # what a private base defines is documented as the class's own
            if base is not entry.member and id(base) in classes:
                continue
            kind = "method" if inspect.isroutine(_underlying(member)) else "property"
            method = _Entry(f"{entry.title}.{name}", member, entry.module, kind, _documentation(member), entry.summary)
            known = entries.setdefault(id(_underlying(member)), method)
            if known is not method:
                known.aliases.append(method.title)
    for entry in classes.values():
        for base, name, member in _methods(entry.member):
            defined = entries.get(id(_underlying(member)))
            is_inherited = base is not entry.member and id(base) in classes
            if is_inherited and defined is not None and defined.module == entry.module:
                defined.aliases.append(f"{entry.title}.{name}")
    rank = {module: number for number, module in enumerate(modules)}
    return sorted(entries.values(), key=lambda entry: (rank[entry.module], entry.kind != "module", entry.title))


def _public_members(name: str, module: ModuleType) -> list[tuple[str, Any]]:
    """Name and value of the public classes and functions of a module; under other names than their own last."""
    members = [(public, getattr(module, public, None)) for public in _public_names(module)]
    found = [
        (public, member)
        for public, member in members
        if (inspect.isclass(member) or inspect.isroutine(member)) and _belongs(member, name, module)
    ]
    # EnvironmentError is another name of OSError
    return sorted(found, key=lambda named: getattr(named[1], "__name__", named[0]) != named[0])


def _public_names(module: ModuleType) -> list[str]:
    listed = getattr(module, "__all__", None)
    if not listed:
        return sorted(name for name in vars(module) if not name.startswith("_"))
    # asyncio.TaskGroup is public in Python 3.11, and only the list of asyncio.taskgroups names it
    prefix = f"{module.__name__}."
    parts = (part for part in vars(module).values() if inspect.ismodule(part) and part.__name__.startswith(prefix))
    return sorted(
        {*listed, *(name for part in parts for name in getattr(part, "__all__", ()) if hasattr(module, name))}
    )


def _belongs(member: Any, name: str, module: ModuleType) -> bool:
    """Whether a member belongs to a module: it is listed in `__all__`, or defined there or in its C extension."""
    defined_in = getattr(member, "__module__", None)
    return module is builtins or hasattr(module, "__all__") or defined_in in {None, name, f"_{name}", module.__name__}


def _underlying(member: Any) -> Any:
    """The function of a bound method, static method or class method; any other member itself."""
    return getattr(member, "__func__", member)


def _methods(kind: type) -> Iterator[tuple[type, str, Any]]:
    """Yield the public methods and properties of a class: the class that defines each, its name and value."""
    names: set[str] = set()
    for base in kind.__mro__:
        for name, member in sorted(vars(base).items()):
            if not name.startswith("_") and name not in names:
                names.add(name)
                if _is_method(member):
                    yield base, name, member


def _is_method(member: Any) -> bool:
    if inspect.isroutine(_underlying(member)):
        return True
    return isinstance(member, property | cached_property | DynamicClassAttribute) or inspect.isgetsetdescriptor(member)


def _documentation(member: Any) -> str:
    """The docstring of a member; an inherited one documents the parent and is none. Empty if there is none."""
    doc = vars(member).get("__doc__") if inspect.isclass(member) else getattr(member, "__doc__", None)
    return inspect.cleandoc(doc).strip() if isinstance(doc, str) else ""


def _comment(module: ModuleType) -> str:
    """The comment at the beginning of a module, without what it says about its file; empty if there is none."""
    blocks = (inspect.getcomments(module) or "").split("\n#\n")
    said = [" ".join(block.replace("#", " ").split()) for block in blocks if not _LEGAL.search(block)]
    return "\n\n".join(block for block in said if block)


def _inherited_documentation(kind: type, classes: dict[int, _Entry]) -> str:
    """The docstring of a class's first private base that has one; empty if there is none."""
    private = (base for base in kind.__mro__[1:] if id(base) not in classes)
    return next((doc for base in private if (doc := _documentation(base))), "")


def _text(entry: _Entry) -> str:
    """The text of an entry; empty for one that is deprecated or has nothing to say."""
    member, doc = entry.member, entry.documentation
    if "deprecated" in doc[:DEPRECATED_WITHIN].lower() or (inspect.isclass(member) and issubclass(member, ast.AST)):
        return ""
    doc = doc or _described(entry)
    if not doc:
        return ""
    signature = "" if entry.kind in {"module", "property"} else _signature(entry.title, member)
    if signature and doc.startswith(signature):
        signature = ""
    aliases = f"Also {', '.join(entry.aliases[:MAX_ALIASES])}." if entry.aliases else ""
    # a member's own words rarely say what its module is for
    subject = f"In {entry.module}: {entry.summary}" if entry.kind != "module" and entry.summary else ""
    return "\n\n".join(part for part in (signature, doc, aliases, subject) if part)


def _described(entry: _Entry) -> str:
    """What can be said about a member without a docstring; empty if it is too little."""
    member = entry.member
    if entry.kind == "module":
        names = sorted(name for name, _ in _public_members(entry.module, member))
        return f"Defines {', '.join(names[:MAX_NAMES])}." if names else ""
    if entry.kind == "class" and not issubclass(member, BaseException):
        methods = [name for name, value in vars(member).items() if inspect.isfunction(value)]
        public = ", ".join([name for name in methods if not name.startswith("_")][:MAX_NAMES])
        if methods:
            return f"A class of {entry.module}" + (f", with {public}." if public else ".")
    if entry.kind == "function" and inspect.isfunction(_underlying(member)):
        return f"A function of {entry.module}."
    return ""


def _signature(title: str, member: Any) -> str:
    try:
        signature = inspect.signature(member)
    except Exception:  # noqa: BLE001 - a default value may be of a name that exists on other platforms only
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
