"""`semsearch adapt`, `compare`, `labels …` and `domains …`: what people say about results, and what becomes of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from semsearch.cli.options import Device, FilterOption, Threads, WeightsFile, err, out, parsed_filter
from semsearch.errors import LabelError, QueryError, StateError
from semsearch.types import DEFAULT_DOMAIN, Click, Label, Query

# torch takes seconds to import: every command imports what it needs, so that --help answers at once
if TYPE_CHECKING:
    from semsearch.domains.registry import DomainRegistry
    from semsearch.domains.versions import VersionHistory
    from semsearch.storage.corpus import Corpus
    from semsearch.storage.domains import DomainStore, Version

labels = typer.Typer(no_args_is_help=True, help="The log of labels and clicks of an index: import, export, withdraw.")
domains = typer.Typer(no_args_is_help=True, help="The domains of an index: what they learned, and how to undo it.")

Index = Annotated[Path, typer.Argument(help="Folder of a built index.")]
Domain = Annotated[str, typer.Option(help="Whose queries these are: search with the same --domain.")]
Named = Annotated[str, typer.Argument(help="The domain's name.")]
Labelled = Annotated[
    Path | None,
    typer.Option(
        help="First import this: a folder with queries.jsonl (_id, text) and qrels.tsv (query-id, corpus-id, score),"
        " where corpus-id is a document's id in the index, or a file of JSON lines.",
        show_default=False,
    ),
]


def adapt(
    index: Index,
    labels: Labelled = None,
    domain: Domain = DEFAULT_DOMAIN,
    weights: WeightsFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be decided, and change nothing.")] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Adapt a domain of an index to all that its log holds, or decline and say why.

    What was learned takes the place of what the domain had learned before, and `semsearch domains rollback` brings that
    back. A running server takes it up within seconds.

    Example: semsearch adapt index/python --labels docs/example --domain plain
    """
    from semsearch.storage.labels import EntryFilter

    more = labelled(labels, domain=domain)
    with opened(index, weights, device=device, threads=threads) as found:
        check(more, found.engine.corpus)
        if dry_run:
            known = {label.id for _, label in found.log.labels(EntryFilter(domain=domain))}
            new = [entry for entry in more if isinstance(entry, Label) and entry.id not in known]
            outcome, _ = found.decide(domain, [label for label in new if label.domain == domain])
            out.print(outcome.explanation, soft_wrap=True, markup=False)
            return
        if more:
            found.log.append(more)
        out.print(found.adapt(domain).explanation, soft_wrap=True, markup=False)


def compare(
    query: Annotated[str, typer.Argument(help="What to search for.")],
    index: Annotated[Path, typer.Option("--index", "-i", envvar="SEMSEARCH_INDEX", help="Folder of the index.")],
    domain: Domain = DEFAULT_DOMAIN,
    k: Annotated[int, typer.Option("-k", min=1, help="How many documents to show.")] = 10,
    condition: FilterOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Show what a domain's adaptation does to one query: frozen and adapted, side by side, and what moved where.

    Example: semsearch compare "what is in one group but not the other" -i index/python --domain plain
    """
    try:
        asked = Query(query, k, domain=domain, filter=parsed_filter(condition))
    except QueryError as error:
        raise typer.BadParameter(str(error), param_hint="QUERY") from None
    with err.status("loading the encoder"):
        from semsearch.search.comparison import Comparison, compared
        from semsearch.search.engine import SearchEngine

        engine = SearchEngine.open(index, device=device, threads=threads)
    with closing(engine):
        [outcome] = engine.search([compared(asked)])
    comparison, adaptation = Comparison.of(outcome, k), outcome.adaptation
    if as_json:
        sides = {"frozen": comparison.frozen, "adapted": comparison.adapted}
        printed = {
            "query": query,
            "adaptation": {
                "domain": adaptation.domain,
                "version": adaptation.version,
                "learner": adaptation.learner,
                "reason": adaptation.reason,
            },
            **{
                side: [
                    {
                        "id": one.hit.id,
                        "title": one.hit.title or one.hit.id,
                        "score": round(one.hit.score, 6),
                        "other_rank": one.other_rank,
                    }
                    for one in hits
                ]
                for side, hits in sides.items()
            },
        }
        sys.stdout.write(json.dumps(printed) + "\n")
        return
    by = f"{adaptation.domain}, version {adaptation.version}, {adaptation.learner}" if adaptation.domain else "nothing"
    table = Table(title=Text(f"adapted by {by}: {adaptation.reason}"), title_justify="left")
    for column in ("", "frozen", "adapted", "was"):
        table.add_column(column)
    for rank, (before, after) in enumerate(zip(comparison.frozen, comparison.adapted, strict=False), start=1):
        was = after.other_rank
        moved = "" if was == rank else "new" if was is None else f"{was}"
        title = Text(after.hit.title or after.hit.id, style="bold" if moved else "")
        table.add_row(str(rank), Text(before.hit.title or before.hit.id), title, moved)
    out.print(table)


@labels.command("import")
def import_labels(
    index: Index,
    path: Annotated[Path, typer.Argument(help="A file of JSON lines, or a folder with queries.jsonl and qrels.tsv.")],
    domain: Annotated[str, typer.Option(help="Domain of entries that name none.")] = DEFAULT_DOMAIN,
    source: Annotated[
        str | None,
        typer.Option(help="Where entries that do not say come from. \\[default: the path's name]", show_default=False),
    ] = None,
    any_document: Annotated[
        bool, typer.Option("--any-document", help="Also take what speaks of documents that the index does not have.")
    ] = False,
) -> None:
    """Add labels and clicks to an index's log; what is there already is not added twice.

    Example: semsearch labels import index/python docs/example --domain plain
    """
    from semsearch.storage.labels import LabelLog

    entries = read(path, domain=domain, source=source or path.resolve().name)
    with _documents(index) as store:
        gone = missing(store, entries)
    if gone and not any_document:
        raise LabelError(
            f"{len(gone)} of {len(entries)} entries speak of documents that {index} does not have, the first of"
            f" {gone[0].document!r}: mend them, or take them all the same with --any-document"
        )
    with closing(LabelLog(index)) as log:
        new = log.append(entries)
    out.print(f"{new} new, {len(entries) - new} known already")


@labels.command("export")
def export_labels(
    index: Index,
    path: Annotated[Path, typer.Argument(help="A file to write JSON lines to, - for here; with --qrels a folder.")],
    domain: Annotated[str | None, typer.Option(help="Only this one's. \\[default: all]", show_default=False)] = None,
    qrels: Annotated[
        bool, typer.Option("--qrels", help="Judgments as queries.jsonl and qrels.tsv; clicks are left out.")
    ] = False,
) -> None:
    """Write what the log holds and was not withdrawn.

    Example: semsearch labels export index/python labels.jsonl
    """
    from semsearch.domains.exchange import write_lines, write_qrels
    from semsearch.storage.generations import read_manifest
    from semsearch.storage.labels import EntryFilter, LabelLog, as_record

    read_manifest(index)  # refuses what is no index
    with closing(LabelLog(index)) as log:
        judged, clicks = log.labels(EntryFilter(domain=domain)), log.clicks(EntryFilter(domain=domain))
    if qrels:
        number = write_qrels(path, [label for _, label in judged])
        err.print(f"{number} judgments written to {path}", soft_wrap=True)
        return
    found: list[tuple[int, Label | Click]] = [*judged, *clicks]
    records = [as_record(entry) for _, entry in sorted(found, key=lambda one: one[0])]
    if str(path) == "-":
        for record in records:
            sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
        return
    write_lines(path, records)
    err.print(f"{len(records)} entries written to {path}", soft_wrap=True)


@labels.command()
def withdraw(
    index: Index,
    source: Annotated[str | None, typer.Option(help="All that came with this key or import.")] = None,
    user: Annotated[str | None, typer.Option(help="All that this user said.")] = None,
    domain: Annotated[str | None, typer.Option(help="Only of this domain.")] = None,
    query: Annotated[str | None, typer.Option(help="Only of this query.")] = None,
    document: Annotated[str | None, typer.Option(help="Only of this document.")] = None,
    identity: Annotated[str | None, typer.Option("--id", help="Only the entry of this id.")] = None,
) -> None:
    """Have entries count no more; the log keeps that they were there. Adapt the domains again afterwards.

    Example: semsearch labels withdraw index/python --source example
    """
    from semsearch.storage.generations import read_manifest
    from semsearch.storage.labels import EntryFilter, LabelLog

    chosen = EntryFilter(id=identity, domain=domain, query=query, document=document, user=user, source=source)
    if chosen.empty:
        raise typer.BadParameter("say which: by --source, --user, --domain, --query, --document or --id")
    read_manifest(index)
    with closing(LabelLog(index)) as log:
        gone: dict[str, int] = {}
        for kind in ("label", "click"):
            for name, numbers in log.retract(kind, chosen, source="command line").items():
                gone[name] = gone.get(name, 0) + len(numbers)
    out.print(f"{sum(gone.values())} withdrawn" + (f"; adapt again: {', '.join(gone)}" if gone else ""), markup=False)


@domains.command("list")
def list_domains(
    index: Index, as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False
) -> None:
    """Every domain: its parent, what serves it, from how many labelled queries, and why.

    Example: semsearch domains list index/python
    """
    from semsearch.storage.labels import LabelLog

    store = _store(index)
    with closing(LabelLog(index)) as log:
        counts = log.counts()
    table = Table()
    for column in ("domain", "parent", "version", "learner", "labels", "clicks", "why"):
        table.add_column(column)
    for name in sorted({*store.names(), *counts}):
        try:
            record = store.record(name)
        except StateError as error:
            err.print(f"[yellow]{name}[/yellow]: {error}", soft_wrap=True)
            continue
        serving, held = store.domain_adapter(name), counts.get(name, {"label": 0, "click": 0})
        if as_json:
            value = {**record.model_dump(mode="json"), **held, "served_by": serving.domain, "reason": serving.reason}
            sys.stdout.write(json.dumps(value) + "\n")
        else:
            numbers = (str(serving.version or ""), serving.learner, str(held["label"]), str(held["click"]))
            table.add_row(Text(name), Text(record.parent or ""), *numbers, Text(serving.reason))
    if not as_json:
        out.print(table)


@domains.command()
def history(index: Index, domain: Named) -> None:
    """Every version of a domain, and why it came about.

    Example: semsearch domains history index/python plain
    """
    record = _store(index).record(domain)
    for version in record.versions:
        out.print(
            Text.assemble(
                (f"{version.number:4}  ", "bold"), f"{version.at:%Y-%m-%d %H:%M} {version.event}: {version.explanation}"
            ),
            soft_wrap=True,
        )
    if not record.versions:
        err.print("nothing was ever decided for this domain")


@domains.command()
def rollback(
    index: Index,
    domain: Named,
    to: Annotated[
        int | None, typer.Option(min=0, help="Version to return to. \\[default: the one before]", show_default=False)
    ] = None,
) -> None:
    """Serve a domain with an earlier version again; the history goes on.

    Example: semsearch domains rollback index/python plain
    """
    with _history(index) as found:
        _print(found.rollback(domain, to))


@domains.command()
def reset(index: Index, domain: Named) -> None:
    """Serve a domain with nothing of its own; its labels and its history stay.

    Example: semsearch domains reset index/python plain
    """
    with _history(index) as found:
        version = found.reset(domain)
    if version is None:
        out.print("there was nothing to reset")
    else:
        _print(version)


@domains.command()
def parent(
    index: Index,
    domain: Named,
    above: Annotated[str | None, typer.Argument(help="The domain to inherit from; none where left out.")] = None,
) -> None:
    """Have a domain inherit from another one: user from team, team from everybody.

    Example: semsearch domains parent index/python alice team
    """
    _store(index).set_parent(domain, above)
    out.print(f"{domain} inherits from {above or 'nobody'}", markup=False)


@domains.command("export")
def export_state(index: Index, domain: Named, path: Annotated[Path, typer.Argument(help="File to write.")]) -> None:
    """Write the state that serves a domain to a file.

    Example: semsearch domains export index/python plain plain.safetensors
    """
    from semsearch.system.files import atomic_write

    with _history(index) as found:
        content = found.export_state(domain)
    try:
        with atomic_write(path) as unfinished:
            unfinished.write_bytes(content)
    except OSError as error:
        raise StateError(f"{path} cannot be written ({error.strerror}): choose another place") from error
    err.print(f"{len(content) / 1024:.0f} KiB written to {path}", soft_wrap=True)


@domains.command("import")
def import_state(
    index: Index, domain: Named, path: Annotated[Path, typer.Argument(help="A file from export.")]
) -> None:
    """Serve a domain with an exported state.

    Example: semsearch domains import index/python plain plain.safetensors
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StateError(f"{path} cannot be read ({error.strerror})") from error
    with _history(index) as found:
        _print(found.import_state(domain, content))


@contextmanager
def opened(index: Path, weights: Path | None, *, device: str, threads: int | None) -> Iterator[DomainRegistry]:
    """The domains of an index with its encoder and the learners' weights; says so where those do not fit."""
    with err.status("opening the index and its encoder"):
        from semsearch.adapters.weights import DEFAULT_WEIGHTS, Weights
        from semsearch.domains.registry import DomainRegistry as Opened
        from semsearch.domains.registry import adapt_function
        from semsearch.search.engine import SearchEngine

        loaded = Weights.open(weights or DEFAULT_WEIGHTS)
        engine = SearchEngine.open(index, device=device, threads=threads)
    with closing(engine):
        adapt_with, reason = adapt_function(loaded, engine)
        if adapt_with is None:
            err.print(f"[yellow]judged queries are memorized, nothing is learned[/yellow]: {reason}", soft_wrap=True)
        with closing(Opened(index, engine, adapt_with)) as registry:
            yield registry


@contextmanager
def _history(index: Path) -> Iterator[VersionHistory]:
    """The versions of an index's domains, without its encoder."""
    from semsearch.domains.versions import VersionHistory as Opened
    from semsearch.storage.generations import read_manifest
    from semsearch.storage.labels import LabelLog

    dimension = read_manifest(index).encoder.dimension
    with closing(LabelLog(index)) as log:
        yield Opened(_store(index), log, dimension=dimension)


def _store(index: Path) -> DomainStore:
    from semsearch.storage.domains import DomainStore as Store
    from semsearch.storage.generations import read_manifest

    return Store(index, encoder_sha256=read_manifest(index).encoder.weights_sha256)


@contextmanager
def _documents(index: Path) -> Iterator[Corpus]:
    """The documents of an index, without its encoder; they stay while they are read."""
    from semsearch.storage.corpus import Corpus as Opened
    from semsearch.storage.generations import open_current

    with closing(open_current(index)) as generation:
        yield Opened.open(generation, threads=1)


def read(path: Path, *, domain: str, source: str) -> list[Label | Click]:
    """Labels and clicks of a file or a folder, as `read_entries` reads them."""
    from semsearch.domains.exchange import read_entries

    return read_entries(path, domain=domain, source=source)


def labelled(labels: Path | None, *, domain: str) -> list[Label | Click]:
    """What --labels names, if it was given; the file's or folder's name is the source."""
    return [] if labels is None else read(labels, domain=domain, source=labels.resolve().name)


def check(judged: Sequence[Label | Click], store: Corpus) -> None:
    """Raise LabelError where an entry speaks of a document that is not there."""
    if gone := missing(store, judged):
        raise LabelError(
            f"the query {gone[0].query[:60]!r} is judged on {gone[0].document!r}, which the index does not have"
        )


def missing(store: Corpus, entries: Sequence[Label | Click]) -> list[Label | Click]:
    """Entries that speak of documents that are not there."""
    named = [entry for entry in entries if entry.document is not None]
    known = store.existing_ids(str(entry.document) for entry in named)
    return [entry for entry in named if entry.document not in known]


def _print(version: Version) -> None:
    out.print(f"version {version.number}: {version.explanation}", soft_wrap=True, markup=False)
