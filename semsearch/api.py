"""The Python API: an index that is built, searched, changed and taught from a program.

    index = Index.build("help", documents)
    hits = index.search("reset my pin", k=3)
    team = index.domain("team")
    team.label("reset my pin", "a")
    team.adapt()

Everything here goes through the functions that the command line and the server use.
"""

from __future__ import annotations

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

import numpy as np
import numpy.typing as npt

from semsearch.adapters.weights import DEFAULT_WEIGHTS, Weights
from semsearch.domains.recommending import Recommendations
from semsearch.domains.registry import DomainRegistry, DomainStatus, adapt_function
from semsearch.encoders.custom import TextEncoder, from_object
from semsearch.encoders.encoder import Encoder
from semsearch.errors import LabelError, QueryError
from semsearch.filters.expression import parse_optional_filter
from semsearch.filters.tree import Filter
from semsearch.ingest import updating
from semsearch.ingest.building import BuildEvent, build
from semsearch.ingest.documents import Documents, records_of
from semsearch.ingest.readers.files import BadRecord
from semsearch.ingest.recipe import EncoderOptions, Recipe
from semsearch.ingest.updating import OpenIndex, UpdateResult
from semsearch.search.comparison import Comparison, compared
from semsearch.search.engine import Outcome, SearchEngine
from semsearch.storage.domains import Version
from semsearch.storage.labels import EntryFilter
from semsearch.storage.manifest import Manifest
from semsearch.types import DEFAULT_DOMAIN, Click, Document, Hit, Label, Mode, Query, Sort

FolderPath: TypeAlias = str | os.PathLike[str]
SOURCE = "python"
"""The source of labels and clicks that this API sends."""


@dataclass(frozen=True, slots=True)
class AdaptResult:
    """What adapting a domain led to."""

    adapted: bool
    """Whether the domain is served with a learned state. Judged queries may be memorized where it is not."""
    improvement: float | None
    """Expected change of nDCG@10 on queries to come; None where too little is labelled to estimate it."""
    interval: tuple[float, float] | None
    """The central 95% interval of the improvement."""
    reason: str
    """The decision in a sentence."""
    labels: int
    """Judged queries it was decided on."""
    learner: str
    """What made the state: a learner, `memory` or `none`."""
    version: int
    """The domain's version that serves from now on."""

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
    """A population of queries over an index, with labels and an adaptation of its own. Made by `Index.domain`."""

    def __init__(self, index: Index, name: str) -> None:
        """The domain of this name. Raises StateError for what cannot be a domain's name."""
        self.name = name
        self._index = index
        index._registry.store.check_name(name)

    def label(self, query: str, document: str, relevance: float = 1.0, *, user: str = "") -> None:
        """Say how relevant a document is to a query: 0 is not relevant; above, the more the better.

        Raises LabelError where the index has no such document, the query is blank, or the relevance is no number ≥ 0.
        """
        self.label_many([(query, document, relevance)], user=user)

    def label_many(self, labels: Iterable[tuple[str, str] | tuple[str, str, float]], *, user: str = "") -> int:
        """Keep many labels at once, (query, document id) or (query, document id, relevance); returns how many.

        All are kept, or none. Raises as `label`.
        """
        now = datetime.now(UTC)
        entries = []
        for query, document, *rest in labels:
            relevance = float(rest[0]) if rest else 1.0
            if not query.strip():
                raise LabelError(f"a label of document {document!r} has a blank query: say what was searched for")
            if not 0 <= relevance < float("inf"):
                raise LabelError(f"the relevance of {document!r} is {relevance}: give a number from 0")
            entries.append(Label(uuid4().hex, self.name, query, document, relevance, user, SOURCE, now))
        self._check_documents([entry.document for entry in entries])
        return self._index._registry.log.append(entries)

    def click(
        self,
        query: str,
        document: str | None,
        *,
        shown: Sequence[str] = (),
        position: int | None = None,
        user: str = "",
    ) -> None:
        """Keep a click in a result list.

        document: the id of what was clicked; None where nothing was. shown: the ids of the list, best first. position:
        the rank of the clicked document, from 1; by default its rank among `shown`.

        Raises LabelError where the index has no such document, or neither `shown` nor `position` tells its rank.
        """
        if document is not None and position is None:
            if document not in shown:
                raise LabelError(f"the click on {document!r} has no position: give it, or the list that was shown")
            position = list(shown).index(document) + 1
        self._check_documents([] if document is None else [document])
        now = datetime.now(UTC)
        click = Click(uuid4().hex, self.name, query, document, position, tuple(shown), user, SOURCE, now)
        self._index._registry.log.append([click])

    def adapt(self) -> AdaptResult:
        """Adapt the domain to all its labels and clicks, or decline and say why.

        Searches of the domain use the result at once. Raises LabelError, StateError, StorageError, WeightsError.
        """
        return AdaptResult._of(self._index._registry.adapt(self.name))

    def search(self, query: str, k: int = 10, **options: object) -> list[Hit]:
        """As `Index.search`, for this domain."""
        return self._index.search(query, k, domain=self.name, **options)  # type: ignore[arg-type]

    def compare(self, query: str, k: int = 10) -> Comparison:
        """The first k documents without and with the domain's adaptation."""
        [outcome] = self._index.execute([compared(Query(query, k, domain=self.name))])
        return Comparison.of(outcome, k)

    def recommend(self, k: int = 10, *, diversity: float = 0.3) -> Recommendations | None:
        """Documents near those that were labelled or clicked as relevant, without those; None where there are none.

        diversity: from 0 (the nearest documents) to 1 (documents unlike each other).
        """
        return self._index._registry.recommend(self.name, k, diversity=diversity)

    def labels(self) -> list[Label]:
        """The labels that count, in the order in which they were given."""
        return [label for _, label in self._index._registry.log.labels(EntryFilter(domain=self.name))]

    def status(self) -> DomainStatus:
        """The domain's labels, clicks, versions, and what is not yet adapted to."""
        return self._index._registry.status(self.name)

    def rollback(self, to: int | None = None) -> Version:
        """Serve an earlier version again, by default the one before. Raises StateError where there is none."""
        return self._index._registry.rollback(self.name, to)

    def reset(self) -> Version | None:
        """Serve the domain without adaptation; labels and versions stay. None where it had no adaptation."""
        return self._index._registry.reset(self.name)

    def _check_documents(self, doc_ids: Sequence[str]) -> None:
        known = self._index._engine.corpus.existing_ids(doc_ids)
        missing = [doc_id for doc_id in doc_ids if doc_id not in known]
        if missing:
            raise LabelError(f"the index has no document {missing[0]!r}: label documents by their ids")


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What an index is."""

    folder: Path
    manifest: Manifest

    @property
    def documents(self) -> int:
        """Documents that can be found."""
        return self.manifest.documents

    @property
    def passages(self) -> int:
        """Passages that can be found."""
        return self.manifest.passages

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

    All methods may be called on several threads; changes and adaptations take turns.
    """

    def __init__(
        self,
        engine: SearchEngine,
        *,
        weights: Path | None = None,
        temporary: Path | None = None,
    ) -> None:
        """Take an opened engine whose index is on disk. temporary: a folder to remove with the index."""
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
        weights: FolderPath | None = None,
        device: str = "auto",
        threads: int | None = None,
    ) -> Self:
        """Build an index and open it.

        folder: where the index goes; left out, it is a temporary folder that is removed when the index is closed.
        documents: mappings such as {"id": "a", "text": "…", "title": "…", "metadata": {…}}, `Document` objects, paths
        of files and folders, any iterable of these; or a recipe, also by the path of its .toml file.
        title: shown above the search page; by default the recipe's, else the folder's name.
        encoder: name or folder of a sentence-transformers model, or any object with `encode_queries`,
        `encode_documents` and `dimension`; by default the recipe's, else all-MiniLM-L6-v2.
        vectors: (n, dim), one for each document in their order, from this encoder: then nothing is encoded, and every
        document is one passage.
        weights: a file that `semsearch learn` wrote; by default the one that comes with semsearch.

        An index that was in the folder before serves until the new one is complete. Raises InputError naming the
        document that cannot be indexed, RecipeError, EncoderError, IndexFolderError.
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
        device: str = "auto",
        threads: int | None = None,
    ) -> Iterator[BuildEvent]:
        """Build an index as `build` does and yield its progress; the work is done as the events are taken.

        The last event is `Published`; `Index.open` opens the index then.
        """
        if documents is None:
            raise QueryError("there is nothing to index: give documents, paths or a recipe after the folder")
        recipe, records = _recipe_and_records(documents)
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
            vectors=None if vectors is None else np.asarray(vectors, np.float32),
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

        encoder: the object that the index was built with, where it was one. Raises IndexFolderError if there is no
        index, or a damaged one; EncoderError if its encoder cannot be loaded.
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
        filter: str | Filter | None = None,  # noqa: A002 (the word that users know)
        mode: Mode | str | None = None,
        offset: int = 0,
        passages: int = 1,
        collapse: bool = False,
        sort: str | None = None,
    ) -> list[Hit]:
        """The best documents for a query, best first.

        k: documents wanted; offset: the best ones to leave out, for later pages.
        domain: whose adaptation applies.
        filter: what a document's metadata must meet, such as `year >= 2020 and not lang in (de, fr)`, or a filter tree.
        mode: `semantic`, `keyword` or `hybrid`; by default as the index is set.
        passages: passages wanted of each document. collapse: show near-duplicates once. sort: a metadata field, or
        `title`, to order the 100 best documents by, with `-` before it for descending.

        Raises QueryError and FilterError for what cannot be searched for, EncoderError.
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
    ) -> list[list[Hit]]:
        """As `search`, for many queries at once, in their order."""
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
        )
        return [list(outcome.hits) for outcome in self.execute([replace(template, text=text) for text in queries])]

    def execute(self, queries: Sequence[Query], *, explain: bool = False) -> list[Outcome]:
        """Answer `Query` objects with all that is known of each: hits, mode, adaptation, comparison, timings.

        explain: also find which words of each hit made it similar.
        """
        return self._engine.search(queries, explain=explain)

    def domain(self, name: str) -> Domain:
        """The domain of this name, which need not exist yet. Raises StateError for what cannot be one's name."""
        return Domain(self, name)

    def domains(self) -> list[str]:
        """The names of all domains that were labelled or adapted."""
        return [status.record.domain for status in self._registry.all_statuses()]

    def document(self, doc_id: str) -> Document | None:
        """The whole document of this id, or None."""
        return self._engine.document(doc_id)

    def add(self, documents: Documents) -> UpdateResult:
        """Add documents, or replace those whose id the index has; as `Index.build` takes them.

        Raises InputError, EncoderError, and IndexBusyError where another process is writing the index.
        """
        encoder = self._engine.encoder
        opened = OpenIndex(self._engine.corpus, encoder, lambda texts: encoder.encode_all("document", texts))
        *_, result = updating.update(self.folder, records_of(documents), opened=opened)
        assert isinstance(result, UpdateResult)
        self.refresh()
        return result

    def delete(self, doc_ids: Iterable[str]) -> UpdateResult:
        """Delete documents by their ids; the result names those that are not there. Raises IndexBusyError."""
        ids = [doc_ids] if isinstance(doc_ids, str) else list(doc_ids)
        encoder = self._engine.encoder
        result = updating.delete(
            self.folder, ids, opened=OpenIndex(self._engine.corpus, encoder, encoder.encode_documents)
        )
        self.refresh()
        return result

    def compact(self) -> UpdateResult:
        """Write the index as one segment again, without deleted documents. Raises IndexBusyError, InputError."""
        *_, result = updating.compact(self.folder, encoder=self._engine.encoder)
        assert isinstance(result, UpdateResult)
        self.refresh()
        return result

    def refresh(self) -> None:
        """Search the index as it is on disk now, if another process changed it or its domains."""
        newer = self._engine.reopened()
        if newer is not None:
            self._registry.switch_engine(newer)
            self._engine = newer
        self._registry.refresh()

    def info(self) -> IndexInfo:
        """What the index is: documents, encoder, search settings."""
        return IndexInfo(self.folder, self._engine.manifest)

    def close(self) -> None:
        """Release the index's files; a temporary index is removed."""
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


def _close(registry: DomainRegistry, temporary: Path | None) -> None:
    registry.close()
    _remove(temporary)


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _recipe_and_records(
    documents: Documents | Recipe,
) -> tuple[Recipe, Iterator[Document | BadRecord] | None]:
    if isinstance(documents, Recipe):
        return documents, None
    if isinstance(documents, str | os.PathLike) and Path(documents).suffix == ".toml":
        return Recipe.read(Path(documents)), None
    return Recipe(), records_of(documents)


def _encoder(encoder: str | TextEncoder | Encoder | None) -> Encoder | None:
    """An encoder object as an encoder; None for one that is named, which the build opens."""
    if encoder is None or isinstance(encoder, str):
        return None
    return encoder if isinstance(encoder, Encoder) else from_object(encoder)


def _mode(mode: Mode | str | None) -> Mode | None:
    try:
        return None if mode is None else Mode(mode)
    except ValueError:
        raise QueryError(f"mode is {mode!r}: choose from {', '.join(Mode)}") from None
