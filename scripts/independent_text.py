"""The visible text of files, read by programs that the project does not use. For scripts/check_readers.py.

| format | read by |
|---|---|
| HTML | Chromium's innerText: JavaScript off, no network, `details` open, `noscript` removed |
| Markdown | pandoc's HTML, read as HTML |
| EPUB | the chapters of its spine, unpacked and read as HTML |
| PDF | pdftotext |
| Word, OpenDocument | LibreOffice's text export, which lacks footnotes; without the numbers of lists |
| text | the decoded file: UTF-8, otherwise the encoding that `file` finds |
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote
from xml.etree import ElementTree

from playwright.sync_api import Error as PageError
from playwright.sync_api import Page, sync_playwright

FORMATS = {
    ".html": "HTML",
    ".htm": "HTML",
    ".xhtml": "HTML",
    ".md": "Markdown",
    ".markdown": "Markdown",
    ".txt": "text",
    ".text": "text",
    ".rst": "text",
    ".pdf": "PDF",
    ".docx": "Word",
    ".odt": "OpenDocument",
    ".epub": "EPUB",
}
"""By suffix, the format of a file."""
VERSION = 1
"""Changes with what a reading is, so that cached ones are read again."""
TIMEOUT_S = 60
"""For one file."""
OFFICE_TIMEOUT_S = 600
"""For all files of one run of LibreOffice."""
LIST_LABEL = re.compile(r"^[ \t]*(?:\d+|[ivxlc]+|[a-z])[.)][ \t]", re.MULTILINE | re.IGNORECASE)
READ_PAGE = """() => {
  for (const node of document.querySelectorAll("details")) node.open = true;
  for (const node of document.querySelectorAll("noscript")) node.remove();
  const body = document.body ?? document.documentElement;
  const all = body.innerText ?? body.textContent;
  const marked = "nav, [role=navigation], [role=search], [role=banner], [role=contentinfo]";
  const banners = [...document.querySelectorAll("header, footer")]
    .filter((node) => !node.parentElement.closest("main, [role=main], article, aside, section"));
  for (const node of [...document.querySelectorAll(marked), ...banners])
    node.style.setProperty("display", "none", "important");
  return [all, body.innerText ?? body.textContent, document.querySelector("parsererror") !== null];
}"""
"""Returns the visible text, the visible text without navigation, and whether the page is not well-formed XHTML.

Header and footer are navigation where HTML says that they are the page's, not those of a section of its content.
"""


@dataclass(frozen=True, slots=True)
class VisibleText:
    """What a reader of the file sees."""

    main: str
    """The text without navigation; all of it in formats that have no navigation, and in a page of nothing else."""
    everything: str
    """The text with navigation."""


def format_of(path: Path) -> str:
    """The format of a file, by its suffix; empty for another one."""
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    return FORMATS.get(suffix.lower(), "")


def content_of(path: Path) -> bytes:
    """The bytes of a file, decompressed. Raises OSError."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def office(target: str, paths: Sequence[Path], folder: Path, *, profile: Path, source: str = "") -> None:
    """Convert files with LibreOffice, into a folder. Files that it cannot convert are missing there.

    target, source: names of LibreOffice's filters for writing, and for reading where the suffix is not enough.
    """
    command = ["soffice", f"-env:UserInstallation={profile.resolve().as_uri()}", "--headless"]
    command += [f"--infilter={source}"] * bool(source) + ["--convert-to", target, "--outdir", str(folder)]
    try:
        subprocess.run([*command, *map(str, paths)], check=False, capture_output=True, timeout=OFFICE_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        print(f"LibreOffice took too long: {error.cmd[-1]}", flush=True)


class IndependentReader:
    """Reads files by other programs, and keeps each text in a folder."""

    def __init__(self, cache: Path, page: Page) -> None:
        self._cache = cache
        self._page = page
        self._texts = cache / "texts"
        self._texts.mkdir(parents=True, exist_ok=True)

    @classmethod
    @contextmanager
    def open(cls, cache: Path) -> Iterator[IndependentReader]:
        """Start Chromium. Raises RuntimeError if one of the programs is not installed."""
        for program in ("chromium", "pandoc", "pdftotext", "soffice", "file"):
            if shutil.which(program) is None:
                raise RuntimeError(f"{program} is not installed: apt-get install chromium pandoc poppler-utils "
                                   "libreoffice-writer file")  # fmt: skip
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            context = browser.new_context(java_script_enabled=False, offline=True)
            page = context.new_page()
            page.set_default_timeout(TIMEOUT_S * 1_000)
            yield cls(cache, page)
            browser.close()

    def read(self, path: Path) -> VisibleText:
        """Read a file. Raises RuntimeError if its program cannot read it."""
        cached = self._cached(path)
        if not cached.exists():
            try:
                text = self._read(path)
            except (OSError, subprocess.SubprocessError, PageError, KeyError, ElementTree.ParseError) as error:
                raise RuntimeError(f"{path}: no independent reading ({error})") from error
            cached.write_text(json.dumps(asdict(text)), encoding="utf-8")
        return VisibleText(**json.loads(cached.read_text(encoding="utf-8")))

    def read_office(self, paths: Sequence[Path]) -> None:
        """Read the files of LibreOffice's formats into the cache at once, since starting it takes seconds."""
        for suffix in (".docx", ".odt"):
            unread = {self._cached(path): path for path in paths if path.suffix == suffix}
            unread = {cached: path for cached, path in unread.items() if not cached.exists()}
            if not unread:
                continue
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                for cached, path in unread.items():
                    shutil.copy(path, folder / f"{cached.stem}{suffix}")
                inputs = sorted(folder.glob(f"*{suffix}"))
                office("txt:Text (encoded):UTF8", inputs, folder, profile=self._cache / "profile")
                for cached in unread:
                    exported = folder / f"{cached.stem}.txt"
                    if exported.exists():
                        text = LIST_LABEL.sub("", exported.read_text(encoding="utf-8-sig"))
                        cached.write_text(json.dumps(asdict(VisibleText(text, text))), encoding="utf-8")

    def _cached(self, path: Path) -> Path:
        # the folder of a page has its style sheets
        key = f"{VERSION} {path.resolve()} ".encode() + path.read_bytes()
        return self._texts / f"{hashlib.sha256(key).hexdigest()[:24]}.json"

    def _read(self, path: Path) -> VisibleText:
        match format_of(path):
            case "HTML":
                return self._read_html(path)
            case "Markdown":
                return self._read_markdown(path)
            case "EPUB":
                return self._read_epub(path)
            case "PDF":
                text = _output("pdftotext", "-enc", "UTF-8", "-", "-", content=content_of(path)).decode()
            case "text":
                text = _decode(content_of(path))
            case name:
                raise OSError(f"{name} files are read by read_office, which could not read it")
        return VisibleText(text, text)

    def _read_html(self, path: Path) -> VisibleText:
        if path.suffix != ".gz":
            return self._show(path)
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder, path.stem)
            page.write_bytes(content_of(path))
            return self._show(page)

    def _read_markdown(self, path: Path) -> VisibleText:
        with tempfile.TemporaryDirectory() as folder:
            source, page = Path(folder, "page.md"), Path(folder, "page.html")
            source.write_text(_decode(content_of(path)), encoding="utf-8")
            command = ("pandoc", "--to=html", source, "--from=gfm-tex_math_dollars")
            try:
                html = _output(*command[:-1], f"{command[-1]}+yaml_metadata_block")
            except subprocess.CalledProcessError:  # it begins with a rule, or its front matter is not YAML
                html = _output(*command)
            page.write_bytes(b"<!doctype html><meta charset=utf-8><body>" + html)
            return self._show(page)

    def _read_epub(self, path: Path) -> VisibleText:
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as book:
            book.extractall(folder)
            container = ElementTree.fromstring(book.read("META-INF/container.xml"))
            package_path = PurePosixPath(container.findall(".//{*}rootfile")[0].attrib["full-path"])
            package = ElementTree.fromstring(book.read(str(package_path)))
            items = {item.attrib["id"]: item.attrib["href"] for item in package.findall(".//{*}item")}
            hrefs = [items[reference.attrib["idref"]] for reference in package.findall(".//{*}itemref")]
            chapters = [self._show(Path(folder, package_path.parent, unquote(href))) for href in hrefs]
        return VisibleText(
            "\n".join(chapter.main for chapter in chapters), "\n".join(chapter.everything for chapter in chapters)
        )

    def _show(self, page: Path) -> VisibleText:
        self._page.goto(page.resolve().as_uri())
        everything, main, is_malformed = self._page.evaluate(READ_PAGE)
        if not self._page.url.startswith(page.resolve().as_uri()):
            raise PageError("it refers the browser to another page")
        if is_malformed and page.suffix != ".html":
            with tempfile.TemporaryDirectory() as folder:
                return self._show(Path(shutil.copy(page, Path(folder, "page.html"))))
        return VisibleText(main if main.strip() else everything, everything)


def _output(*command: str | Path, content: bytes = b"") -> bytes:
    return subprocess.run(command, input=content, check=True, capture_output=True, timeout=TIMEOUT_S).stdout


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        found = _output("file", "--brief", "--mime-encoding", "-", content=raw).decode()
    try:
        return raw.decode(found.strip())
    except (LookupError, UnicodeDecodeError):
        return raw.decode("latin-1")
