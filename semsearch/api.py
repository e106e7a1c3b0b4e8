"""The Python API: build, search, update and adapt an index from a program.

    index = Index.build("help", documents)
    hits = index.search("reset my pin", k=3)
    team = index.domain("team")
    team.label("reset my pin", "a")
    team.adapt()

It uses the same functions as the command line and the server.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias
from uuid import uuid4

import numpy.typing as npt

from semsearch.adapters.weights import DEFAULT_WEIGHTS, Weights
from semsearch.domains.recommending import Recommendations
from semsearch.domains.registry import DomainRegistry, DomainStatus, adapt_function
from semsearch.domains.suggesting import Suggestions
from semsearch.encoders.custom import TextEncoder, from_object
from semsearch.encoders.encoder import Encoder
from semsearch.errors import EncoderError, LabelError, QueryError
from semsearch.filters.expression import parse_optional_filter
from semsearch.filters.tree import Filter
from semsearch.ingest import updating
from semsearch.ingest.building import BuildEvent, build
from semsearch.ingest.documents import Documents, records_of
from semsearch.ingest.readers.files import Record
from semsearch.ingest.recipe import EncoderOptions, Recipe
from semsearch.ingest.updating import OpenIndex, UpdateResult
from semsearch.search.comparison import Comparison, compared
from semsearch.search.engine import Outcome, SearchEngine
from semsearch.storage.domains import Version
from semsearch.storage.entries import check_entry, click_position
from semsearch.storage.kept_queries import KeptQuery
from semsearch.storage.labels import EntryFilter
from semsearch.storage.left_out import LeftOut
from semsearch.storage.manifest import Manifest
from semsearch.types import DEFAULT_DOMAIN, Click, Document, Hit, Label, Mode, Query, Sort

log = logging.getLogger("semsearch")

FolderPath: TypeAlias = str | os.PathLike[str]
SOURCE = "python"
"""The `source` of labels and clicks from this API."""


@dataclass(frozen=True, slots=True)
class AdaptResult:
    """The result of adapting a domain."""

    adapted: bool
    """Whether the domain is served with a learned adaptation. If not, its judged queries may still be memorized."""
    improvement: float | None
    """Expected change of nDCG@10 on future queries; None if there are too few labels to estimate it."""
    interval: tuple[float, float] | None
    """The central 95% interval of the improvement."""
    reason: str
    """The decision and its reason, in a sentence."""
    labels: int
    """Number of judged queries that the decision is based on."""
    learner: str
    """Name of the learner that produced the state, `memory` or `none`."""
    version: int
    """Number of the domain's version that is served now; 0 if it has no labels or clicks."""

    @classmethod
    def _of(cls, version: Version) -> Self:
        verdict = version.verdict
        estimate, bounds = verdict.get("estimate"), verdict.get("interval")
        interval = None
        if isinstance(bounds, list) and all(isinstance(bound, float) for bound in bounds):
            low, high = (float(str(bound)) for bound in bounds)
            interval = (low, high)
        return cls(
            adapted=bool(verdict.get("adapted")),
            improvement=float(estimate) if isinstance(estimate, float) and interval is not None else None,
            interval=interval,
            reason=version.explanation,
            labels=version.labels,
            learner=version.learner,
            version=version.number,
        )


class Domain:
    """A population of queries over an index, with its own labels and adaptation. Use `Index.domain`."""

    def __init__(self, index: Index, name: str) -> None:
        """Use the domain of this name. Raises StateError if the name is not valid."""
        self.name = name
        self._index = index
        index._registry.store.check_name(name)

    def label(self, query: str, document: str, relevance: float = 1.0, *, user: str = "") -> None:
        """Label how relevant a document is to a query.

        document: its id. relevance: 0 is not relevant, higher is more relevant. user: your name for the annotator.

        Raises LabelError if the index has no such document, the query is blank, or a value is not valid: the relevance
        is a number from 0 to 1000.
        """
        self.label_many([(query, document, relevance)], user=user)

    def label_many(self, labels: Iterable[tuple[str, str] | tuple[str, str, float]], *, user: str = "") -> int:
        """Add many labels, all or none, and return their number. Raises LabelError as `label` does.

        labels: (query, document id) or (query, document id, relevance) each.
        """
        now = datetime.now(UTC)
        entries = []
        for query, document, *rest in labels:
            if not query.strip():
                raise LabelError(f"a label of document {document!r} has a blank query: give the text of the query")
            relevance = _relevance(document, rest[0]) if rest else 1.0
            entries.append(Label(uuid4().hex, self.name, query, document, relevance, user, SOURCE, now))
        return self._append(entries)

    def click(
        self,
        query: str,
        document: str | None,
        *,
        shown: Sequence[str] = (),
        position: int | None = None,
        user: str = "",
    ) -> None:
        """Add a click on a document of a result list.

        document: id of the clicked document; None if none was clicked. shown: ids of the result list, best first.
        position: rank of the clicked document, from 1; by default its rank in `shown`. user: your name for the user.

        Raises LabelError if the index has no such document, if its rank is given by neither `position` nor `shown`, or
        if a value is not valid.
        """
        now = datetime.now(UTC)
        position = click_position(document, position, shown)
        self._append([Click(uuid4().hex, self.name, query, document, position, tuple(shown), user, SOURCE, now)])

    def adapt(self) -> AdaptResult:
        """Adapt the domain to all its labels and clicks, or decline with a reason.

        Later searches of the domain use the result. Raises LabelError, StateError, StorageError, WeightsError.
        """
        return AdaptResult._of(self._index._registry.adapt(self.name))

    def search(self, query: str, k: int = 10, **options: object) -> list[Hit]:
        """As `Index.search`, for this domain."""
        return self._index.search(query, k, domain=self.name, **options)  # type: ignore[arg-type]

    def compare(self, query: str, k: int = 10) -> Comparison:
        """Return the first k documents without and with the domain's adaptation."""
        [outcome] = self._index.execute([compared(Query(query, k, domain=self.name))])
        return Comparison.of(outcome, k)

    def recommend(self, k: int = 10, *, diversity: float = 0.3) -> Recommendations | None:
        """Return k documents similar to those that were labelled as relevant or clicked, without these.

        diversity: from 0 (the nearest documents) to 1 (documents unlike each other). None if the domain has no relevant
        documents.
        """
        return self._index._registry.recommend(self.name, k, diversity=diversity)

    def suggest(self, k: int = 5, *, results: int = 5, query: str | None = None) -> Suggestions:
        """Suggest which queries to label next, and which of their results to mark.

        Of the queries that were clicked for or that a server kept (`semsearch serve --keep-queries`), those without a
        label: popular ones that are unlike the labelled ones and that the index's rankings disagree on. Without any,
        `reason` says why. query: suggest results of this query only, those without a label.

        Raises QueryError if k or `results` is not from 1 to 50 or the query is empty.
        """
        return self._index._registry.suggest(self.name, k, results=results, query=query)

    def kept_queries(self) -> list[KeptQuery]:
        """Return the queries that a server kept, the one that was asked last first. Raises StateError if damaged."""
        return self._index._registry.kept.queries(self.name)

    def forget_queries(self) -> bool:
        """Delete the queries that a server kept, and return whether there were any."""
        return self._index._registry.kept.forget(self.name)

    def labels(self) -> list[Label]:
        """Return the labels that are not retracted, oldest first."""
        return [label for _, label in self._index._registry.log.labels(EntryFilter(domain=self.name))]

    def status(self) -> DomainStatus:
        """Return the numbers of labels and clicks, the versions, and the labels that are not adapted to yet."""
        return self._index._registry.status(self.name)

    def rollback(self, to: int | None = None) -> Version:
        """Serve an earlier version again, by default the previous one. Raises StateError if there is none."""
        return self._index._registry.rollback(self.name, to)

    def reset(self) -> Version | None:
        """Serve the domain without adaptation and keep its labels and versions. None if it had no adaptation."""
        return self._index._registry.reset(self.name)

    def _append(self, entries: Sequence[Label | Click]) -> int:
        """Store entries, all or none, and return the number of new ones. Raises LabelError for an invalid one."""
        for entry in entries:
            check_entry(entry)
        doc_ids = [entry.document for entry in entries if entry.document is not None]
        known = self._index._engine.corpus.existing_ids(doc_ids)
        missing = [doc_id for doc_id in doc_ids if doc_id not in known]
        if missing:
            raise LabelError(f"the index has no document {missing[0]!r}: label documents by their ids")
        return self._index._registry.log.append(entries)


def _relevance(document: object, value: object) -> float:
    """Return a relevance as a number. Raises LabelError."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise LabelError(f"the relevance of {document!r} is {value!r:.40}: give a number from 0") from None


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """A description of an index."""

    folder: Path
    manifest: Manifest

    @property
    def documents(self) -> int:
        """Number of documents."""
        return self.manifest.documents

    @property
    def passages(self) -> int:
        """Number of passages."""
        return self.manifest.passages

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """What could not be read of the input of the build and of later updates, with reasons."""
        return self.manifest.left_out

    def __str__(self) -> str:
        manifest = self.manifest
        return (
            f"{manifest.title}: {manifest.documents:,} documents in {manifest.passages:,} passages,"
            f" {len(manifest.segments)} segment{'s' * (len(manifest.segments) != 1)};"
            f" encoder {manifest.encoder.name}, {manifest.encoder.dimension} dimensions; {manifest.search} search;"
            f" in {self.folder}"
        )


class Index:
    """An index on disk, opened with its encoder. Use `Index.build` or `Index.open`.

    All methods are thread-safe; changes and adaptations run one after another.
    """

    def __init__(
        self,
        engine: SearchEngine,
        *,
        weights: Path | None = None,
        temporary: Path | None = None,
    ) -> None:
        """Use an open engine whose index is on disk.

        weights: a file that `semsearch learn` wrote; by default the one that comes with semsearch. temporary: a folder
        to remove when the index is closed.
        """
        assert engine.folder is not None
        self.folder = engine.folder
        self._engine = engine
        self._temporary = temporary
        adapt, self._weights_problem = adapt_function(Weights.open(weights or DEFAULT_WEIGHTS), engine)
        self._registry = DomainRegistry(engine.folder, engine, adapt)
        self._finalizer = weakref.finalize(self, _close, self._registry, temporary)

    @classmethod
    def build(
        cls,
        folder: FolderPath | None = None,
        documents: Documents | Recipe | None = None,
        *,
        title: str = "",
        encoder: str | TextEncoder | Encoder | None = None,
        vectors: npt.ArrayLike | None = None,
        strict: bool | None = None,
        max_bad_share: float | None = None,
        weights: FolderPath | None = None,
        device: str = "auto",
        threads: int | None = None,
    ) -> Self:
        """Build an index and open it.

        folder: where to write the index; by default a temporary folder, which is removed when the index is closed.
        documents: mappings such as {"id": "a", "text": "…", "title": "…", "metadata": {…}}, `Document` objects, paths
        of files and folders, any iterable of these; or a recipe, also by the path of its .toml file.
        title: shown above the search page; by default the recipe's, else the folder's name.
        encoder: name or folder of a sentence-transformers model, or any object with `encode_queries`,
        `encode_documents` and `dimension`; by default the recipe's, else all-MiniLM-L6-v2.
        vectors: (n, dim), one from this encoder for each document, in their order; then nothing is encoded, and every
        document is one passage.
        strict: True makes the first bad record an error, False leaves out any number of them. By default an invalid
        mapping or `Document` is an error, and what cannot be read of files is left out up to `max_bad_share`; `info`
        says what was left out, and why. A recipe has its own setting.
        max_bad_share: from 0 to 1, the largest share of the rows of a table, or of the files of a folder of 20 or more,
        that may be bad; by default the recipe's, else 0.1.
        weights: a file that `semsearch learn` wrote; by default the one that comes with semsearch.

        An earlier index in the folder stays in use until the new one is complete. Raises InputError naming the document
        that cannot be indexed, or the files of which too much cannot be read, RecipeError, EncoderError,
        IndexFolderError.
        """
        opened = _encoder(encoder)
        temporary = None
        if folder is None:
            temporary = Path(tempfile.mkdtemp(prefix="semsearch-"))
            folder = temporary / "index"
        try:
            for _ in cls.building(
                folder,
                documents,
                title=title,
                encoder=opened or encoder,
                vectors=vectors,
                strict=strict,
                max_bad_share=max_bad_share,
                device=device,
                threads=threads,
            ):
                pass
            return cls._opened(
                folder, encoder=opened, weights=weights, device=device, threads=threads, temporary=temporary
            )
        except BaseException:
            _remove(temporary)
            raise

    @classmethod
    def building(
        cls,
        folder: FolderPath,
        documents: Documents | Recipe | None,
        *,
        title: str = "",
        encoder: str | TextEncoder | Encoder | None = None,
        vectors: npt.ArrayLike | None = None,
        strict: bool | None = None,
        max_bad_share: float | None = None,
        device: str = "auto",
        threads: int | None = None,
    ) -> Iterator[BuildEvent]:
        """Build an index as `build` does and yield progress events; the build advances as they are consumed.

        The last event is `Published`; after it, `Index.open` opens the index.
        """
        if documents is None:
            raise QueryError("there is nothing to index: give documents, paths or a recipe after the folder")
        recipe, records = _recipe_and_records(documents, strict)
        recipe = recipe.with_limits(strict, max_bad_share)
        if title:
            recipe = recipe.model_copy(update={"title": title})
        if isinstance(encoder, str):
            recipe = recipe.model_copy(update={"encoder": EncoderOptions(model=encoder)})
        opened = _encoder(encoder)
        if opened is not None:
            recipe = recipe.model_copy(update={"encoder": EncoderOptions(model=opened.name)})
        yield from build(
            recipe,
            Path(folder),
            records=records,
            vectors=vectors,
            encoder=opened,
            device=device,
            threads=threads,
        )

    @classmethod
    def open(
        cls,
        folder: FolderPath,
        *,
        encoder: TextEncoder | Encoder | None = None,
        weights: FolderPath | None = None,
        device: str = "auto",
        threads: int | None = None,
    ) -> Self:
        """Open an index that was built before.

        encoder: the encoder object that the index was built with, if it was built with one. weights, device, threads:
        as for `build`.

        Raises IndexFolderError if there is no index, or a damaged one; EncoderError if its encoder cannot be loaded.
        """
        opened = _encoder(encoder)
        return cls._opened(folder, encoder=opened, weights=weights, device=device, threads=threads)

    @classmethod
    def _opened(
        cls,
        folder: FolderPath,
        *,
        encoder: Encoder | None,
        weights: FolderPath | None,
        device: str,
        threads: int | None,
        temporary: Path | None = None,
    ) -> Self:
        engine = SearchEngine.open(Path(folder), encoder=encoder, device=device, threads=threads)
        return cls(engine, weights=None if weights is None else Path(weights), temporary=temporary)

    def search(
        self,
        query: str,
        k: int = 10,
        *,
        domain: str = DEFAULT_DOMAIN,
        filter: str | Filter | None = None,  # noqa: A002 (the usual name of this option)
        mode: Mode | str | None = None,
        offset: int = 0,
        passages: int = 1,
        collapse: bool = False,
        sort: str | None = None,
        min_score: float | None = None,
    ) -> list[Hit]:
        """Return the best documents for a query, best first.

        A quoted phrase that no passage contains is searched as words: `execute` returns it in `unmatched_phrases`, and
        also tells whether the best match is weak.

        k: number of documents. offset: number of best documents to skip, for later pages.
        domain: name of the domain whose adaptation is used.
        filter: an expression that documents' metadata must match, such as `year >= 2020 and not lang in (de, fr)`, or a
        filter tree.
        mode: `semantic`, `keyword` or `hybrid`; by default the index's mode.
        passages: number of passages of each document. collapse: whether to list near-duplicates under the best of them.
        sort: a metadata field, or `title`, to order the 100 best documents by; prefix `-` for descending order.
        min_score: least score of a document, on the scale of the mode's scores.

        Raises QueryError or FilterError for an invalid query or filter, or a field that no document has, and
        EncoderError if the encoder fails in semantic search; hybrid search then answers by keywords, and logs a
        warning. A filter that compares a field with values of another kind finds nothing and logs a warning.
        """
        return self.search_many(
            [query],
            k,
            domain=domain,
            filter=filter,
            mode=mode,
            offset=offset,
            passages=passages,
            collapse=collapse,
            sort=sort,
            min_score=min_score,
        )[0]

    def search_many(
        self,
        queries: Iterable[str],
        k: int = 10,
        *,
        domain: str = DEFAULT_DOMAIN,
        filter: str | Filter | None = None,  # noqa: A002
        mode: Mode | str | None = None,
        offset: int = 0,
        passages: int = 1,
        collapse: bool = False,
        sort: str | None = None,
        min_score: float | None = None,
    ) -> list[list[Hit]]:
        """As `search`, for many queries. Returns one list of hits for each, in their order."""
        parsed = parse_optional_filter(filter) if isinstance(filter, str) else filter
        template = Query(
            "template",
            k,
            offset,
            domain,
            mode=_mode(mode),
            filter=parsed,
            passages=passages,
            collapse=collapse,
            sort=None if sort is None else Sort.parse(sort),
            min_score=min_score,
        )
        outcomes = self.execute([replace(template, text=text) for text in queries])
        for note in {note: None for outcome in outcomes for note in outcome.notes}:
            log.warning(note)
        return [list(outcome.hits) for outcome in outcomes]

    def execute(self, queries: Sequence[Query], *, explain: bool = False, correct: bool = False) -> list[Outcome]:
        """Answer `Query` objects with complete outcomes: hits, mode, adaptation, comparison, timings.

        explain: also find which words of each hit made it similar. correct: also look for similar words of the
        documents for those of a query that no document has (`did_you_mean`).

        If the encoder fails and no query is semantic, keyword search answers alone: the outcomes' mode and adaptation
        say so, and a warning is logged. Raises as `search` does.
        """
        return self._engine.search(queries, explain=explain, correct=correct, on_encoder_error=_log_encoder_failure)

    def domain(self, name: str) -> Domain:
        """Return the domain of this name, which need not exist yet. Raises StateError if the name is not valid."""
        return Domain(self, name)

    def domains(self) -> list[str]:
        """Return the names of all domains that have labels, clicks, kept queries, a parent or an adaptation."""
        return [status.record.domain for status in self._registry.all_statuses()]

    def document(self, doc_id: str) -> Document | None:
        """Return the whole document of this id, or None."""
        return self._engine.document(doc_id)

    def add(
        self, documents: Documents, *, strict: bool | None = None, max_bad_share: float | None = None
    ) -> UpdateResult:
        """Add documents, and replace documents with the same id. documents, strict, max_bad_share: as for `build`.

        The result's `left_out` says what could not be read of files. Raises InputError, EncoderError, IndexFolderError
        if the index cannot be written, and IndexBusyError if another process is writing it.
        """
        *_, result = updating.update(
            self.folder,
            records_of(documents, strict=strict is not False),
            skip_bad=None if strict is None else not strict,
            max_bad_share=max_bad_share,
            opened=self._open_index(),
        )
        assert isinstance(result, UpdateResult)
        self.refresh()
        return result

    def delete(self, doc_ids: Iterable[str]) -> UpdateResult:
        """Delete documents by their ids; the result names unknown ids. Raises IndexBusyError."""
        ids = [doc_ids] if isinstance(doc_ids, str) else list(doc_ids)
        result = updating.delete(self.folder, ids, opened=self._open_index())
        self.refresh()
        return result

    def _open_index(self) -> OpenIndex:
        encoder = self._engine.encoder
        return OpenIndex(self._engine.corpus, encoder, encoder.encode_all_passages)

    def compact(self) -> UpdateResult:
        """Rewrite the index as one segment without deleted documents. Raises IndexBusyError, InputError."""
        *_, result = updating.compact(self.folder, encoder=self._engine.encoder)
        assert isinstance(result, UpdateResult)
        self.refresh()
        return result

    def refresh(self) -> None:
        """Use the current state of the index and its domains on disk, which another process may have changed."""
        newer = self._engine.reopened()
        if newer is not None:
            self._registry.switch_engine(newer)
            self._engine = newer
        self._registry.refresh()

    def info(self) -> IndexInfo:
        """Return a description of the index: documents, encoder, search settings, and what was left out."""
        return IndexInfo(self.folder, self._engine.manifest)

    def close(self) -> None:
        """Release the index's files and remove a temporary index."""
        self._engine.close()
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self._engine.manifest.documents

    def __repr__(self) -> str:
        return f"<Index {self._engine.manifest.title!r}: {len(self)} documents>"


def _log_encoder_failure(error: EncoderError) -> None:
    log.warning("keyword search answers instead of hybrid search: %s", error)


def _close(registry: DomainRegistry, temporary: Path | None) -> None:
    registry.close()
    _remove(temporary)


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _recipe_and_records(documents: Documents | Recipe, strict: bool | None) -> tuple[Recipe, Iterator[Record] | None]:
    if isinstance(documents, Recipe):
        return documents, None
    if isinstance(documents, str | os.PathLike) and Path(documents).suffix == ".toml":
        return Recipe.read(Path(documents)), None
    return Recipe(), records_of(documents, strict=strict is not False)


def _encoder(encoder: str | TextEncoder | Encoder | None) -> Encoder | None:
    """Wrap an encoder object; None for None and for a name."""
    if encoder is None or isinstance(encoder, str):
        return None
    return encoder if isinstance(encoder, Encoder) else from_object(encoder)


def _mode(mode: Mode | str | None) -> Mode | None:
    try:
        return None if mode is None else Mode(mode)
    except ValueError:
        raise QueryError(f"mode is {mode!r}: choose from {', '.join(Mode)}") from None
