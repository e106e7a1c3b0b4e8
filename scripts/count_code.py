"""Count the code of a checkout: its size, its public names, its import graph and its retired vocabulary.

    python scripts/count_code.py [CHECKOUT] [--json]

CHECKOUT is a folder with a package `semsearch`; by default the checkout of this script. All numbers are about the
Python files in `CHECKOUT/semsearch`, without tests and scripts, unless stated otherwise. What is counted:

modules               .py files, `__init__.py` included
classes               class statements at any depth
lines                 lines of text in those files, comments and blank lines included
exported names        names that `semsearch/__init__.py` exports: `__all__`, or if there is none, every name without a
                      leading underscore that the module binds or imports
public names          classes, functions, constants and variables that a module binds at its top level (also within
                      `if` and `try`), without a leading underscore, summed over all modules; imports do not count
functions             function statements at any depth, methods included
long functions        functions of more than 50 lines, from the `def` to the last statement, docstring included,
                      decorators not
nodes                 of the import graph: the packages and modules directly below `semsearch`, a package with all its
                      subpackages; `semsearch/__init__.py` is a node too
edges                 pairs of different nodes where a module of the first imports from the second. Imports at any depth
                      count, those in functions and under `if TYPE_CHECKING` included
layers                nodes on the longest path of that graph; the nodes of a cycle count as one layer
cycles                groups of nodes that import each other
module edges, module layers, module cycles
                      the same of the graph whose nodes are all modules
retired names         definitions with a name of the retired vocabulary (`tests/vocabulary.py` of this checkout)
retired phrases       phrases of that vocabulary in semsearch/, web/, README.md and docs/*.md of CHECKOUT
retired locals        assignments, loops and comprehensions in functions that bind `found`, `one`, `its`, `there` or
                      `asked`

Standard library only.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections.abc import Container, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.vocabulary import find_retired_names, find_retired_phrases  # noqa: E402

PACKAGE = "semsearch"
LONG_FUNCTION = 50
RETIRED_LOCALS = frozenset({"found", "one", "its", "there", "asked"})
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def count(root: Path) -> dict[str, int]:
    """Return all counts of the checkout `root`."""
    sources = {path: path.read_text(encoding="utf-8") for path in sorted((root / PACKAGE).rglob("*.py"))}
    if not sources:
        raise SystemExit(f"{root} holds no package {PACKAGE}: give the folder of a checkout")
    trees = {path: ast.parse(source, str(path)) for path, source in sources.items()}
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    functions = [node for node in nodes if isinstance(node, FUNCTIONS)]
    modules = import_graph(root, trees)
    packages = group_by_package(modules)
    layers, cycles = measure(packages)
    module_layers, module_cycles = measure(modules)
    return {
        "modules": len(sources),
        "classes": sum(isinstance(node, ast.ClassDef) for node in nodes),
        "lines": sum(len(source.splitlines()) for source in sources.values()),
        "exported names": len(exported_names(trees[root / PACKAGE / "__init__.py"])),
        "public names": sum(len(public_names(tree)) for tree in trees.values()),
        "functions": len(functions),
        "long functions": sum(_length(function) > LONG_FUNCTION for function in functions),
        "nodes": len(packages),
        "edges": sum(map(len, packages.values())),
        "layers": layers,
        "cycles": cycles,
        "module edges": sum(map(len, modules.values())),
        "module layers": module_layers,
        "module cycles": module_cycles,
        "retired names": len(find_retired_names(root)),
        "retired phrases": len(find_retired_phrases(root)),
        "retired locals": sum(
            isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in RETIRED_LOCALS
            for node in _in_functions(functions)
        ),
    }


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _in_functions(functions: list[ast.FunctionDef | ast.AsyncFunctionDef]) -> list[ast.AST]:
    """Return the nodes within functions, each once, also if functions are nested."""
    return list({id(node): node for function in functions for node in ast.walk(function)}.values())


def exported_names(tree: ast.Module) -> set[str]:
    """Return the names that a module exports."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and "__all__" in _bound(statement):
            return set(ast.literal_eval(statement.value))
    imported = {
        alias.asname or alias.name.split(".")[0]
        for statement in _top_level(tree)
        if isinstance(statement, ast.Import | ast.ImportFrom) and getattr(statement, "module", None) != "__future__"
        for alias in statement.names
    }
    return {name for name in imported | public_names(tree) if not name.startswith("_")}


def public_names(tree: ast.Module) -> set[str]:
    """Return the names without a leading underscore that a module binds at its top level, imports aside."""
    return {name for statement in _top_level(tree) for name in _bound(statement) if not name.startswith("_")}


def _top_level(node: ast.AST) -> Iterator[ast.stmt]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If | ast.Try):
            yield from _top_level(child)
        elif isinstance(child, ast.stmt):
            yield child


def _bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
        return {statement.name}
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
    return set()


def import_graph(root: Path, trees: Mapping[Path, ast.Module]) -> dict[str, set[str]]:
    """Return the modules of the package, each with the other modules that it imports."""
    modules = {_module_name(root, path): tree for path, tree in trees.items()}
    return {module: set(_imports(tree, modules)) - {module} for module, tree in modules.items()}


def group_by_package(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return the graph of the packages and modules directly below the top package."""

    def node(module: str) -> str:
        return ".".join(module.split(".")[:2])

    groups: dict[str, set[str]] = {}
    for module, imported in graph.items():
        targets = groups.setdefault(node(module), set())
        targets |= {node(target) for target in imported} - {node(module)}
    return groups


def _module_name(root: Path, path: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(tree: ast.Module, modules: Container[str]) -> Iterator[str]:
    """Yield the modules of the package that a module imports; `from package import module` is an import of both."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module in modules:
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            inner = [name for name in submodules if name in modules]
            yield from inner
            if len(inner) < len(submodules):
                yield node.module


def measure(graph: Mapping[str, set[str]]) -> tuple[int, int]:
    """Return the number of layers and of cycles."""
    reachable = {node: _reachable(graph, node) for node in graph}
    group = {
        node: frozenset({node, *(other for other in reachable[node] if node in reachable[other])}) for node in graph
    }
    heights: dict[frozenset[str], int] = {}

    def height(members: frozenset[str]) -> int:
        if members not in heights:
            below = {group[target] for node in members for target in graph[node]} - {members}
            heights[members] = 1 + max(map(height, below), default=0)
        return heights[members]

    groups = set(group.values())
    return max(map(height, groups)), sum(len(members) > 1 for members in groups)


def _reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    visited: set[str] = set()
    pending = list(graph[start])
    while pending:
        node = pending.pop()
        if node not in visited:
            visited.add(node)
            pending += graph[node]
    return visited


def main() -> None:
    """Print the counts of a checkout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, nargs="?", default=ROOT)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    counts = count(options.checkout.resolve())
    if options.json:
        print(json.dumps(counts))
        return
    for name, number in counts.items():
        print(f"{name:16} {number:7,}")


if __name__ == "__main__":
    main()
