"""A built index as files: generations, publishing one whole and opening the current one.

    index/NAME/
      current            the name of the generation that serves, one line
      lock               held by the process that builds or changes it
      g-000002/          a generation: never changed once published
        manifest.json  basis.safetensors  map.safetensors (some)  deleted.safetensors (some)
        s-000001/          a segment: vectors.faiss  graph.faiss (some)  places.npy (some)  documents.sqlite
      domains/           what its domains have learned, which outlives every generation
      building-XXXX/     work in progress; a dead builder's is removed by the next one
      unfinished.sqlite  vectors of a build in progress, which the next one takes up

A builder fills a folder of its own, flushes it to disk, renames it to the next generation and then replaces
`current`, which is the one moment at which readers move. Readers hold a shared lock on their generation's
manifest, so that cleaning up never takes away files that are being read. A change is a generation too: it has the files
of the segments that it leaves as they are in common with the one before, as hard links.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path
from time import monotonic, sleep

from semsearch.errors import IndexBusyError, IndexFolderError
from semsearch.storage.embedding_checkpoint import FILE as JOURNAL
from semsearch.storage.manifest import FileRecord, Manifest, parse_manifest
from semsearch.system.files import sha256, sync_to_disk
from semsearch.system.threads import available_cores

CURRENT = "current"
MANIFEST = "manifest.json"
LOCK = "lock"


@dataclass(frozen=True, slots=True)
class SegmentFiles:
    """The files of one segment, by what they hold."""

    folder: Path

    @property
    def vectors(self) -> Path:
        """Passage vectors."""
        return self.folder / "vectors.faiss"

    @property
    def graph(self) -> Path:
        """Links between near vectors; there in a segment of type hnsw."""
        return self.folder / "graph.faiss"

    @property
    def map_points(self) -> Path:
        """Where its passages stand on the map; there where the index has one."""
        return self.folder / "places.npy"

    @property
    def documents(self) -> Path:
        """Documents, passages, their words and metadata."""
        return self.folder / "documents.sqlite"


@dataclass(frozen=True, slots=True)
class Generation:
    """The files of one generation, by what they hold."""

    folder: Path

    @property
    def manifest(self) -> Path:
        """What the generation is, as JSON."""
        return self.folder / MANIFEST

    @property
    def basis(self) -> Path:
        """The corpus's spectral basis."""
        return self.folder / "basis.safetensors"

    @property
    def map(self) -> Path:
        """The corpus's map; there unless the recipe asks for none."""
        return self.folder / "map.safetensors"

    @property
    def deleted(self) -> Path:
        """Rows of deleted documents, by segment; there where any were."""
        return self.folder / "deleted.safetensors"

    def segment(self, name: str) -> SegmentFiles:
        """The files of the segment of this name."""
        return SegmentFiles(self.folder / name)

    @property
    def parts(self) -> dict[str, Path]:
        """Every file that the manifest vouches for, by its name within the generation."""
        found = {path.relative_to(self.folder).as_posix(): path for path in self.folder.rglob("*") if path.is_file()}
        found.pop(MANIFEST, None)
        return dict(sorted(found.items()))

    def share(self, older: Generation, *names: str) -> None:
        """Take segments, or files, of an older generation as they are: both have their content in common.

        Raises OSError.
        """
        for name in names:
            for path in (older.folder / name).iterdir() if (older.folder / name).is_dir() else [older.folder / name]:
                new = self.folder / path.relative_to(older.folder)
                new.parent.mkdir(exist_ok=True)
                try:
                    os.link(path, new)
                except OSError:  # not every filesystem can
                    shutil.copyfile(path, new)
                    sync_to_disk(new)


@dataclass(frozen=True, slots=True)
class OpenGeneration:
    """A generation that is being read: its files stay until `close`."""

    files: Generation
    manifest: Manifest
    held: BufferedReader

    def close(self) -> None:
        """Release the files."""
        self.held.close()


def is_index(folder: Path) -> bool:
    """Whether `folder` holds a published index."""
    return (folder / CURRENT).is_file()


def open_current(folder: Path, known: Mapping[str, FileRecord] | None = None) -> OpenGeneration:
    """Open the current generation and check its files against its manifest.

    known: files by name that were checked before and are not read again where the manifest says the same of them.
    Raises IndexFolderError if there is none, if its format is another, or if a file is missing or damaged.
    """
    while True:
        generation = Generation(current(folder))
        try:
            held = generation.manifest.open("rb")
        except FileNotFoundError:
            if generation.folder != current(folder):
                continue  # replaced and cleaned up between the two looks
            raise IndexFolderError(f"{generation.manifest} is missing: the index is damaged, build it again") from None
        try:
            fcntl.flock(held, fcntl.LOCK_SH)
            if not generation.manifest.exists():
                held.close()
                continue
            manifest = parse_manifest(generation.manifest, held.read())
            names = sorted({*generation.parts, *manifest.files})
            unknown = [name for name in names if known is None or known.get(name) != manifest.files.get(name)]
            # gigabytes are read: hashing leaves the interpreter to others
            with ThreadPoolExecutor(available_cores()) as pool:
                list(pool.map(partial(_check, generation, manifest), unknown))
        except BaseException:
            held.close()
            raise
        return OpenGeneration(generation, manifest, held)


def read_manifest(folder: Path) -> Manifest:
    """Read the index's manifest without opening the index. Raises IndexFolderError as `open_current` does."""
    generation = Generation(current(folder))
    try:
        return parse_manifest(generation.manifest, generation.manifest.read_bytes())
    except OSError as error:
        raise IndexFolderError(
            f"{generation.manifest} cannot be read ({error.strerror}): build the index again"
        ) from error


@contextmanager
def begin_build(folder: Path) -> Iterator[Generation]:
    """Yield the paths of a new generation, to be filled and given to `publish`; removed again if it is not published.

    Raises IndexFolderError if another process is writing this index, or if `folder` holds something that is no index.
    """
    if folder.exists() and not folder.is_dir():
        raise IndexFolderError(f"{folder} is a file: name a folder for the index")
    if folder.is_dir() and not is_index(folder) and any(not _is_ours(path) for path in folder.iterdir()):
        raise IndexFolderError(f"{folder} holds files that are no index: name an empty or a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        _clean(folder)
        aside = Path(tempfile.mkdtemp(prefix="building-", dir=folder))
        try:
            yield Generation(aside)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            _clean(folder)
            if not is_index(folder):
                # nothing came of it: leave nothing behind but what the next build takes up
                (folder / LOCK).unlink(missing_ok=True)
                with suppress(OSError):
                    folder.rmdir()


@contextmanager
def begin_update(folder: Path) -> Iterator[tuple[OpenGeneration, Generation]]:
    """The generation that serves and a new one's files, to be filled and given to `publish`, as `begin_build` has it.

    No file is read for its checksum: unchanged files keep theirs, and damage is found when the index is opened next.
    Raises IndexFolderError as `begin_build` and `open_current` do, and where the disk refuses; the index is then as it
    was.
    """
    current(folder)
    with begin_build(folder) as files:
        generation = open_current(folder, read_manifest(folder).files)
        try:
            yield generation, files
        except OSError as error:
            raise IndexFolderError(
                f"{folder} cannot be written ({error.strerror or error}): make room; it is as it was"
            ) from error
        finally:
            generation.close()


def remove_stale(folder: Path) -> None:
    """Remove what dead processes left, unless a process is writing; where that is not allowed it stays, and harms
    nobody."""
    with suppress(IndexFolderError, OSError), _locked(folder, patience_s=0):
        _clean(folder)


def stale_paths(folder: Path) -> list[Path]:
    """Return writers' folders, those of running writers too, and every generation but the current one."""
    serving = current(folder)
    return sorted(path for path in (*folder.glob("building-*"), *folder.glob("g-*")) if path != serving)


@contextmanager
def _locked(folder: Path, *, patience_s: float = 1.0) -> Iterator[None]:
    """Hold the folder's lock, or raise IndexBusyError if another process does: for longer than tidying takes."""
    until = monotonic() + patience_s
    path = folder / LOCK
    with path.open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # a build that came to nothing takes its lock file away: then this is no longer the one that others see
                held = os.path.samestat(os.fstat(lock.fileno()), path.stat())
            except (BlockingIOError, FileNotFoundError):
                held = False
            if held:
                break
            if monotonic() >= until:
                raise IndexBusyError(f"another build or change is writing {folder}: wait for it to end, or stop it")
            sleep(0.05)
        yield


def publish(generation: Generation, manifest: Manifest) -> Manifest:
    """Make a filled generation the one that serves; either all of it becomes visible or nothing.

    Returns the manifest as published: with the sizes and checksums of the files. Those that the given manifest vouches
    for already are taken for unchanged, all others are measured here.
    """
    folder = generation.folder.parent
    parts = generation.parts
    measured = {
        name: manifest.files.get(name) or FileRecord(bytes=path.stat().st_size, sha256=sha256(path))
        for name, path in parts.items()
    }
    new = [path for name, path in parts.items() if name not in manifest.files]
    manifest = manifest.model_copy(update={"files": measured})
    generation.manifest.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    generation.folder.chmod(0o755)  # made private, as temporary folders are
    for path in (*new, generation.manifest):
        path.chmod(0o644)
        sync_to_disk(path)
    for inner in generation.folder.glob("s-*"):
        sync_to_disk(inner)
    sync_to_disk(generation.folder)
    published = folder / f"g-{_newest(folder) + 1:06d}"
    generation.folder.rename(published)
    sync_to_disk(folder)
    aside = folder / f".{CURRENT}"
    aside.write_text(published.name + "\n", encoding="utf-8")
    sync_to_disk(aside)
    aside.replace(folder / CURRENT)
    sync_to_disk(folder)
    return manifest


def republish(folder: Path, change: Callable[[Manifest], Manifest]) -> Manifest:
    """Publish the index in `folder` with the same content under a changed manifest, at the cost of a few links.

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
    except (OSError, UnicodeDecodeError) as error:
        raise IndexFolderError(f"{folder / CURRENT} cannot be read ({error}): build the index again") from error
    if not name.startswith("g-") or Path(name).name != name:
        raise IndexFolderError(f"{folder / CURRENT} names {name[:40]!r}, which is no generation: build the index again")
    return folder / name


def _check(generation: Generation, manifest: Manifest, name: str) -> None:
    path, expected = generation.folder / name, manifest.files.get(name)
    if expected is None:
        raise IndexFolderError(f"{generation.manifest} does not vouch for {name}: build the index again")
    try:
        size = path.stat().st_size
        if size != expected.bytes:
            raise IndexFolderError(
                f"{path} has {size} bytes, not {expected.bytes}: it is damaged, build the index again"
            )
        if sha256(path) != expected.sha256:
            raise IndexFolderError(f"{path} has changed since it was built: it is damaged, build the index again")
    except OSError as error:
        raise IndexFolderError(f"{path} cannot be read ({error.strerror}): build the index again") from error


def _newest(folder: Path) -> int:
    numbers = [path.name.removeprefix("g-") for path in folder.glob("g-*")]
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def _is_ours(path: Path) -> bool:
    return path.name in {LOCK, CURRENT, f".{CURRENT}"} or path.name.startswith(("g-", "building-", JOURNAL))


def _clean(folder: Path) -> None:
    """Remove dead builders' work, and every generation but the current one that has no readers."""
    for path in folder.glob("building-*"):
        shutil.rmtree(path, ignore_errors=True)
    (folder / f".{CURRENT}").unlink(missing_ok=True)
    serving = current(folder) if is_index(folder) else None
    for path in folder.glob("g-*"):
        if path != serving:
            _remove_unless_read(path)


def _remove_unless_read(folder: Path) -> None:
    """Remove a generation, in one step as its readers see it; leave it if one of them holds it."""
    doomed = folder.with_name(f"building-{folder.name}")
    try:
        with (folder / MANIFEST).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # still locked: a process that waits for the lock finds the folder gone once it has it
            folder.rename(doomed)
    except BlockingIOError:
        return
    except FileNotFoundError:
        folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
