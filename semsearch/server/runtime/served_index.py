"""One index of a service: its engine, its domains and its writer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import structlog

from semsearch.domains.position_bias import PositionBias
from semsearch.domains.registry import DomainRegistry
from semsearch.errors import IndexFolderError, StorageError
from semsearch.ingest.updating import OpenIndex
from semsearch.search.engine import SearchEngine
from semsearch.server.runtime.encoder_pool import EncoderPool
from semsearch.server.runtime.index_writer import IndexWriter
from semsearch.server.runtime.metrics import Metrics
from semsearch.server.runtime.storage_problem import (
    EXPLANATIONS,
    IndexUnavailableError,
    StorageProblem,
    find_problem,
    problem_of,
)
from semsearch.storage.generations import current, remove_stale, stale_paths

# it imports torch, which the server does when it first adapts a domain
if TYPE_CHECKING:
    from semsearch.domains.adapting import AdaptFunction

log = structlog.get_logger("semsearch.server")


class NotWritableError(LookupError):
    """A request to store labels or documents in an index that is not on disk."""


class ServedIndex:
    """A served index."""

    def __init__(
        self,
        name: str,
        engine: SearchEngine,
        *,
        pool: EncoderPool,
        metrics: Metrics,
        adapt: AdaptFunction | None,
        bias: PositionBias | None,
        lock_timeout_s: float,
    ) -> None:
        """Serve an engine. If its index is on disk, open its domains and allow changes.

        adapt: the meta-learned adaptation; None if the weights do not fit the index's encoder. bias: position bias of
        clicks. lock_timeout_s: as in `IndexWriter`.
        """
        self.name = name
        self.engine = engine
        """Replaced when the index on disk changes; a running request keeps the engine that it started with."""
        self._pool = pool
        self._metrics = metrics
        self._switching = threading.Lock()
        self._failure = ""
        self._problem: StorageProblem | None = None
        self._domains: DomainRegistry | None = None
        self._writer: IndexWriter | None = None
        metrics.set_sizes(name, engine.manifest)
        if engine.folder is not None:
            self._domains = DomainRegistry(
                engine.folder,
                engine,
                adapt,
                encode=lambda text: pool.encode_label(lambda: self.engine, text),
                bias=bias,
            )
            self._writer = IndexWriter(
                name,
                engine.folder,
                open_index=self._open_index,
                on_change=self.switch,
                on_failure=self.unavailable,
                lock_timeout_s=lock_timeout_s,
            )

    @property
    def writable(self) -> bool:
        """Whether labels can be stored and documents changed."""
        return self._domains is not None

    @property
    def domains(self) -> DomainRegistry:
        """The index's domains. Raises NotWritableError for an index in memory."""
        if self._domains is None:
            raise NotWritableError(f"the index {self.name!r} is not on disk: it stores no labels")
        return self._domains

    @property
    def writer(self) -> IndexWriter:
        """The writer of the index. Raises NotWritableError for an index in memory."""
        if self._writer is None:
            raise NotWritableError(f"the index {self.name!r} is not on disk: it cannot be changed")
        return self._writer

    @property
    def problem(self) -> StorageProblem | None:
        """Why the index cannot be changed, or its changes on disk cannot be served; None if there is no problem.

        It is looked for by `refresh`. Searches are answered nevertheless, from the files that are open.
        """
        return self._problem

    def unavailable(self, error: Exception) -> IndexUnavailableError:
        """Return the error to answer a failed change with; its cause is logged. error: of the storage."""
        problem = problem_of(error, self.engine.folder)
        log.error("a change failed", index=self.name, problem=problem, error=str(error))
        return IndexUnavailableError(self.name, problem)

    @contextmanager
    def changing(self) -> Iterator[DomainRegistry]:
        """Yield the domains, for a change of labels or states; storage errors become an IndexUnavailableError.

        Raises NotWritableError for an index in memory.
        """
        domains = self.domains
        try:
            # a domain without a record or labels is no error of the storage, but that of a missing folder is
            current(domains.folder)
            yield domains
        except TimeoutError:  # a subclass of OSError
            raise
        except (StorageError, IndexFolderError, OSError) as error:
            raise self.unavailable(error) from error

    def switch(self) -> None:
        """Answer new requests from the current state of the index on disk."""
        with self._switching:
            try:
                newer = self.engine.reopened()
            except IndexFolderError as error:
                if self._failure != str(error):
                    log.error(  # noqa: TRY400 - the message says it all
                        "an index cannot be opened; its previous state is served", index=self.name, error=str(error)
                    )
                self._failure = str(error)
                return
            self._failure = ""
            if newer is None:
                return
            if self._domains is not None:
                self._domains.switch_engine(newer)
            self.engine = newer
            self._metrics.set_sizes(self.name, newer.manifest)
            log.info(
                "moved", index=self.name, documents=newer.manifest.documents, segments=len(newer.manifest.segments)
            )

    def refresh(self) -> bool:
        """Call `switch`, look for a problem, and remove files of earlier states that no request reads any more.

        Returns whether the index's folder can be read.
        """
        folder = self.engine.folder
        if folder is None:
            return True
        self.switch()
        problem: StorageProblem | None = find_problem(folder) or ("other" if self._failure else None)
        if problem != self._problem:
            if problem is None:
                log.info("an index can be changed again", index=self.name)
            else:
                log.warning("an index cannot be changed", index=self.name, why=EXPLANATIONS[problem])
            self._problem = problem
            self._metrics.set_problem(self.name, problem is not None)
        if problem is None and stale_paths(folder):
            remove_stale(folder)
        return problem != "missing"

    def close(self) -> None:
        """Stop the writer and close the label log. The engine stays open."""
        if self._writer is not None:
            self._writer.close()
        if self._domains is not None:
            self._domains.close()

    def _open_index(self) -> OpenIndex:
        engine = self.engine
        encode = partial(self._pool.encode_passages, lambda: self.engine)
        return OpenIndex(engine.corpus, engine.encoder, encode)
