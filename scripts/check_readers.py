"""Measure which share of the visible words of real files reaches an index, by format.

    python scripts/check_readers.py --cache FOLDER [--checkout OTHER_CHECKOUT] [--json FILE]

The files are those of a Debian system: pages, Markdown, text and PDFs of its packages' documentation, of Node modules
and Python packages, at most 80 of a format, taken evenly from all folders; and Word, OpenDocument, EPUB and PDF files
that LibreOffice and pandoc make of some of them. Each is read by the readers of this checkout, or of another one, and
by an independent program (scripts/independent_text.py). Words are runs of letters and digits, in lower case, after
NFKC and without invisible characters; they are compared as multisets:

    share = |words of title and text ∩ visible words| / |visible words|

Of HTML and EPUB, the visible words are those of the main text; navigation (`nav`, the roles navigation, search, banner
and contentinfo, the page's header and footer) is counted separately, as the share of its words that are indexed.
Prints a table by format (`navigation` is that share, `not read` counts files of which no word is indexed, `ms` is the
median time to read a file) and the ten worst files of each, with words that are missing. What the independent program
does differently is missing too: pdftotext joins words at every hyphen that ends a line, and pandoc repeats footnotes.
The exit code is 1 if the median of a format is below 0.99 or its tenth percentile below 0.95.

Needs Chromium, pandoc, pdftotext and LibreOffice. The independent texts and the files that are made are kept in the
cache, so that a second run, such as one with another checkout, takes seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from independent_text import FORMATS, IndependentReader, VisibleText, content_of, format_of, office
from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOTS = ("/usr/share/doc", "/usr/share/gtk-doc", "/usr/share/javascript", "/usr/share/cmake-*", "/usr/share/help",
         "/usr/share/nodejs", "/usr/share/perl", "/usr/share/vim", "/usr/lib/node_modules", "/usr/lib/python3",
         "/usr/lib/llvm-*", "/usr/lib/jvm")  # fmt: skip
"""Folders of a Debian system that have documentation; the Python packages of this interpreter are added."""
PER_FORMAT = 80
FILE_BYTES = (200, 2_000_000)
"""Sizes of files that are read."""
MIN_WORDS = 10
"""Files with fewer visible words are not measured: one word would be more than a tenth."""
SOURCES = 20
"""Pages, and Markdown files, of which documents of other formats are made."""
SOURCE_WORDS = (100, 10_000)
WORST = 10
SHOWN_WORDS = 12
TARGET_MEDIAN = 0.99
TARGET_TENTH = 0.95
READ_TIMEOUT_S = 120

Words = Counter[str]


@dataclass(frozen=True, slots=True)
class Measurement:
    """How much of one file reaches the index."""

    path: str
    format: str
    share: float
    """Of the words of its main text, in [0, 1]."""
    missing: list[str]
    """Most frequent first."""
    words: int
    """Number of visible words in its main text."""
    navigation_words: int
    navigation_indexed: int
    seconds: float
    reasons: list[str]
    """What the reader reported."""
    raised: bool
    """Whether the reader raised an exception other than InputError, or took longer than two minutes."""


def words_of(text: str) -> Words:
    """Count the words of a text."""
    text = unicodedata.normalize("NFKC", text)
    visible = "".join(character for character in text if unicodedata.category(character) != "Cf")
    return Counter(re.findall(r"\w+", visible.lower()))


def spread(items: Sequence[Path], number: int) -> list[Path]:
    """Return items at even distances, at most `number`."""
    number = min(number, len(items))
    return [items[index * len(items) // number] for index in range(number)]


def choose(folders: Sequence[Sequence[Path]], number: int) -> list[Path]:
    """Return at most `number` files: as many of each folder, as far as it has them, at even distances."""
    counts = [0] * len(folders)
    while number > 0 and (open_folders := [i for i, files in enumerate(folders) if counts[i] < len(files)]):
        taken = min(number, len(open_folders))
        for index in range(taken):
            counts[open_folders[index * len(open_folders) // taken]] += 1
        number -= taken
    return [file for files, count in zip(folders, counts, strict=True) for file in spread(files, count)]


def candidates(cache: Path) -> dict[str, list[list[Path]]]:
    """Return the files of the system by format and folder, sorted; of files with the same content the first."""
    roots = [path for pattern in ROOTS for path in sorted(Path("/").glob(pattern[1:]))]
    packages = {Path(str(found.locate_file(""))) for found in importlib.metadata.distributions()}
    roots += [*sorted(packages), descriptions(cache)]
    seen: set[str] = set()
    files: dict[str, dict[Path, list[Path]]] = {name: defaultdict(list) for name in FORMATS.values()}
    for root in roots:
        for parent, folders, names in os.walk(root):
            folders.sort()
            for path in (Path(parent, name) for name in sorted(names)):
                if not (name := format_of(path)) or path.is_symlink() or not path.is_file():
                    continue
                if not FILE_BYTES[0] <= path.stat().st_size <= FILE_BYTES[1]:
                    continue
                if root in packages and name not in {"Markdown", "text"}:  # their pages are templates
                    continue
                digest = hashlib.sha256(content_of(path)).hexdigest()
                if digest not in seen:
                    seen.add(digest)
                    files[name][path.parent].append(path)
    return {name: list(by_folder.values()) for name, by_folder in files.items()}


def descriptions(cache: Path) -> Path:
    """Write the descriptions of the installed Python packages, which are their READMEs, to a folder."""
    folder = cache / "descriptions"
    folder.mkdir(parents=True, exist_ok=True)
    for found in importlib.metadata.distributions():
        fields = found.metadata.json  # its description is the file's body
        suffix = ".md" if "markdown" in str(fields.get("description_content_type")) else ".rst"
        text = str(fields.get("description", ""))
        (folder / f"{found.metadata['Name']}{suffix}").write_text(text, encoding="utf-8")
    return folder


def make_documents(pages: Sequence[Path], notes: Sequence[Path], cache: Path) -> list[Path]:
    """Make Word, OpenDocument, EPUB and PDF files of pages and Markdown files; what is in the cache is not made again.

    Of Markdown by pandoc, of pages by LibreOffice, EPUB by both; PDF of the Word files of the one and the
    OpenDocument files of the other, by LibreOffice.
    """
    folder, profile = cache / "made", cache / "profile"
    folder.mkdir(parents=True, exist_ok=True)
    for path in [*notes, *pages]:
        base = f"{_name(path)}-pandoc"
        is_page = path in pages
        for suffix in (".epub",) if is_page else (".docx", ".odt", ".epub"):
            if not (folder / f"{base}{suffix}").exists():
                _pandoc(path, folder / f"{base}{suffix}", "html" if is_page else "gfm")
    with tempfile.TemporaryDirectory() as name:
        inputs = {f"{_name(path)}-office": Path(name, f"{_name(path)}-office.html") for path in pages}
        for path, copy in zip(pages, inputs.values(), strict=True):
            copy.write_bytes(content_of(path))
        for suffix, target in ((".docx", "docx:MS Word 2007 XML"), (".odt", "odt:writer8")):
            missing = [copy for base, copy in inputs.items() if not (folder / f"{base}{suffix}").exists()]
            if missing:
                office(target, missing, folder, profile=profile, source="HTML (StarWriter)")
    for suffix, pattern in ((".pdf", "*-pandoc.docx"), (".pdf", "*-office.odt"), (".epub", "*-office.odt")):
        missing = [path for path in sorted(folder.glob(pattern)) if not path.with_suffix(suffix).exists()]
        if missing:
            office(suffix[1:], missing, folder, profile=profile)
    names = {_name(path) for path in [*pages, *notes]}
    return [path for path in sorted(folder.iterdir()) if path.stem.rpartition("-")[0] in names]


def _name(path: Path) -> str:
    """A file's name without suffixes, and a part of its content's digest."""
    return f"{path.name.split('.')[0]}-{hashlib.sha256(content_of(path)).hexdigest()[:8]}"


def _pandoc(path: Path, target: Path, form: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        source = Path(shutil.copy(path, name)) if path.suffix != ".gz" else Path(name, path.stem)
        source.write_bytes(content_of(path))
        command = ["pandoc", f"--from={form}", f"--metadata=title:{path.stem}", str(source), "-o", str(target)]
        subprocess.run(command, check=False, capture_output=True, timeout=READ_TIMEOUT_S)


def read_files() -> None:
    """Read the files that standard input lists by the readers of the imported checkout; print one JSON line each."""
    if importlib.util.find_spec("semsearch.ingest") is not None:
        sources, recipe = "semsearch.ingest.readers.sources", "semsearch.ingest.recipe"
    else:  # the modules' names in version 0.1
        sources, recipe = "semsearch.indexing.readers", "semsearch.indexing.recipe"
    read: Any = importlib.import_module(sources).read
    source: Any = importlib.import_module(recipe).Source

    def stop(*_: object) -> None:
        raise TimeoutError(f"it took more than {READ_TIMEOUT_S} s")

    signal.signal(signal.SIGALRM, stop)
    for path in json.load(sys.stdin):
        texts, reasons, raised = [], [], False
        started = perf_counter()
        signal.alarm(READ_TIMEOUT_S)
        try:
            for record in read(source(path=path)):
                if hasattr(record, "text"):
                    texts.append(f"{record.title}\n{record.text}")
                else:
                    reasons.append(record.reason)
        except Exception as error:  # noqa: BLE001 - it is what is measured
            reasons.append(f"{type(error).__name__}: {error}")
            raised = type(error).__name__ != "InputError"  # for example, the format is not known
        signal.alarm(0)
        result = {"text": "\n".join(texts), "reasons": reasons, "raised": raised, "seconds": perf_counter() - started}
        print(json.dumps(result), flush=True)


def readings(checkout: Path, paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Yield what the readers of a checkout make of each file, from a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, __file__, "--read-files"]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        json.dump([str(path) for path in paths], file)
        file.seek(0)
        with subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, env=environment, text=True) as process:
            assert process.stdout is not None
            yield from map(json.loads, process.stdout)
    if process.returncode:
        raise RuntimeError(f"{checkout}: the readers ended with exit code {process.returncode}")


def measure(path: Path, visible: VisibleText, reading: dict[str, Any]) -> Measurement:
    """Compare what the readers make of a file with what is visible."""
    indexed, main = words_of(reading["text"]), words_of(visible.main)
    navigation = words_of(visible.everything) - main
    missing = main - indexed
    return Measurement(
        path=str(path),
        format=format_of(path),
        share=1 - missing.total() / main.total(),
        missing=[word for word, _ in missing.most_common(SHOWN_WORDS)],
        words=main.total(),
        navigation_words=navigation.total(),
        navigation_indexed=((indexed - main) & navigation).total(),
        seconds=reading["seconds"],
        reasons=reading["reasons"],
        raised=reading["raised"],
    )


def report(measurements: Sequence[Measurement], console: Console) -> bool:
    """Print the table and the worst files; return whether every format reaches the targets."""
    table = Table("format", "files", "median", "tenth", "navigation", "not read", "raised", "ms")
    by_format: dict[str, list[Measurement]] = defaultdict(list)
    for measurement in measurements:
        by_format[measurement.format].append(measurement)
    reached = True
    for name, values in by_format.items():
        shares = [value.share for value in values]
        middle, tenth = median(shares), float(np.quantile(shares, 0.1))
        reached &= middle >= TARGET_MEDIAN and tenth >= TARGET_TENTH
        navigation = sum(value.navigation_words for value in values)
        indexed = sum(value.navigation_indexed for value in values)
        table.add_row(
            name,
            str(len(values)),
            f"{middle:.4f}",
            f"{tenth:.4f}",
            f"{indexed / navigation:.2f}" if navigation else "",
            str(sum(value.share == 0 for value in values)),
            str(sum(value.raised for value in values)),
            f"{1_000 * median(value.seconds for value in values):.0f}",
        )
    console.print(table)
    for name, values in by_format.items():
        console.print(f"\n{name}: the worst")
        for value in sorted(values, key=lambda value: value.share)[:WORST]:
            reasons = f" ({'; '.join(value.reasons)[:200]})" if value.reasons else ""
            missing = " ".join(value.missing)
            line = f"  {value.share:.3f} of {value.words} {Path(value.path).name}: {missing}{reasons}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    return reached


def suitable_sources(paths: Sequence[Path], visible: dict[Path, VisibleText]) -> list[Path]:
    """Choose the files, neither short nor long, of which documents of other formats are made."""
    least, most = SOURCE_WORDS
    counts = {path: words_of(visible[path].main).total() for path in paths if path in visible}
    return spread([path for path, count in counts.items() if least <= count <= most], SOURCES)


def choose_files(reader: IndependentReader, options: argparse.Namespace, console: Console) -> dict[Path, VisibleText]:
    """Choose and make the files, and read them independently."""
    cache: Path = options.cache
    chosen = {name: choose(folders, options.per_format) for name, folders in candidates(cache).items()}
    visible: dict[Path, VisibleText] = {}

    def read(paths: Sequence[Path], kind: str) -> None:
        reader.read_office(paths)
        for path in track(paths, f"reading {kind} independently", console=console, transient=True):
            try:
                text = reader.read(path)
            except RuntimeError as error:
                console.print(str(error)[:300], markup=False, soft_wrap=True)
                continue
            if words_of(text.main).total() >= MIN_WORDS:
                visible[path] = text

    for name, paths in chosen.items():
        read(paths, name)
    pages, notes = (suitable_sources(chosen[name], visible) for name in ("HTML", "Markdown"))
    console.print(f"making documents of {len(pages) + len(notes)} files")
    read(make_documents(pages, notes, cache), "documents")
    return visible


def main() -> int:
    """Measure one checkout."""
    if sys.argv[1:] == ["--read-files"]:
        read_files()
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder of independent texts and files that are made")
    parser.add_argument("--checkout", type=Path, default=Path(__file__).parents[1], help="default: this one")
    parser.add_argument("--per-format", type=int, default=PER_FORMAT, help="files of a format (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the measurements of all files to this file")
    options = parser.parse_args()
    console = Console()
    with IndependentReader.open(options.cache) as reader:
        visible = choose_files(reader, options, console)
    paths = list(visible)
    checkout = options.checkout.resolve()
    found = track(readings(checkout, paths), f"reading by {checkout.name}", len(paths), console=console, transient=True)
    measurements = [measure(path, visible[path], reading) for path, reading in zip(paths, found, strict=True)]
    if options.json:
        options.json.write_text(json.dumps([asdict(value) for value in measurements], indent=1), encoding="utf-8")
    return 0 if report(measurements, console) else 1


if __name__ == "__main__":
    sys.exit(main())
