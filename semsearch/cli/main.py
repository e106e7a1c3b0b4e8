"""The command line: options in, exit codes out; whatever it does, a library function does.

Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

import semsearch
from semsearch.cli import domains as feedback_commands
from semsearch.cli import index as index_commands
from semsearch.cli import tune as tuning_commands
from semsearch.cli.metalearn import evaluate, learn
from semsearch.cli.options import Device, FilterOption, Threads, WeightsFile, err, out, parsed_filter
from semsearch.encoders.runtime import RuntimeChoice
from semsearch.errors import IndexFolderError, QueryError, SemsearchError
from semsearch.server.schemas.search import Limits
from semsearch.types import DEFAULT_DOMAIN, Mode, Query, Sort

# torch and faiss take seconds to import: every command imports what it needs, so that --help answers at once
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

Build an index from files, serve it as a page and as a JSON endpoint, or search it right here.

    [bold]semsearch demo[/bold]                           index Python's documentation, serve it
    [bold]semsearch build docs/ --out index/docs[/bold]   index a folder
    [bold]semsearch serve index/docs[/bold]               serve it at http://127.0.0.1:8080
    [bold]semsearch search "how do I reset it"[/bold]     search it here
    [bold]semsearch adapt index/docs --labels mine/[/bold]  learn from labelled queries

Every option can also be set in the environment, as --help of each command shows.""",
)

DEMO = "python"
DEFAULT_PORT = 8080

Host = Annotated[
    str,
    typer.Option(envvar="SEMSEARCH_HOST", help="Address to listen at; beyond this machine: 0.0.0.0 or ::."),
]
Port = Annotated[int, typer.Option(min=0, max=65535, envvar="SEMSEARCH_PORT", help="0 takes a free one.")]
WriteKey = Annotated[
    list[str] | None,
    typer.Option(
        envvar="SEMSEARCH_WRITE_KEY",
        help="NAME=KEY: who sends this key may label, adapt and undo; may be repeated, in the environment with spaces"
        " between. Others see the command line: prefer the environment. \\[default: none wanted, on loopback only]",
        show_default=False,
    ),
]
ReadOnly = Annotated[
    bool, typer.Option("--read-only", envvar="SEMSEARCH_READ_ONLY", help="Take no labels, change no domain.")
]
AdaptAfter = Annotated[
    int,
    typer.Option(
        min=0,
        envvar="SEMSEARCH_ADAPT_AFTER",
        help="New labels and clicks after which a domain is adapted unasked; 0: never.",
    ),
]

DEFAULTS = Limits()


def _limit(name: str) -> Any:
    """An option for one of the server's limits."""
    return typer.Option(envvar=f"SEMSEARCH_{name.upper()}", help=f"{Limits.model_fields[name].description}.")


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        app()
    except SemsearchError as error:
        err.print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # whoever read our output has had enough
        sys.stderr.close()
        sys.exit(0)


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(semsearch.__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_print_version, is_eager=True)
    ] = False,
) -> None: ...


@app.command()
def serve(
    indexes: Annotated[list[Path], typer.Argument(help="Folders of built indexes; the first one is the default.")],
    host: Host = "127.0.0.1",
    port: Port = DEFAULT_PORT,
    trusted_host: Annotated[
        list[str] | None,
        typer.Option(
            envvar="SEMSEARCH_TRUSTED_HOST",
            help="Host name by which the server may be called; may be repeated. "
            "\\[default: this machine's own names when listening at loopback, else any]",
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
    write_key: WriteKey = None,
    read_only: ReadOnly = False,
    adapt_after: AdaptAfter = 8,
    click_exponent: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=3,
            envvar="SEMSEARCH_CLICK_EXPONENT",
            help="Position bias of clicks: the result at position r is looked at with probability (1/r)^this."
            " \\[default: estimated from the log]",
            show_default=False,
        ),
    ] = None,
    weights: WeightsFile = None,
    runtime: Annotated[
        RuntimeChoice,
        typer.Option(
            envvar="SEMSEARCH_RUNTIME",
            help="What encodes queries on a CPU. auto: the fastest that gives what torch gives; fastest: in 8-bit"
            " integers where this processor gains from them, which changes some results.",
        ),
    ] = "auto",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Serve indexes: the page at /, the endpoint at /api/, metrics at /metrics.

    Example: semsearch serve index/help index/python --port 9000
    """
    from semsearch.domains.position_bias import PositionBias
    from semsearch.server.security import WriteKeys

    keys = WriteKeys.parsed(write_key or [], refuse_all=read_only)
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
    )
    _serve(
        indexes,
        host=host,
        port=port,
        limits=limits,
        trusted_hosts=trusted_host,
        keys=keys,
        weights=weights,
        after=adapt_after,
        bias=None if click_exponent is None else PositionBias(click_exponent, spread=0.0),
        runtime=runtime,
        device=device,
        threads=threads,
    )


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to search for, in your own words.")],
    index: Annotated[
        Path | None,
        typer.Option(
            "--index",
            "-i",
            envvar="SEMSEARCH_INDEX",
            help="Folder of the index. \\[default: the only one in ./index]",
            show_default=False,
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many documents to show.")] = 10,
    offset: Annotated[int, typer.Option(min=0, help="How many of the best to leave out.")] = 0,
    domain: Annotated[str, typer.Option(help="Whose adaptation applies.")] = DEFAULT_DOMAIN,
    mode: Annotated[
        Mode | None,
        typer.Option(
            help="What to go by: meaning, words or both. \\[default: what the index does]", show_default=False
        ),
    ] = None,
    condition: FilterOption = None,
    passages: Annotated[int, typer.Option(min=1, max=10, help="How many passages to show of each document.")] = 1,
    fold: Annotated[bool, typer.Option("--fold", help="Show what is nearly the same only once.")] = False,
    sort: Annotated[
        str | None,
        typer.Option(
            help="Metadata field to put the 100 best in order by, or `title`; a `-` before it to fall. \\[default: best"
            " first]",
            show_default=False,
        ),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say what each score is made of.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Search an index and print what is found; words count only where what stands in quotation marks is there.

    Example: semsearch search "split text at commas" --index index/python -k 5 --filter "kind = method"
    """
    try:
        asked = Query(
            query,
            k,
            offset,
            domain,
            mode=mode,
            filter=parsed_filter(condition),
            passages=passages,
            collapse=fold,
            sort=None if sort is None else Sort.parse(sort),
        )
    except QueryError as error:
        raise typer.BadParameter(str(error), param_hint="QUERY") from None
    folder = index or _only_index(Path("index"))
    with err.status("loading the encoder"):
        from semsearch.search.engine import SearchEngine

        engine = SearchEngine.open(folder, device=device, threads=threads)
    with closing(engine):
        [outcome] = engine.search([asked], explain=explain)
    attributions = outcome.attributions or [()] * len(outcome.hits)
    for rank, (hit, words) in enumerate(zip(outcome.hits, attributions, strict=True), start=offset + 1):
        if as_json:
            line = {**_as_json(hit), "token_attributions": dict(words)}
            sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
        else:
            _print_hit(rank, hit, query, words if explain else None)
    if not outcome.hits:
        err.print("no more results")


app.command()(index_commands.build)
app.command()(index_commands.update)
app.command()(index_commands.delete)
app.command()(index_commands.compact)
app.command()(index_commands.check)
app.command()(index_commands.info)
app.command()(feedback_commands.adapt)
app.command()(feedback_commands.compare)
app.command()(tuning_commands.tune)
app.add_typer(feedback_commands.labels, name="labels")
app.add_typer(feedback_commands.domains, name="domains")
app.command()(learn)
app.command()(evaluate)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the index is, or is to be built.")] = Path("index") / DEMO,
    host: Host = "127.0.0.1",
    port: Port = DEFAULT_PORT,
    write_key: WriteKey = None,
    read_only: ReadOnly = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Index the documentation of this Python, unless that is done already, and serve it.

    Nothing is downloaded: the texts are the docstrings of the Python that runs this.
    """
    from semsearch.ingest.recipe import Recipe
    from semsearch.server.security import WriteKeys
    from semsearch.storage.generations import is_index, read_manifest

    keys = WriteKeys.parsed(write_key or [], refuse_all=read_only)
    built = is_index(folder)
    try:
        if built:
            read_manifest(folder)
    except IndexFolderError as error:
        err.print(f"building anew: {error}", soft_wrap=True)
        built = False
    if not built:
        index_commands.build_recipe(Recipe.read(_demo_recipe()), folder, device=device, threads=threads)
    _serve([folder], host=host, port=port, keys=keys, device=device, threads=threads)


def _serve(
    folders: list[Path],
    *,
    host: str,
    port: int,
    keys: WriteKeys,
    limits: Limits = DEFAULTS,
    trusted_hosts: list[str] | None = None,
    weights: Path | None = None,
    after: int = 8,
    bias: PositionBias | None = None,
    runtime: RuntimeChoice = "auto",
    device: str,
    threads: int | None,
) -> None:
    with err.status("opening the index and its encoder"):
        from semsearch.adapters.weights import DEFAULT_WEIGHTS
        from semsearch.server.run import check_reach, open_indexes
        from semsearch.server.run import serve as serve_indexes
        from semsearch.server.runtime.service import AdaptationSettings

        check_reach(host, keys)
        adaptation = AdaptationSettings(weights or DEFAULT_WEIGHTS, own_process=True, after=after, bias=bias)
        engines = open_indexes(folders, device=device, threads=threads, runtime=runtime)

    names = ", ".join(engines)

    def announce(address: str) -> None:
        err.print(f"[bold green]serving[/bold green] {escape(names)} at [bold]{address}[/bold]  (Ctrl-C ends it)")

    serve_indexes(
        engines,
        host=host,
        port=port,
        limits=limits,
        trusted_hosts=trusted_hosts,
        keys=keys,
        adaptation=adaptation,
        announce=announce,
    )


def _only_index(parent: Path) -> Path:
    from semsearch.storage.generations import is_index

    found = sorted(path for path in parent.glob("*") if is_index(path))
    if len(found) == 1:
        return found[0]
    there = (
        f"{len(found)} indexes are in {parent}: {', '.join(path.name for path in found)}"
        if found
        else f"no index is in {parent}"
    )
    raise typer.BadParameter(f"{there}; name one with --index FOLDER", param_hint="--index")


def _demo_recipe() -> Path:
    """The demo's recipe: inside the installed package, or in a checkout's folder of recipes."""
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


def _print_hit(place: int, hit: Hit, query: str, carried: Sequence[tuple[str, float]] | None) -> None:
    """carried: words that made it similar; None where that was not asked."""
    from semsearch.text.snippets import snippet

    out.print(Text.assemble((f"{place:3}. ", "dim"), (hit.title or hit.id, "bold"), (f"  {hit.score:.3f}", "cyan")))
    for passage in (hit.passage, *hit.more_passages):
        words = Text()
        for text, marked in snippet(passage.text, query).segments:
            words.append(text, style="bold yellow" if marked else "")
        out.print(Padding(words, (0, 0, 0, 5)))
    if hit.duplicates:
        out.print(Padding(Text(f"nearly the same: {', '.join(hit.duplicates)}", style="dim"), (0, 0, 0, 5)))
    if carried is not None and hit.score_breakdown is not None:
        out.print(Padding(Text(_made_of(hit.score_breakdown, carried), style="dim"), (0, 0, 0, 5)))
    out.print(Padding(Text(hit.source, style="dim"), (0, 0, 1, 5)))


def _made_of(parts: ScoreBreakdown, carried: Sequence[tuple[str, float]]) -> str:
    said = []
    if parts.similarity is not None:
        words = ", ".join(f"{word} {share:+.3f}" for word, share in carried[:8])
        said.append(f"similarity {parts.similarity:.3f}, place {parts.dense_rank or '-'}" + f" ({words})" * bool(words))
    if parts.lexical_score is not None:
        said.append(f"words {parts.lexical_score:.2f}, place {parts.lexical_rank or '-'}")
    return "; ".join(said)
