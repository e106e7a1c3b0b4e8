"""A built index as files: generations, publishing one whole and opening the current one.

    index/NAME/
      current            the name of the generation that serves, one line
      lock               held by whoever builds
      g-000002/          a generation: never changed once published
        manifest.json  vectors.faiss  graph.faiss (some)  documents.sqlite  basis.safetensors
      domains/           what its domains have learned, which outlives every generation
      building-XXXX/     work in progress; a dead builder's is removed by the next one

A builder fills a folder of its own, flushes it to disk, renames it to the next generation and then replaces
`current`, which is the one moment at which readers move. Readers hold a shared lock on their generation's
manifest, so that cleaning up never takes away files that are being read.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from semsearch.files import flush
from semsearch.records import BundleError
from semsearch.storage.manifest import FileRecord, Manifest, parsed

CURRENT = "current"
MANIFEST = "manifest.json"
LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Generation:
    """The files of one generation, by what they hold."""

    folder: Path

    @property
    def manifest(self) -> Path:
        """What the generation is, as JSON."""
        return self.folder / MANIFEST

    @property
    def vectors(self) -> Path:
        """Passage vectors."""
        return self.folder / "vectors.faiss"

    @property
    def graph(self) -> Path:
        """Links between near vectors; there in an index of type hnsw."""
        return self.folder / "graph.faiss"

    @property
    def documents(self) -> Path:
        """Documents, passages and their words."""
        return self.folder / "documents.sqlite"

    @property
    def basis(self) -> Path:
        """The corpus's spectral basis."""
        return self.folder / "basis.safetensors"

    @property
    def parts(self) -> tuple[Path, ...]:
        """Every file that the manifest vouches for."""
        graph = (self.graph,) if self.graph.exists() else ()
        return self.vectors, *graph, self.documents, self.basis


@dataclass(frozen=True, slots=True)
class OpenGeneration:
    """A generation that is being read: its files stay until `close`."""

    files: Generation
    manifest: Manifest
    held: BufferedReader

    def close(self) -> None:
        """Let go of the files."""
        self.held.close()


def is_bundle(folder: Path) -> bool:
    """Whether `folder` holds a published index."""
    return (folder / CURRENT).is_file()


def open_current(folder: Path) -> OpenGeneration:
    """The generation that serves, checked file by file against its manifest.

    Raises BundleError if there is none, if its format is another, or if a file is missing or damaged.
    """
    while True:
        generation = Generation(_current(folder))
        try:
            held = generation.manifest.open("rb")
        except FileNotFoundError:
            if generation.folder != _current(folder):
                continue  # replaced and cleaned up between the two looks
            raise BundleError(f"{generation.manifest} is missing: the index is damaged, build it again") from None
        try:
            fcntl.flock(held, fcntl.LOCK_SH)
            if not generation.manifest.exists():
                held.close()
                continue
            manifest = parsed(generation.manifest, held.read())
            for path in sorted({*generation.parts, *(generation.folder / name for name in manifest.files)}):
                _check(path, manifest)
        except BaseException:
            held.close()
            raise
        return OpenGeneration(generation, manifest, held)


def read_manifest(folder: Path) -> Manifest:
    """What the index in `folder` is, without opening it. Raises BundleError as `open_current` does."""
    generation = Generation(_current(folder))
    try:
        return parsed(generation.manifest, generation.manifest.read_bytes())
    except OSError as error:
        raise BundleError(f"{generation.manifest} cannot be read ({error.strerror}): build the index again") from error


@contextmanager
def building(folder: Path) -> Iterator[Generation]:
    """A new generation's files, to be filled and then given to `publish`; removed again if that does not happen.

    Raises BundleError if somebody else is building this index, or if `folder` holds something that is no index.
    """
    if folder.exists() and not folder.is_dir():
        raise BundleError(f"{folder} is a file: name a folder for the index")
    if folder.is_dir() and not is_bundle(folder) and any(not _is_ours(path) for path in folder.iterdir()):
        raise BundleError(f"{folder} holds files that are no index: name an empty or a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        _clean(folder)
        aside = Path(tempfile.mkdtemp(prefix="building-", dir=folder))
        try:
            yield Generation(aside)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            _clean(folder)
            if not is_bundle(folder):
                # nothing came of it: leave nothing behind
                (folder / LOCK).unlink(missing_ok=True)
                with suppress(OSError):
                    folder.rmdir()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, or raise BundleError if somebody else does."""
    busy = BundleError(f"another build is writing {folder}: wait for it to end, or stop it")
    path = folder / LOCK
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # a build that came to nothing takes its lock file away: then this is no longer the one that others see
            if not os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                raise busy
        except (BlockingIOError, FileNotFoundError):
            raise busy from None
        yield


def publish(generation: Generation, manifest: Manifest) -> Manifest:
    """Make a filled generation the one that serves; either all of it becomes visible or nothing.

    Returns the manifest as published: with the sizes and checksums of the files, measured here.
    """
    folder = generation.folder.parent
    measured = {path.name: FileRecord(bytes=path.stat().st_size, sha256=sha256(path)) for path in generation.parts}
    manifest = manifest.model_copy(update={"files": measured})
    generation.manifest.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    generation.folder.chmod(0o755)  # made private, as temporary folders are
    for path in (*generation.parts, generation.manifest):
        path.chmod(0o644)
        flush(path)
    flush(generation.folder)
    published = folder / f"g-{_newest(folder) + 1:06d}"
    generation.folder.rename(published)
    flush(folder)
    aside = folder / f".{CURRENT}"
    aside.write_text(published.name + "\n", encoding="utf-8")
    flush(aside)
    aside.replace(folder / CURRENT)
    flush(folder)
    return manifest


def republish(folder: Path, change: Callable[[Manifest], Manifest]) -> Manifest:
    """Publish the index in `folder` with the same content under a changed manifest, at the cost of reading it once.

    Raises BundleError as `building` and `open_current` do, and where the disk refuses.
    """
    with building(folder) as files:
        generation = open_current(folder)
        try:
            for old in generation.files.parts:
                _share(old, files.folder / old.name)
            return publish(files, change(generation.manifest))
        except OSError as error:
            raise BundleError(f"{folder} cannot be written ({error.strerror}): it is as it was") from error
        finally:
            generation.close()


def _share(old: Path, new: Path) -> None:
    """The same content under another name: a generation never changes, so two may have their files in common."""
    try:
        os.link(old, new)
    except OSError:  # not every filesystem can
        shutil.copyfile(old, new)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _current(folder: Path) -> Path:
    try:
        name = (folder / CURRENT).read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(
            f"no index at {folder}: build one with `semsearch build {folder}.toml`,"
            f" or from files with `semsearch build FILES --out {folder}`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{folder / CURRENT} cannot be read ({error}): build the index again") from error
    if not name.startswith("g-") or Path(name).name != name:
        raise BundleError(f"{folder / CURRENT} names {name[:40]!r}, which is no generation: build the index again")
    return folder / name


def _check(path: Path, manifest: Manifest) -> None:
    expected = manifest.files.get(path.name)
    if expected is None:
        raise BundleError(f"{path.parent / MANIFEST} does not vouch for {path.name}: build the index again")
    try:
        size = path.stat().st_size
        if size != expected.bytes:
            raise BundleError(f"{path} has {size} bytes, not {expected.bytes}: it is damaged, build the index again")
        if sha256(path) != expected.sha256:
            raise BundleError(f"{path} has changed since it was built: it is damaged, build the index again")
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}): build the index again") from error


def _newest(folder: Path) -> int:
    numbers = [path.name.removeprefix("g-") for path in folder.glob("g-*")]
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def _is_ours(path: Path) -> bool:
    return path.name in {LOCK, CURRENT, f".{CURRENT}"} or path.name.startswith(("g-", "building-"))


def _clean(folder: Path) -> None:
    """Remove dead builders' work, and every generation but the current one that nobody reads."""
    for path in folder.glob("building-*"):
        shutil.rmtree(path, ignore_errors=True)
    (folder / f".{CURRENT}").unlink(missing_ok=True)
    current = _current(folder) if is_bundle(folder) else None
    for path in folder.glob("g-*"):
        if path != current:
            _remove_unless_read(path)


def _remove_unless_read(folder: Path) -> None:
    """Remove a generation, in one step as its readers see it; leave it if one of them holds it."""
    doomed = folder.with_name(f"building-{folder.name}")
    try:
        with (folder / MANIFEST).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # still locked: whoever waits for the lock finds the folder gone once it has it
            folder.rename(doomed)
    except BlockingIOError:
        return
    except FileNotFoundError:
        folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
