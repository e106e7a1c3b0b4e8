"""The retired vocabulary: names and phrases that the project no longer uses, and what to write instead.

`find_retired_names` looks for retired names among the definitions of the package, `find_retired_phrases` for retired
phrases in its texts. `tests/test_vocabulary.py` and `scripts/count_code.py` use both. Standard library only.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

NAMES: Mapping[str, str] = {
    # one word for many things
    "place": "rank, index, row, position, column, location, Point or Target",
    "words": "lexical_score, lexical_weight, lexical_scores, explanation or tokenize",
    "gain": "relevance or improvement",
    "gains": "relevance, spectral_gains, improvement or click_relevance",
    "found": "hits, rows, matches, result or the name of the thing",
    "one": "the name of the thing: document, row, label",
    "its": "the name of the thing",
    "there": "the name of the thing",
    "asked": "query, queries, request or parse_query",
    # values and filters
    "module records": "types and errors",
    "BundleError": "IndexFolderError",
    "BusyError": "IndexBusyError",
    "module conditions": "filters",
    "Condition": "Filter",
    "facts": "metadata, fields or the name of the thing",
    # text
    "module words": "tokens",
    "subject": "content_stems",
    "module folding": "duplicates",
    "leaders": "collapse_duplicates",
    "Query.fold": "collapse",
    "SearchRequest.fold": "collapse",
    "folded": "collapsed",
    "alike": "duplicates",
    # search
    "by_meaning": "rank_dense",
    "by_words": "rank_lexical",
    "by_both": "rank_hybrid",
    "Nearest": "DenseResult",
    "Ranked": "RankedCandidates",
    "Ranking": "ResultPage",
    "SearchEngine.nearest": "search_vectors",
    "SearchEngine.order": "rank",
    "carried": "token_attributions",
    "Encoder.shares": "token_attributions",
    "Parts": "ScoreBreakdown",
    "Hit.parts": "score_breakdown",
    "HitModel.parts": "score_breakdown",
    "similarity_place": "dense_rank",
    "words_place": "lexical_rank",
    "Hit.others": "more_passages",
    "HitModel.others": "more_passages",
    # vectors
    "effort": "ef_search",
    "breadth": "ef_construction",
    "LINKS": "HNSW_M",
    "module sizing": "index_selection",
    # adapters
    "Serving": "DomainAdapter",
    "rescale": "transform",
    "Adapter.over": "with_basis",
    "Adapter.replaced": "updated",
    "turns": "has_gains",
    "contraction": "shrinkage (within-class, as in LDA)",
    "Support.unknown": "unjudged",
    "thinned": "subsample_negatives",
    "Support.offsets": "log_sampling_weight",
    "gather": "build_support",
    "Start": "MetaParameters",
    "Member": "LearnerSpec",
    "LearnerSpec.begin": "init",
    "meta_parameters.setting": "hyperparameter",
    "tilt": "context_slope",
    "meta_parameters.context": "task_features",
    "module context": "meta_parameters",
    "pace": "outer_lr",
    "looks": "validation_episodes",
    "stale": "bad_checks",
    "still": "identity_state",
    "begun": "base_state",
    "moved_by_it": "base_queries",
    "left": "residuals",
    "Candidate.fewest": "min_labels",
    "Candidate.most": "max_labels",
    "room": "headroom or budget",
    "CAUTION_IN_THE_DARK": "WEAK_BASELINE_CAUTION",
    "surely_better": "reality_check",
    "surely_best": "one_standard_error_rule",
    "worth_of_choosing": "bias_corrected_cv",
    # labels and domains
    "said": "judgments",
    "against": "negatives",
    "partial": "partially_judged",
    "gone": "missing_documents",
    "Teacher": "Annotator",
    "Chosen": "EntryFilter",
    "Standing": "DomainStatus",
    "heirs": "descendants",
    "DomainStore.line": "lineage",
    "stamp": "revision",
    "withdraw": "retract",
    # building and storage
    "module bundle": "generations",
    "tidy": "remove_stale",
    "leftovers": "stale_paths",
    "generations.building": "begin_build",
    "generations.changing": "begin_update",
    "Journal": "EmbeddingCheckpoint",
    "Ahead": "PipelinedEncoder",
    "twin": "duplicate_id",
    "_Tally": "ChangeSet",
    "Opened": "OpenIndex",
    "identities": "doc_ids",
    "storage.identity": "doc_id",
    "ingest.identity": "doc_id",
    "search.identity": "doc_id",
    "server.identity": "doc_id",
    "cli.identity": "doc_id or entry_id",
    "whole": "atomic_write",
    "spilled": "temp_memmap",
    "let_go": "drop_pages",
    "module prepare": "onnx_export",
    "module prepared": "onnx_cache",
    # server
    "remembered": "query_cache or cached",
    "module recent": "rolling_stats",
    "module dispatching": "admission",
    "module changes": "index_writer",
    "module worker": "adaptation_worker",
    "module problems": "errors",
    "module learned": "domain",
    "module reading": "document",
    "module verdicts": "explain_adaptation",
}
"""Retired name → name to use. `name`: any definition of that name; `module name`: only a module or package;
`owner.name`: only in the class `owner`, or in the module or package `owner`."""

PHRASES: Mapping[str, str] = {
    "knows nothing of": "does not depend on",
    "knows nothing about": "does not depend on",
    "let go of": "release",
    "lets go of": "releases",
    "letting go of": "releasing",
    "what it takes": "its cost",
    "what a search takes": "the cost of a search",
    "by which it is gone": "used",
    "where that is not enough either": "if that is still too low",
    "somebody": "a user, the caller",
    "anybody": "any user, any process",
    "nobody": "no user, no one",
    "whoever": "the caller, the client, any process",
    "so many": "n, the number of",
    "beside": "next to, besides, in addition to",
    "goes by": "semantic, keyword or hybrid search; uses",
    "go by": "semantic, keyword or hybrid search; use",
    "by meaning": "semantic search",
    "by words": "keyword search",
}
"""Retired phrase → phrase to use. Matched as whole words, in any case, also across a line break."""

TEXT_SUFFIXES = frozenset({".py", ".md", ".html", ".js", ".json", ".css", ".svg", ".toml", ".txt", ".xml", ".yaml"})


@dataclass(frozen=True, slots=True, order=True)
class Occurrence:
    """A retired name or phrase at a line of a file."""

    path: str
    """Relative to the checkout."""
    line: int
    """From 1."""
    retired: str
    use: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.retired!r} is retired: use {self.use}"


@dataclass(frozen=True, slots=True)
class Definition:
    """A name that a source file defines: a module, class, function, method, attribute, parameter or constant."""

    name: str
    line: int
    kind: str
    """`module`, `class`, `function`, `parameter`, `attribute` or `constant`."""
    owners: frozenset[str]
    """The enclosing class, the module, and the packages that hold it."""


def find_retired_names(root: Path, names: Mapping[str, str] = NAMES) -> list[Occurrence]:
    """Return the definitions in the package of the checkout `root` that have a retired name."""
    occurrences = []
    for path in sorted((root / "semsearch").rglob("*.py")):
        relative = path.relative_to(root)
        for definition in definitions(path.read_text(encoding="utf-8"), relative):
            keys = [definition.name, *(f"{owner}.{definition.name}" for owner in definition.owners)]
            if definition.kind == "module":
                keys.append(f"module {definition.name}")
            occurrences += [Occurrence(str(relative), definition.line, key, names[key]) for key in keys if key in names]
    return sorted(occurrences)


def find_retired_phrases(root: Path, phrases: Mapping[str, str] = PHRASES) -> list[Occurrence]:
    """Return the retired phrases in the package, the web pages, the scripts, the examples and the documentation."""
    folders = ("semsearch", "web", "scripts", "examples")
    files = [path for folder in folders for path in sorted((root / folder).rglob("*"))]
    files += [root / name for name in ("README.md", "CONTRIBUTING.md", "index/README.md")]
    files += sorted((root / "docs").glob("*.md"))
    occurrences = []
    for path in files:
        if path.is_file() and path.suffix in TEXT_SUFFIXES:
            text = path.read_text(encoding="utf-8")
            occurrences += [
                Occurrence(str(path.relative_to(root)), line, phrase, phrases[phrase])
                for line, phrase in phrases_in(text, phrases)
            ]
    return sorted(occurrences)


def phrases_in(text: str, phrases: Mapping[str, str] = PHRASES) -> Iterator[tuple[int, str]]:
    """Yield (line, phrase) for each occurrence in a text."""
    for phrase in phrases:
        for match in _pattern(phrase).finditer(text):
            yield text.count("\n", 0, match.start()) + 1, phrase


def _pattern(phrase: str) -> re.Pattern[str]:
    # between two words a line may end, with a comment sign or the quotes of adjacent string literals
    gap = r"""(?:\s|#|["']\s*f?["'])+"""
    # a part of a compound name, such as the CSS class `beside-hits` or the key `panel.beside`, is not prose, nor is a
    # whole string, such as the parameter "beside" of an address
    words = gap.join(map(re.escape, phrase.split()))
    return re.compile(rf"""(?<![\w#.-])(?!(?<=["'`]){words}["'`]){words}(?![\w-]|\.\w)""", re.IGNORECASE)


def definitions(source: str, path: Path) -> Iterator[Definition]:
    """Yield the definitions of a source file, the module's own name first. path: relative to the checkout."""
    package = path.parent.parts
    name = path.parent.name if path.stem == "__init__" else path.stem
    owners = frozenset({*package, path.stem})
    yield Definition(name, 1, "module", owners)
    yield from _nested(ast.parse(source), owners, None)


def _nested(node: ast.AST, owners: frozenset[str], scope: ast.AST | None) -> Iterator[Definition]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield Definition(child.name, child.lineno, "class", owners)
            yield from _nested(child, owners | {child.name}, child)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Definition(child.name, child.lineno, "function", owners)
            yield from (Definition(arg.arg, arg.lineno, "parameter", owners) for arg in _parameters(child.args))
            yield from _nested(child, owners, child)
        else:
            kind = {type(None): "constant", ast.ClassDef: "attribute"}.get(type(scope))
            if kind and isinstance(child, ast.Assign | ast.AnnAssign):
                for target in _targets(child):
                    if isinstance(target, ast.Name):
                        yield Definition(target.id, target.lineno, kind, owners)
            if isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Store):
                yield Definition(child.attr, child.lineno, "attribute", owners)
            yield from _nested(child, owners, scope)


def _parameters(arguments: ast.arguments) -> list[ast.arg]:
    variadic = [arg for arg in (arguments.vararg, arguments.kwarg) if arg is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *variadic]


def _targets(statement: ast.Assign | ast.AnnAssign) -> Sequence[ast.expr]:
    return statement.targets if isinstance(statement, ast.Assign) else [statement.target]
