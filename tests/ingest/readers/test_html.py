"""Pages as they are: their visible text reaches the index whatever their markup and encoding."""

from __future__ import annotations

import random
from time import perf_counter

import pytest

from semsearch.ingest.readers.html import decode_html, parse_html

XHTML = '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml">'


@pytest.mark.parametrize(
    ("html", "text"),
    [
        # text that a heuristic for the main content loses
        *(
            (f"<body><p>intro<{parent}><ul><li>one</li><li>two</li></ul></{parent}></body>", "intro one two")
            for parent in ("body", "section", "article", "main", "div", "blockquote", "td", "dd")
        ),
        ("<p>text</p><aside>note</aside><div class=footnotes>1. foot</div>", "text note 1. foot"),
        ("<details><summary>More</summary>inside</details>", "More inside"),
        ("<fieldset><legend>Legend</legend>field</fieldset>", "Legend field"),
        ("<label>Name</label><input value=x>", "Name"),
        ("<h2><button>How <b>do</b> I?</button></h2><button>a</button><button>b</button>", "How do I? a b"),
        ("<body style='display:none' hidden><p>m</p></body>", "m"),
        ("<header><h1>T</h1><p>Lead</p></header><article>card</article>", "T Lead card"),
        ("<figure><img alt=picture><figcaption>caption</figcaption></figure>", "caption"),
        ("<table><caption>c</caption><tr><th>a</th><td>b</td></tr></table>", "c a b"),
        ("<dl><dt>term</dt><dd>definition</dd></dl>", "term definition"),
        ("<p>a <b>bo</b>ld<br>line</p>", "a bold line"),
        ("<ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp></ruby>", "漢kan"),
        ("just text &amp; no&nbsp;tags", "just text & no tags"),
        # navigation, invisible elements
        ("<nav>n</nav><div role=navigation>n</div><p>m</p>", "m"),
        ("<header>h</header><main>m<header>title</header></main><footer>f</footer>", "m title"),
        ("<header>h</header><p>m</p><footer>f</footer>", "h m f"),
        ("<p hidden>no</p><p style='display:none'>no</p><dialog>no</dialog><template>no</template><p>m</p>", "m"),
        (
            "<body><script>var no = '<p>no</p>'</script><style>no{}</style><noscript>no</noscript><!-- no --><p>m</p>",
            "m",
        ),
        ("<nav><a>Alpha</a> <a>Beta</a></nav>", "Alpha Beta"),
        ("<svg><title>no</title><text>chart</text></svg><video>no</video><iframe>no</iframe>m", "chart m"),
        # elements that would swallow the rest
        ("""<script>var s = "<script src='x'/>"; var no = 1;</script><p>m</p>""", "m"),
        (f"{XHTML}<body><script>var a = '<p/>';</script><pre>&lt;b/&gt;</pre>m</body></html>", "<b/> m"),
        (f"{XHTML}<head><title/><script src='x'/></head><body><a id='x'/>m<div/>end</body></html>", "m end"),
        ("<head><title/></head><body>m</body>", "m"),
        ("<head><title>Title<body><p>m</p></body>", "m"),
        ("<body><textarea>t<p>m</p></body>", "m"),
        ("<body><p>one</p><script>var x\n<p>two</p></body>", "one two"),
        ("<body>a<!-- not closed <p>b</p>", "a not closed b"),
        ("<body><p>un<b>closed<p>tags", "unclosed tags"),
        ("", ""),
        ("\x00", ""),
    ],
)
def test_visible_text_is_kept(html: str, text: str) -> None:
    assert parse_html(html.encode()).text.split() == text.split()


def test_preformatted_text_keeps_its_lines_and_blocks_end_lines() -> None:
    assert parse_html(b"<pre>a\n  b</pre>").text == "a\n  b"
    assert parse_html(b"<div>a<div>b</div>c</div>").text == "a\nb\nc"


def test_a_page_tells_its_title_headings_language_and_date() -> None:
    page = parse_html(
        b'<html lang="de"><head><title> T &amp; \n x</title><meta name="date" content="2020"></head><body>'
        b"<nav><h2>Menu</h2></nav><h1>One <b>two</b></h1><h2></h2><h3>Three</h3></body></html>"
    )
    assert (page.title, page.headings, page.language, page.date) == ("T & x", ["One two", "Three"], "de", "2020")
    assert parse_html(b"<h1>Heading</h1>").title == "Heading"
    assert parse_html(f'{XHTML[:-1]} xml:lang="fr"><body/></html>'.encode()).language == "fr"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "Größe 数据"),
        ("utf-16", "Größe 数据"),
        ("latin-1", "Größe naïve"),
        ("cp1252", "“Größe”"),
        ("iso-8859-2", "Žluťoučký kůň"),
        ("koi8-r", "Привет мир"),
        ("shift_jis", "日本語テキスト"),
        ("euc-jp", "日本語テキスト"),
        ("iso-2022-jp", "日本語テキスト"),
        ("gb18030", "数据库索引"),
        ("euc-kr", "한국어 검색 색인"),
    ],
)
@pytest.mark.parametrize(
    "head", ['<meta charset="{}">', "<meta http-equiv=Content-Type content='text/html; charset={}'>"]
)
def test_the_declared_encoding_is_used(encoding: str, text: str, head: str) -> None:
    assert parse_html(f"{head.format(encoding)}<p>{text}</p>".encode(encoding)).text == text


@pytest.mark.parametrize(
    ("raw", "encoding", "text"),
    [
        ("<?xml version='1.0' encoding='koi8-r'?><p>Привет</p>".encode("koi8-r"), "utf-8", "Привет"),
        ("<meta charset=latin-1><p>Größe".encode(), "utf-8", "Größe"),  # declared wrongly
        # characters that only a superset of the declared encoding has
        ("<meta charset=iso-8859-1><p>“Größe”".encode("cp1252"), "utf-8", "“Größe”"),
        ("<meta charset=iso-8859-9><p>“ğüş”".encode("cp1254"), "utf-8", "“ğüş”"),
        ("<meta charset=tis-620><p>“ไทย”".encode("cp874"), "utf-8", "“ไทย”"),
        ("<meta charset=shift_jis><p>①㈱髙橋".encode("cp932"), "utf-8", "①㈱髙橋"),
        ("<meta charset=gb2312><p>镕東".encode("gb18030"), "utf-8", "镕東"),
        ("<meta charset=euc-kr><p>똠방각하".encode("cp949"), "utf-8", "똠방각하"),
        ("<meta charset=big5><p>香港嘅".encode("big5hkscs"), "utf-8", "香港嘅"),
        ("<meta charset=utf-8><p>“Größe”".encode("cp1252"), "cp1252", "“Größe”"),
        ("<meta charset=nonsense><p>é".encode(), "utf-8", "é"),
        ("<p>Größe".encode("latin-1"), "latin-1", "Größe"),
        ("<p>Größe naïve café, schöne Grüße".encode("latin-1"), "utf-8", "Größe naïve café, schöne Grüße"),
        (b"\xef\xbb\xbf<p>x", "utf-8", "x"),
        (b'<?xml version="1.0" encoding="utf-16"?><html><p>Hello world!</p></html>', "utf-8", "Hello world!"),
        (b"<meta charset=utf-16><p>Hello world!!", "utf-8", "Hello world!!"),
        ("<p>日本語テキスト".encode("iso-2022-jp"), "iso-2022-jp", "日本語テキスト"),
        ("<p>Hello".encode("utf-16-le"), "utf-16-le", "Hello"),
        ("\ufeff<p>Größe".encode("utf-32-le"), "utf-8", "Größe"),
        ("\ufeff<p>Größe".encode("utf-32-be"), "utf-8", "Größe"),
        ("<p>웹 요청하신 페이지를 찾을 수 없습니다".encode("euc-kr"), "utf-8", "웹 요청하신 페이지를 찾을 수 없습니다"),
        ("<p>한국어 검색 색인".encode() + b"\xff", "utf-8", "한국어 검색 색인\ufffd"),  # damaged
        ("<p>Größe".encode(), "ascii", "Größe"),
    ],
)
def test_an_undeclared_or_wrong_encoding_is_found(raw: bytes, encoding: str, text: str) -> None:
    assert parse_html(raw, encoding).text == text


def test_no_bytes_raise_an_error() -> None:
    draw = random.Random(0)
    pieces = [
        b"<",
        b">",
        b"/",
        b"<title",
        b"<!--",
        b"-->",
        b"<p",
        b"</",
        b"'",
        b'"',
        b"&#x",
        b"\x00",
        b"\xff",
        b"a",
        b" ",
    ]
    for _ in range(2_000):
        raw = b"".join(draw.choice(pieces) for _ in range(draw.randrange(40)))
        parse_html(raw)
        decode_html(draw.randbytes(draw.randrange(40)))


@pytest.mark.parametrize(
    "unit",
    [
        *("<div>", "<table><tr><td>", "<p><b>", "<ul><li>", "<a href=x>", "<img>", "<h2>x</h2>", "<p hidden>x</p>"),
        *("<details><summary>x</summary></details>", "<button>x</button>", "<nav>x</nav>", "<p style='display:none'>"),
        *(
            "<!--",
            "<title>",
            "<script>",
            "<script></script>",
            "<script/>",
            "<title><p>",
            "<x/>",
            "<x ",
            "<",
            "&",
            "</p>",
        ),
    ],
)
def test_time_grows_with_the_size(unit: str) -> None:
    """A page of 100,000 elements takes seconds at most: quadratic time would take minutes."""
    started = perf_counter()
    parse_html((unit * 100_000 + "end").encode())
    assert perf_counter() - started < 60


@pytest.mark.parametrize(
    "pattern",
    [
        "<ul><li>x",
        "<ol><li>x</li>",
        "<menu><li>x",
        "<svg><text>x",
        "<details><summary>x",
        "<fieldset><legend>x",
        "<div>x",
    ],
)
def test_deep_nesting_gives_no_more_text_than_its_size_allows_and_takes_linear_time(pattern: str) -> None:
    raw = pattern.encode() * 20_000
    started = perf_counter()
    page = parse_html(raw)
    assert perf_counter() - started < 60  # a quadratic reader takes minutes
    assert page.text.count("x") == 20_000
    assert len(page.text) < 20 * len(raw)


def test_lists_keep_their_lines_at_any_depth() -> None:
    page = parse_html(b"<ul><li>a" * 40 + b"</ul>" * 40 + b"<p>b</p><ul><li>c</ul>")
    assert page.text.split() == ["a"] * 40 + ["b", "c"]
