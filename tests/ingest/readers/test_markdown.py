"""Markdown: all visible text is read, and time is in proportion to size, also for hostile input."""

from __future__ import annotations

from time import monotonic

import pytest

from semsearch.ingest.readers.markdown import parse_markdown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one  \ntwo\\\nthree\nfour<br>five", "one two three four five"),
        ("<details><summary>Sum</summary>\n\n**in** side\n\n</details>", "Sum in side"),
        ("<table><tr><td>a</td><td>b</td></tr></table>\n\nafter", "a b after"),
        ("<div align=center>\n<h1>Name</h1>\n<p>A <b>whole</b> readme</p>\n</div>", "Name A whole readme"),
        ("|a|b|\n|-|-|\n|c|d|", "a b c d"),
        ("term\n: definition", "term definition"),
        ("- [ ] open\n- [x] done", "open done"),
        ("word[^1] next\n\n[^1]: The note.", "word 1 next 1 The note."),
        ("word\n\n[^unused]: A note without a reference.", "word 1 A note without a reference."),
        ("[text][ref] and [other](http://x)\n\n[ref]: http://y 'title'", "text and other"),
        ("![alt *text*](a.png) <img src=b.png alt='html alt'>", "alt text html alt"),
        ("Setext\n======\n\nSub\n---\n\n### ATX ###", "Setext Sub ATX"),
        ("&copy; &amp; &#65; &lt;b&gt; \\*star\\*", "© & A <b> *star*"),
        ("```py\nx = 1\n```\n\n    y = 2\n\n`z`", "x = 1 y = 2 z"),
        ("~~gone~~ *em* __strong__ a*b*c", "gone em strong abc"),
        ("<https://example.org> <a@example.org>", "https://example.org a@example.org"),
        ("shown <!-- hidden --> too\n\n<!-- never closed\n\nlast", "shown too never closed last"),
        ("clone <repo> and List<String>, a <div> a <title>", "clone <repo> and List<String>, a <div> a <title>"),
        ("charset=cp037 is EBCDIC", "charset=cp037 is EBCDIC"),
        ("> quoted\n> > twice", "quoted twice"),
    ],
)  # fmt: skip
def test_all_visible_text_is_read(text: str, words: str) -> None:
    assert parse_markdown(text).text.split() == words.split()


@pytest.mark.parametrize("depth", [5, 10, 30, 200])
def test_nested_lists_and_quotes_are_read_at_any_depth(depth: int) -> None:
    items = "".join(f"{'  ' * level}- item{level}\n" for level in range(depth))
    assert parse_markdown(items).text.split() == [f"item{level}" for level in range(depth)]
    assert parse_markdown("> " * depth + "deep").text.strip() == "deep"


def test_headings_are_listed_and_an_image_may_be_one() -> None:
    page = parse_markdown("# ![Logo](logo.png)\n\n## Use `it`\n\nText.")
    assert (page.title, page.headings) == ("Logo", ["Logo", "Use it"])


@pytest.mark.parametrize(
    "pattern",
    [
        "[", "![", "*a ", "**a _b ", "> ", "- ", "1. ", "[a](", "<a ", "<!-- ", "<![CDATA[", "`", "&", "\\", "|a",
        "_a __b ", "a](b)", "[^1]: a [^1]\n", "<div>\n\n", "~~~\n", "- [ ] a\n", "a\n", "<b>", "</b>", "<title>", "<x>",
    ],
)  # fmt: skip
def test_time_is_in_proportion_to_size(pattern: str) -> None:
    started = monotonic()
    parse_markdown(pattern * (100_000 // len(pattern)) + "\n\nlast words")
    assert monotonic() - started < 20  # a quadratic parser takes minutes
