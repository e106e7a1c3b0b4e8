"""The command line: parses options, calls the library, prints results and sets the exit code.

Exit codes: 0 success, 1 the work failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing
from dataclasses import asdict
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

import semsearch
from semsearch.cli import domains as domain_commands
from semsearch.cli import index as index_commands
from semsearch.cli import tune as tuning_commands
from semsearch.cli.metalearn import evaluate, learn
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
from semsearch.encoders.runtime import RuntimeChoice
from semsearch.errors import EncoderError, IndexFolderError, QueryError, SemsearchError
from semsearch.server.schemas.search import Limits
from semsearch.types import DEFAULT_DOMAIN, Mode, Query, Sort

# torch and faiss take seconds to import: each command imports what it needs, so that --help answers at once
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from semsearch.domains.position_bias import PositionBias
    from semsearch.server.security import WriteKeys
    from semsearch.types import Hit, ScoreBreakdown

app = typer.Typer(
    name="semsearch",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Semantic search that learns to adapt.

Build an index from files, then serve it as a web page and a JSON API, or search it from the terminal.

    [bold]semsearch demo[/bold]                             index Python's documentation and serve it
    [bold]semsearch build docs/ --out index/docs[/bold]     build an index of a folder
    [bold]semsearch serve index/docs[/bold]                 serve it at http://127.0.0.1:8080
    [bold]semsearch search "how do I reset it"[/bold]       search it from the terminal
    [bold]semsearch adapt index/docs --labels mine/[/bold]  improve its ranking with labelled queries

Many options can also be set by environment variables; --help of each command names them.""",
)

DEMO = "python"
DEMO_FIRST = 1_000
"""Documents of the demo that are indexed before it is served: those of the most used modules."""
DEFAULT_PORT = 8080

Host = Annotated[
    str,
    typer.Option(envvar="SEMSEARCH_HOST", help="Address to listen on; 0.0.0.0 or :: accepts other machines."),
]
Port = Annotated[
    int, typer.Option(min=0, max=65535, envvar="SEMSEARCH_PORT", help="Port to listen on; 0 picks a free one.")
]
WriteKey = Annotated[
    list[str] | None,
    typer.Option(
        envvar="SEMSEARCH_WRITE_KEY",
        help="NAME=KEY: requests with this key may add labels, change documents, adapt and roll back. May be repeated;"
        " separated by spaces in the environment variable. Other users can read the command line: prefer the variable."
        " \\[default: no key is needed, and only this machine can connect]",
        show_default=False,
    ),
]
LogRequests = Annotated[
    bool,
    typer.Option(
        envvar="SEMSEARCH_LOG_REQUESTS", help="Log each request's route, status and duration, never what was searched."
    ),
]
ReadOnly = Annotated[
    bool,
    typer.Option("--read-only", envvar="SEMSEARCH_READ_ONLY", help="Refuse every request that would change anything."),
]
AdaptAfter = Annotated[
    int,
    typer.Option(
        min=0,
        envvar="SEMSEARCH_ADAPT_AFTER",
        help="Number of new labels and clicks after which a domain is adapted automatically; 0: never.",
    ),
]

DEFAULTS = Limits()


def _limit(name: str) -> Any:
    """Return the option for one of the server's limits, with the help text and the bounds of its field."""
    field = Limits.model_fields[name]
    least = next((bound.ge for bound in field.metadata if hasattr(bound, "ge")), None)
    most = next((bound.le for bound in field.metadata if hasattr(bound, "le")), None)
    return typer.Option(min=least, max=most, envvar=f"SEMSEARCH_{name.upper()}", help=f"{field.description}.")


def main() -> None:
    """Run the command line and exit with its code."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        # a terminal's encoding may lack characters of the documents
        sys.stdout.reconfigure(errors="replace")
    try:
        app()
    except SemsearchError as error:
        err.print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # the reader of our output, such as `head`, has closed the pipe
        sys.stderr.close()
        sys.exit(0)


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(semsearch.__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None: ...


@app.command()
def serve(
    indexes: Annotated[
        list[Path], typer.Argument(help="Folders of built indexes; requests that name no index search the first.")
    ],
    host: Host = "127.0.0.1",
    port: Port = DEFAULT_PORT,
    trusted_host: Annotated[
        list[str] | None,
        typer.Option(
            envvar="SEMSEARCH_TRUSTED_HOST",
            help="Host name that requests may address the server by; may be repeated. "
            "\\[default: the names of this machine when listening on loopback, otherwise any]",
            show_default=False,
        ),
    ] = None,
    root_path: Annotated[
        str,
        typer.Option(
            envvar="SEMSEARCH_ROOT_PATH",
            help="Path at which a reverse proxy serves the server, such as /search; the proxy may pass it on or remove"
            " it. \\[default: none]",
            show_default=False,
        ),
    ] = "",
    trusted_proxy: Annotated[
        str | None,
        typer.Option(
            envvar="SEMSEARCH_TRUSTED_PROXY",
            help="IP address of a reverse proxy whose X-Forwarded-Prefix, -Host and -Proto are used; * for any address."
            " \\[default: none]",
            show_default=False,
        ),
    ] = None,
    max_body_bytes: Annotated[int, _limit("max_body_bytes")] = DEFAULTS.max_body_bytes,
    max_query_chars: Annotated[int, _limit("max_query_chars")] = DEFAULTS.max_query_chars,
    max_queries: Annotated[int, _limit("max_queries")] = DEFAULTS.max_queries,
    max_k: Annotated[int, _limit("max_k")] = DEFAULTS.max_k,
    max_offset: Annotated[int, _limit("max_offset")] = DEFAULTS.max_offset,
    max_batch: Annotated[int, _limit("max_batch")] = DEFAULTS.max_batch,
    max_waiting: Annotated[int, _limit("max_waiting")] = DEFAULTS.max_waiting,
    deadline_s: Annotated[float, _limit("deadline_s")] = DEFAULTS.deadline_s,
    query_cache_size: Annotated[int, _limit("query_cache_size")] = DEFAULTS.query_cache_size,
    suggestions: Annotated[bool, _limit("suggestions")] = DEFAULTS.suggestions,
    keep_queries: Annotated[int, _limit("keep_queries")] = DEFAULTS.keep_queries,
    write_key: WriteKey = None,
    read_only: ReadOnly = False,
    adapt_after: AdaptAfter = 8,
    click_exponent: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=3,
            envvar="SEMSEARCH_CLICK_EXPONENT",
            help="Position bias of clicks: users look at the result at position r with probability (1/r)^N, where N is"
            " this value. \\[default: estimated from the recorded clicks]",
            show_default=False,
        ),
    ] = None,
    weights: WeightsFile = None,
    runtime: Annotated[
        RuntimeChoice,
        typer.Option(
            envvar="SEMSEARCH_RUNTIME",
            help="Library that encodes queries on a CPU. auto: the fastest one with the results of torch; fastest: also"
            " 8-bit integers where they are faster on this processor, which changes some results.",
        ),
    ] = "auto",
    log_requests: LogRequests = True,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Serve one or more indexes over HTTP: the search page at /, the JSON API at /api/, metrics at /metrics.

    Example: semsearch serve index/help index/python --port 9000
    """
    from semsearch.domains.position_bias import PositionBias
    from semsearch.server.root_path import parse_root_path, parse_trusted_proxy
    from semsearch.server.security import WriteKeys, parse_trusted_host

    keys = WriteKeys.parse(write_key or [], refuse_all=read_only)
    limits = Limits(
        max_body_bytes=max_body_bytes,
        max_query_chars=max_query_chars,
        max_queries=max_queries,
        max_k=max_k,
        max_offset=max_offset,
        max_batch=max_batch,
        max_waiting=max_waiting,
        deadline_s=deadline_s,
        query_cache_size=query_cache_size,
        suggestions=suggestions,
        keep_queries=keep_queries,
    )
    _serve(
        indexes,
        host=host,
        port=port,
        limits=limits,
        trusted_hosts=[parse_trusted_host(host_name) for host_name in trusted_host or ()],
        root_path=parse_root_path(root_path),
        trusted_proxy=parse_trusted_proxy(trusted_proxy),
        keys=keys,
        weights=weights,
        after=adapt_after,
        bias=None if click_exponent is None else PositionBias(click_exponent, spread=0.0),
        runtime=runtime,
        log_requests=log_requests,
        device=device,
        threads=threads,
    )


def _parse_mode(text: str) -> Mode:
    """Parse --mode. `lexical`, the former name of `keyword`, is accepted."""
    try:
        return Mode(text.lower())
    except ValueError:
        names = ", ".join(mode.value for mode in Mode)
        raise typer.BadParameter(f"{text!r} is not a mode: choose one of {names}") from None


@app.command()
def search(
    text: Annotated[str, typer.Argument(metavar="QUERY", help="What to search for, in plain language.")],
    index: Annotated[
        Path | None,
        typer.Option(
            "--index",
            "-i",
            envvar="SEMSEARCH_INDEX",
            help="Folder of the index. \\[default: the only index in ./index]",
            show_default=False,
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of documents to show.")] = 10,
    offset: Annotated[int, typer.Option(min=0, help="Number of best documents to skip, for later pages.")] = 0,
    domain: Annotated[
        str, typer.Option(help="Domain (a group of users or queries) whose adaptation to apply.")
    ] = DEFAULT_DOMAIN,
    mode: Annotated[
        Mode | None,
        typer.Option(
            parser=_parse_mode,
            metavar="<semantic|keyword|hybrid>",
            help="semantic: compare meaning by embeddings; keyword: match words by BM25; hybrid: combine both."
            " \\[default: the mode that the index is set to]",
            show_default=False,
        ),
    ] = None,
    filter_text: FilterOption = None,
    passages: Annotated[int, typer.Option(min=1, max=10, help="Number of passages to show of each document.")] = 1,
    collapse: Annotated[bool, typer.Option("--collapse", help="Show near-duplicate documents only once.")] = False,
    former_collapse: Annotated[bool, typer.Option("--fold", hidden=True, help="Former name of --collapse.")] = False,
    sort: Annotated[
        str | None,
        typer.Option(
            help="Metadata field to sort the 100 best documents by, or `title`; a leading `-` sorts in descending"
            " order. \\[default: by score]",
            show_default=False,
        ),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            help="Least score of a document, on the scale of the mode's scores. \\[default: none]", show_default=False
        ),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show how each score is made up.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line, for programs.")] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Search an index and print the best documents. A phrase in quotation marks must occur word for word; one that no
    passage contains is searched as words.

    Example: semsearch search "split text at commas" --index index/python -k 5 --filter "kind = method"
    """
    try:
        query = Query(
            text,
            k,
            offset,
            domain,
            mode=mode,
            filter=parsed_filter(filter_text),
            passages=passages,
            collapse=collapse or former_collapse,
            sort=None if sort is None else Sort.parse(sort),
            min_score=min_score,
        )
    except QueryError as error:
        raise usage_error(error) from None
    folder = index or _only_index(Path("index"))
    with err.status("opening the index"):
        from semsearch.search.engine import SearchEngine

        engine = SearchEngine.open(folder, load_encoder=False, device=device, threads=threads)
    with closing(engine), err.status("searching"):
        failures: list[EncoderError] = []
        [outcome] = engine.search([query], explain=explain, correct=True, on_encoder_error=failures.append)
        adapter = engine.adapter.for_domain(domain)
    notes = [f"keyword search answered instead of hybrid search: {failure}" for failure in failures]
    if adapter.damage or (adapter.is_unknown and domain != DEFAULT_DOMAIN):
        notes.append(f"domain {domain!r} is searched without adaptation: {adapter.full_reason}")
    for note in (*notes, *outcome.notes):
        err.print(Text.assemble(("note: ", "yellow"), note), soft_wrap=True)
    for phrase in outcome.unmatched_phrases:
        err.print(escape(f'the phrase "{phrase}" was not found: its words were searched'), soft_wrap=True)
    if outcome.did_you_mean:
        err.print(Text.assemble("did you mean: ", (outcome.did_you_mean, "bold")), soft_wrap=True)
    if outcome.is_weak and outcome.hits:
        err.print("the best match is weak: nothing in this index may answer the query", soft_wrap=True)
    attributions = outcome.attributions or [()] * len(outcome.hits)
    for rank, (hit, shares) in enumerate(zip(outcome.hits, attributions, strict=True), start=offset + 1):
        if as_json:
            record = {**_as_json(hit), "token_attributions": dict(shares)}
            write_json(record)
        else:
            _print_hit(rank, hit, text, shares if explain else None)
    if not outcome.hits:
        err.print("no more results")


app.command()(index_commands.build)
app.command()(index_commands.update)
app.command()(index_commands.delete)
app.command()(index_commands.compact)
app.command()(index_commands.check)
app.command()(index_commands.info)
app.command()(domain_commands.adapt)
app.command()(domain_commands.compare)
app.command()(tuning_commands.tune)
app.add_typer(domain_commands.labels, name="labels")
app.add_typer(domain_commands.domains, name="domains")
app.command()(learn)
app.command()(evaluate)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder of the index; it is built there if it does not exist.")] = Path(
        "index"
    )
    / DEMO,
    host: Host = "127.0.0.1",
    port: Port = DEFAULT_PORT,
    write_key: WriteKey = None,
    read_only: ReadOnly = False,
    log_requests: LogRequests = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Index the documentation of this Python, unless the index exists, and serve it.

    The most used modules come first and can be searched within a minute; the rest is indexed while they are served.

    Downloads no documents: the texts are the docstrings of the Python that runs this command.
    """
    from semsearch.cli.completing import completing
    from semsearch.encoders.locate import locate
    from semsearch.encoders.onnx_cache import is_cached
    from semsearch.ingest.readers.sources import read
    from semsearch.ingest.recipe import Recipe
    from semsearch.server.security import WriteKeys
    from semsearch.storage.generations import is_index, read_manifest

    keys = WriteKeys.parse(write_key or [], refuse_all=read_only)
    built = is_index(folder)
    try:
        if built and read_manifest(folder).is_former:
            index_commands.compact(folder, device=device, threads=threads)
    except IndexFolderError as error:
        err.print(f"building the index again: {escape(str(error))}", soft_wrap=True)
        built = False
    path = _demo_recipe()

    def runtime_at_once(model: str) -> RuntimeChoice:
        """The runtime without exporting the model, which takes a minute: the process that adds the rest does it."""
        return "auto" if is_cached(locate(model)) else "torch"

    if not built:
        recipe = Recipe.read(path)
        first = islice(read(recipe.sources[0]), DEMO_FIRST)
        index_commands.build_recipe(
            recipe, folder, records=first, device=device, threads=threads, runtime=runtime_at_once(recipe.encoder.model)
        )
    manifest = read_manifest(folder)
    with ExitStack() as stack:
        runtime: RuntimeChoice = "auto"
        if manifest.documents <= DEMO_FIRST or len(manifest.segments) > 1 or manifest.needs_measuring:
            runtime = runtime_at_once(manifest.encoder.name)
            err.print(f"{manifest.documents:,} documents can be searched; the others are indexed meanwhile")
            options = ["--device", device, *(() if threads is None else ("--threads", str(threads)))]
            stack.enter_context(completing(folder, path, options, err))
        _serve(
            [folder],
            host=host,
            port=port,
            keys=keys,
            runtime=runtime,
            log_requests=log_requests,
            device=device,
            threads=threads,
        )


def _serve(
    folders: list[Path],
    *,
    host: str,
    port: int,
    keys: WriteKeys,
    limits: Limits = DEFAULTS,
    trusted_hosts: list[str] | None = None,
    root_path: str = "",
    trusted_proxy: str | None = None,
    weights: Path | None = None,
    after: int = 8,
    bias: PositionBias | None = None,
    runtime: RuntimeChoice = "auto",
    log_requests: bool,
    device: str,
    threads: int | None,
) -> None:
    with ExitStack() as stack:
        with err.status("opening the index and its encoder"):
            from semsearch.adapters.weights import DEFAULT_WEIGHTS, Weights
            from semsearch.server.run import bind, open_indexes
            from semsearch.server.run import serve as serve_indexes
            from semsearch.server.runtime.service import AdaptationSettings
            from semsearch.system.signals import ended_by_signals

            sockets = stack.enter_context(bind(host, port, keys))
            if weights is not None:
                Weights.open(weights)  # a file of another kind is refused before the model is loaded
            adaptation = AdaptationSettings(weights or DEFAULT_WEIGHTS, own_process=True, after=after, bias=bias)
            with ended_by_signals():
                engines = open_indexes(folders, device=device, threads=threads, runtime=runtime)

        names = ", ".join(engines)

        def announce(address: str) -> None:
            err.print(
                f"[bold green]serving[/bold green] {escape(names)} at [bold]{escape(address)}[/bold]  (Ctrl-C stops it)"
            )

        serve_indexes(
            engines,
            sockets,
            host=host,
            limits=limits,
            trusted_hosts=trusted_hosts,
            root_path=root_path,
            trusted_proxy=trusted_proxy,
            keys=keys,
            adaptation=adaptation,
            log_requests=log_requests,
            announce=announce,
        )


def _only_index(parent: Path) -> Path:
    from semsearch.storage.generations import is_index

    folders = sorted(path for path in parent.glob("*") if is_index(path))
    if len(folders) == 1:
        return folders[0]
    problem = (
        f"{len(folders)} indexes are in {parent}: {', '.join(path.name for path in folders)}"
        if folders
        else f"no index is in {parent}"
    )
    raise typer.BadParameter(f"{problem}; name one with --index FOLDER", param_hint="--index")


def _demo_recipe() -> Path:
    """Return the demo's recipe: inside the installed package, or in a checkout's folder of recipes."""
    package = Path(semsearch.__file__).parent
    installed = package / "recipes" / f"{DEMO}.toml"
    return installed if installed.is_file() else package.parent / "index" / f"{DEMO}.toml"


def _as_json(hit: Hit) -> Mapping[str, object]:
    return {
        "id": hit.id,
        "title": hit.title,
        "passage": hit.passage.text,
        "score": round(hit.score, 6),
        "score_breakdown": None if hit.score_breakdown is None else asdict(hit.score_breakdown),
        "source": hit.source,
        "metadata": dict(hit.metadata),
        "more_passages": [passage.text for passage in hit.more_passages],
        "duplicates": list(hit.duplicates),
    }


def _print_hit(rank: int, hit: Hit, query: str, attributions: Sequence[tuple[str, float]] | None) -> None:
    """Print one hit. attributions: (word, share of the cosine), largest first; None without --explain."""
    from semsearch.text.snippets import snippet

    out.print(Text.assemble((f"{rank:3}. ", "dim"), (hit.title or hit.id, "bold"), (f"  {hit.score:.3f}", "cyan")))
    for passage in (hit.passage, *hit.more_passages):
        line = Text()
        for text, marked in snippet(passage.text, query).segments:
            line.append(text, style="bold yellow" if marked else "")
        out.print(Padding(line, (0, 0, 0, 5)))
    if hit.duplicates:
        out.print(Padding(Text(f"near-duplicates: {', '.join(hit.duplicates)}", style="dim"), (0, 0, 0, 5)))
    if attributions is not None and hit.score_breakdown is not None:
        out.print(Padding(Text(_explanation(hit.score_breakdown, attributions), style="dim"), (0, 0, 0, 5)))
    out.print(Padding(Text(hit.source, style="dim"), (0, 0, 1, 5)))


def _explanation(score: ScoreBreakdown, attributions: Sequence[tuple[str, float]]) -> str:
    parts = []
    if score.similarity is not None:
        shares = ", ".join(f"{word} {share:+.3f}" for word, share in attributions[:8])
        parts.append(
            f"similarity {score.similarity:.3f}, rank {score.dense_rank or '-'}" + f" ({shares})" * bool(shares)
        )
    if score.lexical_score is not None:
        parts.append(f"BM25 {score.lexical_score:.2f}, rank {score.lexical_rank or '-'}")
    if score.vote_boost:
        parts.append(f"answers of similar labelled queries {score.vote_boost:+.3f}")
    if score.token_boost is not None:
        parts.append(f"tokens {score.token_boost:+.3f}")
    return "; ".join(parts)
