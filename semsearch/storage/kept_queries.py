"""The queries that a server was allowed to keep, by domain, in the index's folder. Does not depend on search.

    index/NAME/domains/DOMAIN/queries.safetensors

They are personal data: only the owner of the file can read it, it has an age limit, and `forget` deletes it. The file
is small and is replaced as a whole, under the lock of the domains.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from semsearch.errors import StateError, StateFileError
from semsearch.storage.domains import FOLDER, folder_name, locked_domains
from semsearch.storage.entries import MAX_KEEP_DAYS, MAX_QUERY_CHARS
from semsearch.system.files import atomic_write, sync_to_disk
from semsearch.types import Vectors, domain_name_problem, is_unicode, unit_rows

FILE = "queries.safetensors"
FORMAT_VERSION = 1
MAX_QUERIES = 300
"""Most distinct queries of a domain."""
MAX_BYTES = 512 * 1024
"""Most bytes of a domain's file; fewer queries are kept if their vectors or texts are large."""

_HEADER_BYTES = 4 * 1024
"""Room for the header: names and shapes of the arrays, the name of the domain, the checksum of the encoder."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COUNTER_BYTES = 24
"""Bytes of a query's count, time and end."""
_FILE_ERRORS = (
    OSError,
    SafetensorError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""Errors of reading a file that holds no kept queries, or damaged ones."""
_FORGET = "delete it with `semsearch domains forget-queries`"


@dataclass(frozen=True, slots=True)
class KeptQuery:
    """A query that a domain was asked."""

    text: str
    """Without white space at either end."""
    count: int
    """Number of times it was asked, at least 1."""
    last_asked: datetime
    """UTC."""


@dataclass(frozen=True, slots=True)
class KeptSummary:
    """How many queries of a domain are kept."""

    count: int
    oldest: datetime | None
    """When the query was last asked that was not asked for the longest time, UTC; None without queries."""


@dataclass(frozen=True, slots=True, eq=False)
class _Content:
    """What a file holds, the query that was asked last first."""

    texts: list[str]
    counts: npt.NDArray[np.int64]
    """(n,) at least 1."""
    times: npt.NDArray[np.int64]
    """(n,) microseconds since 1970, descending."""
    vectors: npt.NDArray[np.float16]
    """(n, dim), rows of unit length but for rounding; zeros if they were not read."""
    days: int

    def select(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> _Content:
        """Return the chosen queries, by a mask (n,) or by indices in a new order."""
        texts = [self.texts[index] for index in np.arange(len(self.texts))[chosen]]
        return _Content(texts, self.counts[chosen], self.times[chosen], self.vectors[chosen], self.days)


class KeptQueries:
    """The kept queries of one index's domains. Any number of threads and processes may use it."""

    def __init__(
        self,
        index: Path,
        *,
        dimension: int,
        encoder_sha256: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Use the files in the index's folder. Nothing is created before the first `add`.

        dimension: of the index's vectors. encoder_sha256: checksum of the weights of the index's encoder. clock: the
        present time, with a time zone.
        """
        self.folder = index / FOLDER
        self._dimension = dimension
        self._encoder = encoder_sha256
        self._clock = clock

    def add(self, domain: str, entries: Sequence[tuple[str, Vectors]], *, days: int) -> int:
        """Count queries that were asked now, and return the number of entries that were kept.

        entries: text and vector, (dim,) float32 of unit length before adaptation, once for each time that the query was
        asked. days: queries that are not asked for this long are dropped, from 1 to MAX_KEEP_DAYS.

        A blank text, one that is not Unicode, and one that is longer than a label's query may be, is not kept. If there
        are too many queries, those that were not asked for the longest time are dropped. A damaged file, or one of
        another encoder, is replaced. Raises ValueError for a vector of another dimension or for `days` out of range,
        StateError for a name that no domain can have, StorageError if the file cannot be written.
        """
        if not 1 <= days <= MAX_KEEP_DAYS:
            raise ValueError(f"queries cannot be kept for {days} days: give a number from 1 to {MAX_KEEP_DAYS:,}")
        counts: dict[str, int] = {}
        vectors: dict[str, Vectors] = {}
        for text, vector in entries:
            if vector.shape != (self._dimension,):
                raise ValueError(f"a query's vector has shape {vector.shape}, not ({self._dimension},)")
            stripped = text.strip()
            if stripped and len(stripped) <= MAX_QUERY_CHARS and is_unicode(stripped) and np.isfinite(vector).all():
                # the last one asked comes last
                counts[stripped] = counts.pop(stripped, 0) + 1
                vectors[stripped] = vector
        path = self._path(domain)
        if not counts:
            return 0
        with locked_domains(self.folder, path):
            path.parent.mkdir(exist_ok=True)
            _remove_unfinished(path)
            now = self._now()
            texts = list(reversed(counts))
            new = _Content(
                texts,
                np.array([counts[text] for text in texts], np.int64),
                np.full(len(texts), now, np.int64),
                unit_rows(np.stack([vectors[text] for text in texts])).astype(np.float16),
                days,
            )
            self._write(path, domain, _trimmed(_merged(new, self._sound(path, domain)), now))
        return sum(counts.values())

    def queries(self, domain: str) -> list[KeptQuery]:
        """Return the kept queries of a domain, the one that was asked last first; none without a file.

        Raises StateFileError if the file is damaged, or of another encoder or dimension, and StateError for a name that
        no domain can have.
        """
        return self.read(domain)[0]

    def vectors(self, domain: str) -> Vectors:
        """Return the vectors of `queries`, (n, dim) float32, unit rows before adaptation, in the same order.

        Raises as `queries`.
        """
        return self.read(domain)[1]

    def read(self, domain: str) -> tuple[list[KeptQuery], Vectors]:
        """Return `queries` and `vectors` of one moment: another process may change the file between two calls."""
        path = self._path(domain)
        content = self._read(path, domain)
        if content is None:
            return [], np.zeros((0, self._dimension), np.float32)
        queries = [
            KeptQuery(text, count, _as_datetime(time))
            for text, count, time in zip(content.texts, content.counts.tolist(), content.times.tolist(), strict=True)
        ]
        return queries, unit_rows(content.vectors.astype(np.float32))

    def summary(self, domain: str) -> KeptSummary:
        """Return the number of kept queries and the time of the oldest, without their vectors. Raises as `queries`."""
        content = self._read(self._path(domain), domain, with_vectors=False)
        if content is None or not content.texts:
            return KeptSummary(0, None)
        return KeptSummary(len(content.texts), _as_datetime(int(content.times[-1])))

    def names(self) -> list[str]:
        """Return the names of all domains that have a file, damaged or not, sorted."""
        names = (unquote(path.parent.name) for path in self.folder.glob(f"*/{FILE}"))
        return sorted(name for name in names if not domain_name_problem(name))

    def forget(self, domain: str) -> bool:
        """Delete the kept queries of a domain, and return whether there were any.

        Also deletes what a killed process left unfinished, and damaged files. Raises StateError for a name that no
        domain can have, StorageError if the file cannot be deleted.
        """
        path = self._path(domain)
        if not path.parent.is_dir():
            return False
        with locked_domains(self.folder, path):
            existed = path.exists()
            path.unlink(missing_ok=True)
            _remove_unfinished(path)
            sync_to_disk(path.parent)
            with suppress(OSError):  # it also holds the domain's versions
                path.parent.rmdir()
        return existed

    def forget_all(self) -> list[str]:
        """Delete the kept queries of all domains, and return the names of those that had any. Raises as `forget`."""
        unfinished = {unquote(path.parent.name) for path in self.folder.glob(f"*/.{FILE}.*")}
        names = self.names()
        for name in sorted({*names, *unfinished}):
            self.forget(name)
        return names

    def drop_expired(self, days: int) -> None:
        """Delete from the disk what was not asked for `days` days, or for a file's own limit if that is shorter.

        Damaged files stay as they are, for `queries` to report. Raises StorageError if a file cannot be written.
        """
        for domain in self.names():
            path = self._path(domain)
            with locked_domains(self.folder, path), suppress(StateError):
                content = self._parse(path, domain)
                if content is not None:
                    left = _trimmed(replace(content, days=min(days, content.days)), self._now())
                    if len(left.texts) < len(content.texts) or left.days < content.days:
                        self._write(path, domain, left)

    def _write(self, path: Path, domain: str, content: _Content) -> None:
        """Replace the file, or delete it if there is nothing to write."""
        if not content.texts:
            path.unlink(missing_ok=True)
            return
        encoded = [text.encode() for text in content.texts]
        header = {
            "format_version": FORMAT_VERSION,
            "domain": domain,
            "encoder_sha256": self._encoder,
            "days": content.days,
        }
        data = save(
            {
                "vectors": np.ascontiguousarray(content.vectors),
                "counts": np.ascontiguousarray(content.counts),
                "times": np.ascontiguousarray(content.times),
                "texts": np.frombuffer(b"".join(encoded), np.uint8),
                "ends": np.cumsum([len(text) for text in encoded], dtype=np.int64),
            },
            metadata={"semsearch": json.dumps(header)},
        )
        with atomic_write(path) as unfinished:
            # other users of the machine must not read the queries
            unfinished.touch(0o600)
            unfinished.write_bytes(data)
        sync_to_disk(path.parent)

    def _sound(self, path: Path, domain: str) -> _Content | None:
        """As `_parse`; None for a damaged file. Raises StateError if the file belongs to another domain."""
        try:
            return self._parse(path, domain)
        except StateFileError:
            return None

    def _read(self, path: Path, domain: str, *, with_vectors: bool = True) -> _Content | None:
        """As `_parse`, without queries that are too old."""
        content = self._parse(path, domain, with_vectors=with_vectors)
        return None if content is None else content.select(content.times >= _limit(content.days, self._now()))

    def _parse(self, path: Path, domain: str, *, with_vectors: bool = True) -> _Content | None:
        """Return what the file holds; None without a file.

        Raises StateFileError if it is damaged, or of another encoder or dimension; StateError if it belongs to another
        domain.
        """
        try:
            size = path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StateFileError(f"{path} cannot be read ({error.strerror}): make it readable, or {_FORGET}") from error
        try:
            if size > MAX_BYTES:
                raise ValueError(f"it has {size:,} bytes, at most {MAX_BYTES:,} are written")
            header, content = _open(path, with_vectors=with_vectors)
        except FileNotFoundError:
            return None  # deleted meanwhile
        except _FILE_ERRORS as error:
            raise StateFileError(f"{path} does not hold kept queries ({error}): {_FORGET}") from error
        if header.get("domain") != domain:
            raise StateError(
                f"the folder {path.parent.name} belongs to the domain {header.get('domain')!r}: this file system does"
                f" not tell upper from lower case, so choose another name than {domain!r}"
            )
        if header.get("encoder_sha256") != self._encoder:
            raise StateFileError(f"{path} is of another encoder than the index was built with: {_FORGET}")
        if content.vectors.shape[1] != self._dimension:
            raise StateFileError(
                f"{path} is for vectors of {content.vectors.shape[1]} dimensions, the index has {self._dimension}:"
                f" {_FORGET}"
            )
        return content

    def _path(self, domain: str) -> Path:
        return self.folder / folder_name(domain) / FILE

    def _now(self) -> int:
        return _as_microseconds(self._clock())


def _open(path: Path, *, with_vectors: bool) -> tuple[Mapping[str, object], _Content]:
    """Read a file. Raises one of _FILE_ERRORS if it is not one that `_write` wrote."""
    with safe_open(path, framework="numpy") as file:
        header = json.loads((file.metadata() or {})["semsearch"])
        names = ("counts", "times", "ends", "texts")
        counts, times, ends, texts = (np.asarray(file.get_tensor(name)) for name in names)
        stored = file.get_slice("vectors")
        rows, dimension = stored.get_shape()
        # zeros that take no memory
        zeros = np.broadcast_to(np.float16(0), (rows, dimension))
        vectors = np.asarray(file.get_tensor("vectors")) if with_vectors else zeros
    if header["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format version {header['format_version']!r}, this semsearch reads {FORMAT_VERSION}")
    days = header["days"]
    if not isinstance(days, int) or not 1 <= days <= MAX_KEEP_DAYS:
        raise ValueError(f"{days!r} days")
    if not (counts.shape == times.shape == ends.shape == (rows,)) or texts.ndim != 1:
        raise ValueError("its arrays do not have one row for each query")
    if not (counts.dtype == times.dtype == ends.dtype == np.int64 and texts.dtype == np.uint8):
        raise ValueError("its arrays are of other types")
    if not (vectors.dtype == np.float16 and np.isfinite(vectors).all()):
        raise ValueError("its vectors are not finite 16-bit numbers")
    bounds = [0, *ends.tolist()]
    if bounds != sorted(bounds) or bounds[-1] != len(texts) or (counts < 1).any() or (np.diff(times) > 0).any():
        raise ValueError("its numbers do not fit together")
    content = texts.tobytes()
    decoded = [content[start:stop].decode() for start, stop in pairwise(bounds)]
    for time in times[:1].tolist() + times[-1:].tolist():
        _as_datetime(time)
    return header, _Content(decoded, counts, times, vectors, days)


def _merged(new: _Content, earlier: _Content | None) -> _Content:
    """Return the new queries, then those of `earlier` that are not among them. Counts are added."""
    if earlier is None:
        return new
    counts = dict(zip(earlier.texts, earlier.counts.tolist(), strict=True))
    repeated = set(new.texts)
    others = earlier.select(np.array([text not in repeated for text in earlier.texts], bool))
    # a count, like a time, never comes near the limit of 64 bits, unless a file was made up
    summed = [min(counts.get(text, 0) + count, 2**62) for text, count in zip(new.texts, new.counts, strict=True)]
    return _Content(
        [*new.texts, *others.texts],
        np.concatenate([np.array(summed, np.int64), others.counts]),
        np.concatenate([new.times, np.minimum(others.times, new.times[0])]),  # the clock may have been wrong
        np.concatenate([new.vectors, others.vectors]),
        new.days,
    )


def _trimmed(content: _Content, now: int) -> _Content:
    """Return the queries that are not too old, the last asked ones that fit, last first."""
    recent = content.select(content.times >= _limit(content.days, now))
    ordered = recent.select(np.argsort(-recent.times, kind="stable"))
    row_bytes = 2 * ordered.vectors.shape[1] + _COUNTER_BYTES
    sizes = np.cumsum([row_bytes + len(text.encode()) for text in ordered.texts])
    return ordered.select(np.arange(min(MAX_QUERIES, int((sizes <= MAX_BYTES - _HEADER_BYTES).sum()))))


def _limit(days: int, now: int) -> int:
    """The time before which a query is too old."""
    return now - int(timedelta(days=days).total_seconds()) * 1_000_000


def _as_microseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def _as_datetime(microseconds: int) -> datetime:
    """Raises OverflowError for a time beyond the year 9999."""
    return _EPOCH + timedelta(microseconds=microseconds)


def _remove_unfinished(path: Path) -> None:
    """Remove what killed processes left. The caller holds the lock, so no process is writing."""
    for unfinished in path.parent.glob(f".{path.name}.*"):
        unfinished.unlink(missing_ok=True)
