"""Commands for feedback and adaptation: `semsearch adapt`, `compare`, `labels …` and `domains …`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from semsearch.cli.options import (
    Device,
    FilterOption,
    Threads,
    WeightsFile,
    err,
    out,
    parsed_filter,
    usage_error,
    write_json,
)
from semsearch.errors import QueryError, StateError
from semsearch.types import DEFAULT_DOMAIN, Click, Label, Query, domain_name_problem

# torch takes seconds to import: each command imports what it needs, so that --help answers at once
if TYPE_CHECKING:
    from semsearch.adapters.adapter import DomainAdapter
    from semsearch.domains.exchange import Reading
    from semsearch.domains.registry import DomainRegistry
    from semsearch.domains.versions import VersionHistory
    from semsearch.search.comparison import ComparedHit, Comparison
    from semsearch.storage.corpus import Corpus
    from semsearch.storage.domains import DomainStore, Version
    from semsearch.storage.kept_queries import KeptQueries
    from semsearch.storage.labels import LabelLog

labels = typer.Typer(
    no_args_is_help=True,
    help="Import, export or retract the labels and clicks recorded for an index; suggest what to label next.",
)
domains = typer.Typer(
    no_args_is_help=True,
    help="List, roll back, reset, export and import the domains of an index: groups of queries, such as those of one"
    " team or user, each with an adaptation of its own. Delete the queries that a server kept of them.",
)

Index = Annotated[Path, typer.Argument(help="Folder of a built index.")]
Domain = Annotated[
    str, typer.Option(help="Domain (a group of users or queries) to use; searches with the same --domain see it.")
]
DomainName = Annotated[str, typer.Argument(help="The domain's name.")]
LabelsFile = Annotated[
    Path | None,
    typer.Option(
        help="Labels to import first: a folder with queries.jsonl (_id, text) and qrels.tsv (query-id, corpus-id,"
        " score), where corpus-id is a document's id in the index; or any file that `semsearch labels import` reads.",
        show_default=False,
    ),
]
QueriesFile = Annotated[
    Path | None,
    typer.Option(
        "--queries",
        help="Texts of the queries that qrels name by ids: JSON lines with _id and text, or lines of id, tab and text.",
        show_default=False,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="Stop at the first line that cannot be used, instead of leaving it out and listing it."
    ),
]
MAX_LISTED = 50
"""Lines that were left out and are listed one by one."""


def adapt(
    index: Index,
    labels: LabelsFile = None,
    queries: QueriesFile = None,
    strict: Strict = False,
    domain: Domain = DEFAULT_DOMAIN,
    weights: WeightsFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the decision, and change nothing.")] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Adapt the ranking of a domain to its labels and clicks, or decline and explain why.

    The new adaptation replaces the previous one, which `semsearch domains rollback` restores. A running server uses it
    within seconds.

    Example: semsearch adapt index/python --labels docs/example --domain plain
    """
    from semsearch.storage.labels import EntryFilter

    check_domain_name(domain)
    reading = read_labels(labels, domain=domain, queries=queries)
    with open_registry(index, weights, device=device, threads=threads) as registry:
        entries = usable_entries(reading, registry.engine.corpus, registry.log, strict=strict)
        if dry_run:
            entry_filter = EntryFilter(domain=domain)
            logged = {entry.id for _, entry in registry.log.labels(entry_filter)}
            logged |= {entry.id for _, entry in registry.log.clicks(entry_filter)}
            new = {entry.id: entry for entry in entries if entry.domain == domain and entry.id not in logged}
            outcome, _ = registry.decide(domain, list(new.values()))
            out.print(outcome.explanation, soft_wrap=True, markup=False)
            return
        if entries:
            registry.log.append(entries)
        out.print(registry.adapt(domain).explanation, soft_wrap=True, markup=False)


def compare(
    text: Annotated[str, typer.Argument(metavar="QUERY", help="What to search for.")],
    index: Annotated[Path, typer.Option("--index", "-i", envvar="SEMSEARCH_INDEX", help="Folder of the index.")],
    domain: Domain = DEFAULT_DOMAIN,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of documents to show.")] = 10,
    filter_text: FilterOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Compare the ranking of a query without and with a domain's adaptation, side by side.

    The column "was" shows the rank of an adapted hit without the adaptation, if the two differ.

    Example: semsearch compare "what is in one group but not the other" -i index/python --domain plain
    """
    try:
        query = Query(text, k, domain=domain, filter=parsed_filter(filter_text))
    except QueryError as error:
        raise usage_error(error) from None
    with err.status("loading the encoder"):
        from semsearch.search.comparison import Comparison, compared
        from semsearch.search.engine import SearchEngine

        engine = SearchEngine.open(index, device=device, threads=threads)
    with closing(engine):
        [outcome] = engine.search([compared(query)])
    comparison = Comparison.of(outcome, k)
    if as_json:
        sys.stdout.write(json.dumps(_comparison_json(text, comparison, outcome.adaptation)) + "\n")
    else:
        out.print(_comparison_table(comparison, outcome.adaptation))


def _comparison_json(text: str, comparison: Comparison, adaptation: DomainAdapter) -> dict[str, object]:
    def as_json(hits: Sequence[ComparedHit]) -> list[dict[str, object]]:
        return [
            {
                "id": compared_hit.hit.id,
                "title": compared_hit.hit.title or compared_hit.hit.id,
                "score": round(compared_hit.hit.score, 6),
                "other_rank": compared_hit.other_rank,
            }
            for compared_hit in hits
        ]

    return {
        "query": text,
        "adaptation": {
            "domain": adaptation.domain,
            "version": adaptation.version,
            "learner": adaptation.learner,
            "reason": adaptation.full_reason,
        },
        "frozen": as_json(comparison.frozen),
        "adapted": as_json(comparison.adapted),
    }


def _comparison_table(comparison: Comparison, adaptation: DomainAdapter) -> Table:
    adapted_by = (
        f"{adaptation.domain}, version {adaptation.version}, {adaptation.learner}" if adaptation.domain else "nothing"
    )
    table = Table(title=Text(f"adapted by {adapted_by}: {adaptation.full_reason}"), title_justify="left")
    for column in ("", "frozen", "adapted", "was"):
        table.add_column(column)
    for rank, (before, after) in enumerate(zip(comparison.frozen, comparison.adapted, strict=False), start=1):
        frozen_rank = after.other_rank
        moved = "" if frozen_rank == rank else "new" if frozen_rank is None else f"{frozen_rank}"
        title = Text(after.hit.title or after.hit.id, style="bold" if moved else "")
        table.add_row(str(rank), Text(before.hit.title or before.hit.id), title, moved)
    return table


@labels.command("import")
def import_labels(
    index: Index,
    path: Annotated[
        Path,
        typer.Argument(
            help="File of JSON lines; table (CSV or TSV) with a header; qrels of BEIR or TREC; or folder with"
            " queries.jsonl and qrels.tsv. Files may end in .gz or .xz."
        ),
    ],
    queries: QueriesFile = None,
    domain: Annotated[str, typer.Option(help="Domain of the entries that name none.")] = DEFAULT_DOMAIN,
    source: Annotated[
        str | None,
        typer.Option(help="Source of the entries that name none. \\[default: the path's name]", show_default=False),
    ] = None,
    any_document: Annotated[
        bool, typer.Option("--any-document", help="Also import entries whose document is not in the index.")
    ] = False,
    strict: Strict = False,
) -> None:
    """Import labels and clicks into an index's log. Entries that the log already has are not added twice.

    Lines that cannot be used are left out and listed with their reasons.

    Example: semsearch labels import index/python docs/example --domain plain
    """
    from semsearch.storage.labels import LabelLog

    check_domain_name(domain)
    reading = read_labels(path, domain=domain, source=source, queries=queries)
    with _open_corpus(index) as corpus, closing(LabelLog(index)) as log:
        entries = usable_entries(reading, None if any_document else corpus, log, strict=strict)
        new = log.append(entries)
    out.print(f"{new} new, {len(entries) - new} already in the log")


@labels.command("export")
def export_labels(
    index: Index,
    path: Annotated[
        Path, typer.Argument(help="File to write JSON lines to, or - for standard output; with --qrels a folder.")
    ],
    domain: Annotated[
        str | None, typer.Option(help="Export only this domain. \\[default: all]", show_default=False)
    ] = None,
    qrels: Annotated[
        bool, typer.Option("--qrels", help="Write labels as queries.jsonl and qrels.tsv, without clicks.")
    ] = False,
) -> None:
    """Export the labels and clicks of an index's log, except those that were retracted.

    Example: semsearch labels export index/python labels.jsonl
    """
    from semsearch.domains.exchange import write_lines, write_qrels
    from semsearch.storage.generations import read_manifest
    from semsearch.storage.labels import EntryFilter, LabelLog, as_record

    read_manifest(index)  # raises IndexFolderError if this is not an index
    with closing(LabelLog(index)) as log:
        labelled, clicks = log.labels(EntryFilter(domain=domain)), log.clicks(EntryFilter(domain=domain))
    if qrels:
        count = write_qrels(path, [label for _, label in labelled])
        err.print(f"{count} judgments of {len(labelled)} labels written to {escape(str(path))}", soft_wrap=True)
        if without := sum(not label.query.strip() for _, label in labelled):
            err.print(f"left out {without} labels without a query", soft_wrap=True)
        if clicks:
            err.print(f"left out {len(clicks)} clicks", soft_wrap=True)
        return
    entries: list[tuple[int, Label | Click]] = [*labelled, *clicks]
    records = [as_record(entry) for _, entry in sorted(entries, key=lambda numbered: numbered[0])]
    if str(path) == "-":
        for record in records:
            write_json(record)
        return
    write_lines(path, records)
    err.print(f"{len(records)} entries written to {escape(str(path))}", soft_wrap=True)


@labels.command()
def retract(
    index: Index,
    source: Annotated[str | None, typer.Option(help="Entries that came with this key or import.")] = None,
    user: Annotated[str | None, typer.Option(help="Entries of this user.")] = None,
    domain: Annotated[str | None, typer.Option(help="Entries of this domain.")] = None,
    query: Annotated[str | None, typer.Option(help="Entries for this query.")] = None,
    document: Annotated[str | None, typer.Option(help="Entries about the document with this id.")] = None,
    entry_id: Annotated[str | None, typer.Option("--id", help="The entry with this id.")] = None,
) -> None:
    """Retract the labels and clicks that match all given options. Adapt their domains again afterwards.

    Retracted entries no longer count, but stay in the log.

    Example: semsearch labels retract index/python --source example
    """
    from semsearch.storage.generations import read_manifest
    from semsearch.storage.labels import EntryFilter, LabelLog

    entry_filter = EntryFilter(id=entry_id, domain=domain, query=query, document=document, user=user, source=source)
    if entry_filter.empty:
        raise typer.BadParameter("choose entries with --source, --user, --domain, --query, --document or --id")
    read_manifest(index)
    with closing(LabelLog(index)) as log:
        retracted: dict[str, int] = {}
        for kind in ("label", "click"):
            for name, numbers in log.retract(kind, entry_filter, source="command line").items():
                retracted[name] = retracted.get(name, 0) + len(numbers)
    remedy = f"; adapt again: {', '.join(retracted)}" if retracted else ""
    out.print(f"{sum(retracted.values())} retracted{remedy}", markup=False)


labels.command("withdraw", hidden=True)(retract)


@labels.command("suggest")
def suggest_labels(
    index: Index,
    domain: Domain = DEFAULT_DOMAIN,
    k: Annotated[int, typer.Option("-k", min=1, max=50, help="Number of queries to suggest.")] = 5,
    results: Annotated[int, typer.Option(min=1, max=50, help="Number of results to mark for each query.")] = 5,
    query: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Suggest results of this query only, those without a label.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Suggest which queries to label next, and which of their results to mark.

    Of the queries that were clicked for, or that a server kept (`semsearch serve --keep-queries`), those without a
    label: popular ones that are unlike the labelled ones, and for which the rankings of the index disagree.

    Example: semsearch labels suggest index/python --domain plain
    """
    check_domain_name(domain)
    with open_registry(index, None, device=device, threads=threads) as registry:
        suggestions = registry.suggest(domain, k, results=results, query=query)
    if suggestions.reason:
        err.print(f"nothing to suggest: {suggestions.reason}", soft_wrap=True, markup=False)
    if as_json:
        for suggested in suggestions.queries:
            hits = [{"id": hit.id, "title": hit.title} for hit in suggested.hits]
            write_json({"query": suggested.text, "times_asked": suggested.times_asked, "hits": hits})
    elif suggestions.queries:
        table = Table(show_lines=True)
        for column in ("query", "times asked", "results to mark: id, title"):
            table.add_column(column)
        for suggested in suggestions.queries:
            lines = [f"{hit.id}  {hit.title}".rstrip() for hit in suggested.hits]
            table.add_row(Text(suggested.text), str(suggested.times_asked), Text("\n".join(lines)))
        out.print(table)


@domains.command("list")
def list_domains(
    index: Index, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False
) -> None:
    """List the domains of an index: parent, version in use, learner, numbers of labels, clicks and kept queries, and
    the reason.

    Example: semsearch domains list index/python
    """
    from semsearch.storage.kept_queries import KeptSummary
    from semsearch.storage.labels import LabelLog

    store, kept = _open_store(index), _open_kept_queries(index)
    with closing(LabelLog(index)) as log:
        counts = log.counts()
    table = Table()
    for column in ("domain", "parent", "version", "learner", "labels", "clicks", "kept queries", "reason"):
        table.add_column(column, overflow="fold")
    for name in sorted({*store.names(), *kept.names(), *counts}):
        try:
            record = store.record(name)
        except StateError as error:
            err.print(Text.assemble((name, "yellow"), f": {error}"), soft_wrap=True)
            continue
        try:
            queries = kept.summary(name)
        except StateError as error:
            err.print(Text.assemble((name, "yellow"), f": {error}"), soft_wrap=True)
            queries = KeptSummary(0, None)
        adapter, entries = store.domain_adapter(name), counts.get(name, {"label": 0, "click": 0})
        if as_json:
            value = {
                **record.model_dump(mode="json"),
                **entries,
                "kept_queries": queries.count,
                "kept_since": queries.oldest and queries.oldest.isoformat(),
                "served_by": adapter.domain,
                "reason": adapter.full_reason,
            }
            sys.stdout.write(json.dumps(value) + "\n")
        else:
            cells = (str(adapter.version or ""), adapter.learner, str(entries["label"]), str(entries["click"]))
            since = f"{queries.count} since {queries.oldest:%Y-%m-%d}" if queries.oldest is not None else ""
            table.add_row(Text(name), Text(record.parent or ""), *cells, since, Text(adapter.full_reason))
    if not as_json:
        out.print(table)


@domains.command()
def history(index: Index, domain: DomainName) -> None:
    """List the versions of a domain, each with the decision that led to it.

    Example: semsearch domains history index/python plain
    """
    record = _open_store(index).record(domain)
    for version in record.versions:
        out.print(
            Text.assemble(
                (f"{version.number:4}  ", "bold"), f"{version.at:%Y-%m-%d %H:%M} {version.event}: {version.explanation}"
            ),
            soft_wrap=True,
        )
    if not record.versions:
        err.print("this domain has no versions")


@domains.command()
def rollback(
    index: Index,
    domain: DomainName,
    to: Annotated[
        int | None, typer.Option(min=0, help="Version to restore. \\[default: the previous one]", show_default=False)
    ] = None,
) -> None:
    """Restore an earlier version of a domain, as a new version.

    Example: semsearch domains rollback index/python plain
    """
    with _open_versions(index) as versions:
        _print_version(versions.rollback(domain, to))


@domains.command()
def reset(index: Index, domain: DomainName) -> None:
    """Remove the adaptation of a domain, as a new version. Its labels, kept queries and earlier versions stay.

    Example: semsearch domains reset index/python plain
    """
    with _open_versions(index) as versions:
        version = versions.reset(domain)
    if version is None:
        out.print("there was nothing to reset")
    else:
        _print_version(version)


@domains.command("forget-queries")
def forget_queries(
    index: Index,
    domain: Annotated[
        str | None, typer.Argument(metavar="[DOMAIN]", help="The domain's name; without it, all domains of the index.")
    ] = None,
) -> None:
    """Delete the queries that a server kept of a domain, or of all domains. Labels, clicks and versions stay.

    A server that runs with --keep-queries may write searches of the last minute afterwards: stop it, or start it again
    without the option, to keep none.

    Example: semsearch domains forget-queries index/python plain
    """
    kept = _open_kept_queries(index)
    names = kept.forget_all() if domain is None else [name for name in (domain,) if kept.forget(name)]
    out.print(f"kept queries deleted: {', '.join(names)}" if names else "no queries were kept", markup=False)


@domains.command()
def parent(
    index: Index,
    domain: DomainName,
    parent_domain: Annotated[
        str | None,
        typer.Argument(metavar="[PARENT]", help="Domain to inherit from; without it, the domain has no parent."),
    ] = None,
) -> None:
    """Set the domain that a domain inherits its adaptation from, for example a user's from their team's.

    Example: semsearch domains parent index/python alice team
    """
    _open_store(index).set_parent(domain, parent_domain)
    out.print(f"{domain} inherits from {parent_domain or 'no domain'}", markup=False)


@domains.command("export")
def export_state(
    index: Index, domain: DomainName, path: Annotated[Path, typer.Argument(help="File to write.")]
) -> None:
    """Export the adaptation of a domain to a file.

    Example: semsearch domains export index/python plain plain.safetensors
    """
    from semsearch.system.files import atomic_write

    with _open_versions(index) as versions:
        content = versions.export_state(domain)
    try:
        with atomic_write(path) as unfinished:
            unfinished.write_bytes(content)
    except OSError as error:
        raise StateError(f"{path} cannot be written ({error.strerror}): choose another path") from error
    err.print(f"{len(content) / 1024:.0f} KiB written to {escape(str(path))}", soft_wrap=True)


@domains.command("import")
def import_state(
    index: Index,
    domain: DomainName,
    path: Annotated[Path, typer.Argument(help="File that `semsearch domains export` wrote.")],
) -> None:
    """Import an exported adaptation into a domain, as a new version.

    Example: semsearch domains import index/python plain plain.safetensors
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StateError(
            f"{path} cannot be read ({error.strerror}): name a file of `semsearch domains export`"
        ) from error
    with _open_versions(index) as versions:
        _print_version(versions.import_state(domain, content))


@contextmanager
def open_registry(index: Path, weights: Path | None, *, device: str, threads: int | None) -> Iterator[DomainRegistry]:
    """Open the domains of an index with its encoder and the learners' weights. Print a warning if they do not match."""
    with err.status("opening the index and its encoder"):
        from semsearch.adapters.weights import DEFAULT_WEIGHTS, Weights
        from semsearch.domains.registry import DomainRegistry, adapt_function
        from semsearch.search.engine import SearchEngine

        loaded = Weights.open(weights or DEFAULT_WEIGHTS)
        engine = SearchEngine.open(index, device=device, threads=threads)
    with closing(engine):
        adapt_with, reason = adapt_function(loaded, engine)
        if adapt_with is None:
            err.print(
                f"[yellow]judged queries are memorized, nothing is learned[/yellow]: {escape(str(reason))}",
                soft_wrap=True,
            )
        with closing(DomainRegistry(index, engine, adapt_with)) as registry:
            yield registry


@contextmanager
def _open_versions(index: Path) -> Iterator[VersionHistory]:
    """Open the versions of an index's domains, without its encoder."""
    from semsearch.domains.versions import VersionHistory
    from semsearch.storage.labels import LabelLog

    with closing(LabelLog(index)) as log:
        yield VersionHistory(_open_store(index), log)


def _open_store(index: Path) -> DomainStore:
    from semsearch.storage.domains import DomainStore
    from semsearch.storage.generations import read_manifest

    record = read_manifest(index).encoder
    return DomainStore(index, encoder_sha256=record.weights_sha256, dimension=record.dimension)


def _open_kept_queries(index: Path) -> KeptQueries:
    from semsearch.storage.generations import read_manifest
    from semsearch.storage.kept_queries import KeptQueries

    record = read_manifest(index).encoder
    return KeptQueries(index, dimension=record.dimension, encoder_sha256=record.weights_sha256)


@contextmanager
def _open_corpus(index: Path) -> Iterator[Corpus]:
    """Open the documents of an index, without its encoder. Their generation is kept on disk while they are open."""
    from semsearch.storage.corpus import Corpus
    from semsearch.storage.generations import open_current

    with closing(open_current(index)) as generation:
        yield Corpus.open(generation, threads=1)


def read_labels(labels: Path | None, *, domain: str, source: str | None = None, queries: Path | None = None) -> Reading:
    """Read the entries of --labels, none without it. source: of entries that name none, by default the path's name."""
    from semsearch.domains.exchange import Reading, read_entries

    if labels is None:
        return Reading()
    # a file name need not be valid Unicode
    name = os.fsencode(labels.resolve().name).decode("utf-8", "replace")
    return read_entries(labels, domain=domain, source=source or name, queries=queries)


def usable_entries(
    reading: Reading, corpus: Corpus | None, log: LabelLog, *, strict: bool = False
) -> list[Label | Click]:
    """Return the entries that were read, without those that the corpus has no document for or the log cannot append.

    What is left out is listed on stderr. corpus: None accepts every document. Raises LabelError if `strict` and
    something is left out, or if nothing is left.
    """
    from semsearch.storage.labels import conflict

    if corpus is not None:
        reading.leave_out_missing(corpus.existing_ids(entry.document for entry in reading.entries if entry.document))
    reading.leave_out({index: conflict(reading.entries[index]) for index in log.conflicting(reading.entries)})
    reading.check(strict=strict)
    for note in reading.notes:
        err.print(note, soft_wrap=True, markup=False)
    if reading.left_out:
        err.print(f"left out {len(reading.left_out):,} of {reading.count:,} lines:", soft_wrap=True)
        for line in reading.left_out[:MAX_LISTED]:
            err.print(f"  {line}", soft_wrap=True, markup=False)
        if len(reading.left_out) > MAX_LISTED:
            err.print(f"  and {len(reading.left_out) - MAX_LISTED:,} more", soft_wrap=True)
    return reading.entries


def check_domain_name(domain: str) -> None:
    """Raise typer.BadParameter for a name that no domain can have."""
    if problem := domain_name_problem(domain):
        raise typer.BadParameter(problem, param_hint="--domain")


def _print_version(version: Version) -> None:
    out.print(f"version {version.number}: {version.explanation}", soft_wrap=True, markup=False)
