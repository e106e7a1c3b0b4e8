"""The generations of an index on disk: how one is built, published atomically, opened and removed.

    index/NAME/
      current            the name of the current generation, one line
      lock               locked by the process that builds or updates the index
      g-000002/          a generation: never changed once published
        manifest.json  basis.safetensors  map.safetensors (optional)  deleted.safetensors (optional)
        s-000001/          a segment: vectors.faiss  graph.faiss or lists.faiss (optional)  places.npy (optional)
          tokens.bin (optional)
          documents.sqlite
          fulltext/        the files of its full text
      domains/           the learned states of its domains, independent of generations
      building-XXXX/     a build in progress; if its process died, the next build removes it
      unfinished.sqlite  vectors of an unfinished build, which the next build reuses
      unfinished.lists-XXXX  the inverted file of an unfinished build, which the next build continues

A builder fills a folder of its own, flushes it to disk, renames it to the next generation and then replaces `current`:
from that moment on, readers open the new generation. Readers hold a shared lock on their generation's manifest, so that
cleaning up never removes files in use. An update publishes a generation too; unchanged segments are hard links to the
files of the previous generation.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path
from time import monotonic, sleep

from safetensors import SafetensorError

from semsearch.errors import IndexBusyError, IndexFolderError, IndexWriteError, first_line
from semsearch.storage.embedding_checkpoint import FILE as CHECKPOINT
from semsearch.storage.index_checkpoint import is_index_checkpoint
from semsearch.storage.manifest import FileRecord, Manifest, parse_manifest
from semsearch.system.files import checksum, sync_to_disk
from semsearch.system.threads import available_cores

CURRENT = "current"
MANIFEST = "manifest.json"
LOCK = "lock"
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}
"""Error numbers of a file system without locks."""


@dataclass(frozen=True, slots=True)
class SegmentFiles:
    """The paths of the files of one segment."""

    folder: Path

    @property
    def vectors(self) -> Path:
        """Passage vectors."""
        return self.folder / "vectors.faiss"

    @property
    def graph(self) -> Path:
        """The HNSW graph; only in a segment of type hnsw."""
        return self.folder / "graph.faiss"

    @property
    def lists(self) -> Path:
        """The inverted file; only in a segment of type ivf."""
        return self.folder / "lists.faiss"

    @property
    def map_points(self) -> Path:
        """The map points of its passages; only if the index has a map."""
        return self.folder / "places.npy"

    @property
    def tokens(self) -> Path:
        """The token vectors of its passages; only if they are wanted, and the encoder has some."""
        return self.folder / "tokens.bin"

    @property
    def documents(self) -> Path:
        """Documents and passages with metadata."""
        return self.folder / "documents.sqlite"

    @property
    def fulltext(self) -> Path:
        """The folder of the full text."""
        return self.folder / "fulltext"


@dataclass(frozen=True, slots=True)
class Generation:
    """The paths of the files of one generation."""

    folder: Path

    @property
    def manifest(self) -> Path:
        """The manifest, as JSON."""
        return self.folder / MANIFEST

    @property
    def basis(self) -> Path:
        """The spectral basis of the corpus."""
        return self.folder / "basis.safetensors"

    @property
    def map(self) -> Path:
        """The map of the corpus; missing if the recipe asks for none."""
        return self.folder / "map.safetensors"

    @property
    def deleted(self) -> Path:
        """Rows and stems of deleted documents, by segment; missing if none were deleted."""
        return self.folder / "deleted.safetensors"

    def segment(self, name: str) -> SegmentFiles:
        """Return the paths of the segment of this name."""
        return SegmentFiles(self.folder / name)

    @property
    def parts(self) -> dict[str, Path]:
        """All files in the folder except the manifest, by their relative path, sorted."""
        paths = {path.relative_to(self.folder).as_posix(): path for path in self.folder.rglob("*") if path.is_file()}
        paths.pop(MANIFEST, None)
        return dict(sorted(paths.items()))

    def share(self, older: Generation, *names: str) -> None:
        """Add segments or files of an older generation unchanged, as hard links, or as copies if links are impossible.

        names: names of segment folders or files. Raises OSError if they can be neither linked nor copied.
        """
        for name in names:
            shared = older.folder / name
            for path in filter(Path.is_file, shared.rglob("*")) if shared.is_dir() else [shared]:
                new = self.folder / path.relative_to(older.folder)
                new.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(path, new)
                except OSError:  # not every filesystem has hard links
                    shutil.copyfile(path, new)
                    sync_to_disk(new)


@dataclass(frozen=True, slots=True)
class OpenGeneration:
    """A generation open for reading: its files are not removed until `close`."""

    files: Generation
    manifest: Manifest
    locked_manifest: BufferedReader
    """The open manifest file, with a shared lock."""

    def is_at(self, folder: Path) -> bool:
        """Whether `folder` is this generation's, and not that of another index that was put in its place."""
        try:
            return folder == self.files.folder and os.path.samestat(
                os.fstat(self.locked_manifest.fileno()), self.files.manifest.stat()
            )
        except OSError:
            return False

    def close(self) -> None:
        """Release the files."""
        self.locked_manifest.close()


def is_index(folder: Path) -> bool:
    """Whether `folder` holds a published index. Raises IndexFolderError if that cannot be found out."""
    with _read_errors(folder / CURRENT):
        return (folder / CURRENT).is_file()


def open_current(folder: Path, known: Mapping[str, FileRecord] | None = None) -> OpenGeneration:
    """Open the current generation and check its files against its manifest.

    known: files by name that were checked before; they are not read again if the manifest has the same record of them.

    Raises IndexFolderError if there is no index, if it has another format, or if a file is missing or damaged.
    """
    while True:
        generation, locked = _open_manifest(folder)
        try:
            with _read_errors(generation.manifest):
                fcntl.flock(locked, fcntl.LOCK_SH)
                if not generation.manifest.exists():
                    # removed before the lock was acquired
                    locked.close()
                    continue
                content = locked.read()
            manifest = parse_manifest(generation.manifest, content)
            with _read_errors(generation.folder):
                names = sorted({*generation.parts, *manifest.files})
            unchecked = [name for name in names if known is None or known.get(name) != manifest.files.get(name)]
            # hashing releases the interpreter lock, so that threads read gigabytes in parallel
            with ThreadPoolExecutor(available_cores()) as pool:
                list(pool.map(partial(_check_file, generation, manifest), unchecked))
        except BaseException:
            locked.close()
            raise
        return OpenGeneration(generation, manifest, locked)


def read_manifest(folder: Path) -> Manifest:
    """Read the index's manifest without opening the index. Raises IndexFolderError as `open_current` does."""
    generation, opened = _open_manifest(folder)
    with opened, _read_errors(generation.manifest):
        content = opened.read()
    return parse_manifest(generation.manifest, content)


def _open_manifest(folder: Path) -> tuple[Generation, BufferedReader]:
    """Open the manifest of the current generation. Raises IndexFolderError if there is none, or an unreadable one."""
    while True:
        generation = Generation(current(folder))
        try:
            return generation, generation.manifest.open("rb")
        except OSError as error:
            if generation.folder != current(folder):
                continue  # a newer generation was published and this one removed
            if not isinstance(error, FileNotFoundError):
                raise _unreadable(generation.manifest, error) from error
            raise IndexFolderError(f"{generation.manifest} is missing: the index is damaged, build it again") from error


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    """Convert errors of the file system into IndexFolderError naming the file and the remedy."""
    try:
        yield
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> IndexFolderError:
    if isinstance(error, PermissionError):
        remedy = "give this user access to the index's files"
    elif error.errno in NO_LOCKS:
        remedy = "move the index to a file system that has locks"
    else:
        remedy = "build the index again"
    problem = "locked" if error.errno in NO_LOCKS else "read"
    return IndexFolderError(f"{path} cannot be {problem} ({error.strerror}): {remedy}")


@contextmanager
def begin_build(folder: Path) -> Iterator[Generation]:
    """Yield the paths of a new generation, for the caller to fill and `publish`; it is removed if not published.

    Raises IndexBusyError if another process is writing the index, IndexFolderError if `folder` is not an index folder,
    and OSError, which `write_errors` converts. An index that was in the folder before is then unchanged.
    """
    if folder.exists() and not folder.is_dir():
        raise IndexFolderError(f"{folder} is a file: name a folder for the index")
    if folder.is_dir() and not is_index(folder) and any(not _is_ours(path) for path in folder.iterdir()):
        raise IndexFolderError(f"{folder} holds files that are not an index: name an empty or a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        _clean(folder)
        unfinished = Path(tempfile.mkdtemp(prefix="building-", dir=folder))
        try:
            yield Generation(unfinished)
        finally:
            # an error here must not hide the one before, nor make a published index look unpublished
            with suppress(OSError):
                shutil.rmtree(unfinished, ignore_errors=True)
                _clean(folder)
                if not is_index(folder):
                    # the first build failed: leave nothing but the checkpoints, which the next one reuses
                    (folder / LOCK).unlink(missing_ok=True)
                    folder.rmdir()


@contextmanager
def write_errors(folder: Path) -> Iterator[None]:
    """Convert errors of the file system, and those that libraries raise for them, into IndexWriteError."""
    try:
        yield
    except (OSError, sqlite3.Error, SafetensorError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        path = str(error.filename or "") if isinstance(error, OSError) else ""
        reason += f", {path}" if path and path != str(folder) else ""
        raise IndexWriteError(
            f"{folder} cannot be written ({reason}): make room on its disk, or make its folder writable; an index that"
            " was there before is untouched"
        ) from error


@contextmanager
def begin_update(folder: Path) -> Iterator[tuple[OpenGeneration, Generation]]:
    """Yield the current generation, open, and the paths of a new one, for the caller to fill and `publish`.

    Checksums of the current files are not verified: unchanged files keep them, and opening the index next detects any
    damage. Raises IndexFolderError as `begin_build` and `open_current` do, and IndexWriteError if an error of the file
    system occurs, also in the caller's block; the index then stays as it was.
    """
    current(folder)
    with write_errors(folder), begin_build(folder) as files:
        generation = open_current(folder, read_manifest(folder).files)
        try:
            yield generation, files
        finally:
            generation.close()


def remove_stale(folder: Path) -> None:
    """Remove the unfinished work of dead processes and unused generations.

    Does nothing while a process is writing the index or if the folder cannot be changed; stale files are harmless.
    """
    with suppress(IndexFolderError, OSError):
        # nothing may be left in a folder that is no index, such as a generation's
        if is_index(folder):
            with _locked(folder, timeout_s=0):
                _clean(folder)


def stale_paths(folder: Path) -> list[Path]:
    """Return all build folders, also of running builds, and all generations except the current one."""
    current_folder = current(folder)
    return sorted(path for path in (*folder.glob("building-*"), *folder.glob("g-*")) if path != current_folder)


@contextmanager
def _locked(folder: Path, *, timeout_s: float = 1.0) -> Iterator[None]:
    """Hold the folder's lock; raise IndexBusyError if another process still holds it after `timeout_s` seconds.

    Raises IndexFolderError if the file system has no locks, and OSError.

    The default outlasts `remove_stale`, which every process that opens the index runs.
    """
    deadline = monotonic() + timeout_s
    path = folder / LOCK
    with path.open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # a failed first build removes its lock file: a lock on a removed file excludes no other process
                is_held = os.path.samestat(os.fstat(lock.fileno()), path.stat())
            except (BlockingIOError, FileNotFoundError):
                is_held = False
            except OSError as error:
                if error.errno in NO_LOCKS:
                    raise _unreadable(path, error) from error
                raise
            if is_held:
                break
            if monotonic() >= deadline:
                raise IndexBusyError(f"another build or change is writing {folder}: wait for it to end, or stop it")
            sleep(0.05)
        yield


def publish(generation: Generation, manifest: Manifest) -> Manifest:
    """Make a filled generation the current one, atomically.

    Returns the manifest as published, with the sizes and checksums of all files. Files that the given manifest has a
    record of are assumed unchanged; all others are measured here.
    """
    folder = generation.folder.parent
    parts = generation.parts
    records = {
        name: manifest.files.get(name) or FileRecord(bytes=path.stat().st_size, checksum=checksum(path))
        for name, path in parts.items()
    }
    new = [path for name, path in parts.items() if name not in manifest.files]
    manifest = manifest.model_copy(update={"files": records})
    generation.manifest.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    generation.folder.chmod(0o755)  # `mkdtemp` makes private folders
    for path in (*new, generation.manifest):
        path.chmod(0o644)
        sync_to_disk(path)
    for inner in filter(Path.is_dir, generation.folder.rglob("*")):
        sync_to_disk(inner)
    sync_to_disk(generation.folder)
    published = folder / f"g-{_newest_number(folder) + 1:06d}"
    generation.folder.rename(published)
    sync_to_disk(folder)
    unfinished = folder / f".{CURRENT}"
    unfinished.write_text(published.name + "\n", encoding="utf-8")
    sync_to_disk(unfinished)
    unfinished.replace(folder / CURRENT)
    sync_to_disk(folder)
    return manifest


def republish(folder: Path, change: Callable[[Manifest], Manifest]) -> Manifest:
    """Publish the index in `folder` with unchanged files and a changed manifest. Returns the manifest as published.

    Raises IndexFolderError as `begin_update` does.
    """
    with begin_update(folder) as (generation, files):
        files.share(
            generation.files, *(path.name for path in generation.files.folder.iterdir() if path.name != MANIFEST)
        )
        return publish(files, change(generation.manifest))


def current(folder: Path) -> Path:
    """Return the folder of the current generation. Raises IndexFolderError if there is none."""
    try:
        name = (folder / CURRENT).read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        raise IndexFolderError(
            f"no index at {folder}: build one with `semsearch build {folder}.toml`,"
            f" or from files with `semsearch build FILES --out {folder}`"
        ) from None
    except UnicodeDecodeError as error:
        raise IndexFolderError(f"{folder / CURRENT} cannot be read ({error}): build the index again") from error
    except OSError as error:
        raise _unreadable(folder / CURRENT, error) from error
    if not name.startswith("g-") or Path(name).name != name:
        raise IndexFolderError(
            f"{folder / CURRENT} names {name[:40]!r}, which is not a generation: build the index again"
        )
    return folder / name


def _check_file(generation: Generation, manifest: Manifest, name: str) -> None:
    path, expected = generation.folder / name, manifest.files.get(name)
    if expected is None:
        raise IndexFolderError(f"{generation.manifest} has no record of the file {name}: build the index again")
    with _read_errors(path):
        size = path.stat().st_size
        if size != expected.bytes:
            raise IndexFolderError(
                f"{path} has {size} bytes, not {expected.bytes}: it is damaged, build the index again"
            )
        if checksum(path, expected.algorithm) != expected.checksum:
            raise IndexFolderError(f"{path} has changed since it was built: it is damaged, build the index again")


def _newest_number(folder: Path) -> int:
    numbers = [path.name.removeprefix("g-") for path in folder.glob("g-*")]
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def _is_ours(path: Path) -> bool:
    return (
        path.name in {LOCK, CURRENT, f".{CURRENT}"}
        or path.name.startswith(("g-", "building-", CHECKPOINT))
        or is_index_checkpoint(path)
    )


def _clean(folder: Path) -> None:
    """Remove all build folders and the generations that are neither current nor open. Needs the folder's lock."""
    for path in folder.glob("building-*"):
        shutil.rmtree(path, ignore_errors=True)
    (folder / f".{CURRENT}").unlink(missing_ok=True)
    current_folder = current(folder) if is_index(folder) else None
    for path in folder.glob("g-*"):
        if path != current_folder:
            _remove_unless_open(path)


def _remove_unless_open(folder: Path) -> None:
    """Remove a generation, atomically for its readers, unless one of them has it open."""
    doomed = folder.with_name(f"building-{folder.name}")
    try:
        with (folder / MANIFEST).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # renamed while locked: a process that waits for the lock sees that the manifest is gone
            folder.rename(doomed)
    except BlockingIOError:
        return
    except FileNotFoundError:
        folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
