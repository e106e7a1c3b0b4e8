"""Word and OpenDocument documents: every text of the printed page is read once, in order, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from semsearch.ingest.readers import content as limits
from semsearch.ingest.readers.docx import parse_docx
from semsearch.ingest.readers.files import BadRecord
from semsearch.ingest.readers.odt import parse_odt
from semsearch.ingest.readers.sources import read
from semsearch.ingest.recipe import Source
from semsearch.types import Document
from tests.ingest.readers.samples import ODF_NAMESPACES, STRICT_W, W, docx_bytes, odt_bytes, odt_xml, write, zip_bytes


def t(text: str) -> str:
    return f"<w:r><w:t>{text}</w:t></w:r>"


def p(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def tbl(*rows: str) -> str:
    return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in rows)}</w:tbl>"


def tc(content: str) -> str:
    return f"<w:tc>{content}</w:tc>"


BOX = f"<w:txbxContent>{p('Boxed')}</w:txbxContent>"
FIELD = (
    '<w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText>{code}</w:instrText></w:r>{inner}<w:r>'
    '<w:fldChar w:fldCharType="separate"/></w:r><w:r><w:t>{result}</w:t></w:r><w:r><w:fldChar w:fldCharType="end"/>'
    "</w:r>"
)
NESTED = FIELD.format(code="MERGEFIELD", inner="", result="Hidden")
NOTES = (
    f'<w:footnotes xmlns:w="{W}"><w:footnote w:type="separator" w:id="-1"/><w:footnote w:id="2">{p("First note")}'
    f'</w:footnote><w:footnote w:id="3">{p("Never referred to")}</w:footnote></w:footnotes>'
)
STYLES = (
    f'<w:styles xmlns:w="{W}"><w:style w:styleId="Überschrift1"><w:name w:val="heading 1"/></w:style>'
    '<w:style w:styleId="own"><w:basedOn w:val="Überschrift1"/></w:style>'
    '<w:style w:styleId="a"><w:basedOn w:val="b"/></w:style><w:style w:styleId="b"><w:basedOn w:val="a"/></w:style>'
    "</w:styles>"
)


W_TEXT = f'<w:document xmlns:w="{W}"><w:body>{p("Text")}</w:body></w:document>'


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (p("One") + p("Two"), "One\n\nTwo"),
        ("<w:p><w:r><w:t>Hel</w:t></w:r><w:r><w:t>lo</w:t></w:r></w:p>", "Hello"),
        (f"<w:p><w:ins>{p('In')[5:-6]}</w:ins><w:del><w:r><w:delText>Out</w:delText></w:r></w:del></w:p>", "In"),
        (f"<w:p><w:moveFrom>{t('Old')}</w:moveFrom><w:moveTo>{t('New')}</w:moveTo></w:p>", "New"),
        (tbl(tc(p("A")) + tc(p("B") + p("")), tc(p("")) + tc(p("C") + p("D"))) + p("End"), "A\tB\nC\nD\n\nEnd"),
        (tbl(tc(p("A") + tbl(tc(p("B")) + tc(p("C"))) + p("")) + tc(p("D"))), "A\nB\tC\tD"),
        (
            f"<w:sdt><w:sdtPr><w:alias w:val='x'/></w:sdtPr><w:sdtContent>{p('Control')}</w:sdtContent></w:sdt>",
            "Control",
        ),
        (f"<w:p><w:hyperlink>{t('Link')}</w:hyperlink><w:fldSimple>{t(' page')}</w:fldSimple></w:p>", "Link page"),
        (f"<w:p>{FIELD.format(code='TOC', inner='', result='Result')}</w:p>", "Result"),
        (f"<w:p>{FIELD.format(code='IF', inner=NESTED, result='Shown')}</w:p>", "Shown"),
        ("<w:p><w:r><w:fldChar w:fldCharType='begin'/></w:r></w:p>" + p("Never closed"), "Never closed"),
        (
            f"<w:p>{t('a')}<w:r><w:tab/></w:r>{t('b')}<w:r><w:br/></w:r>{t('c')}<w:r><w:noBreakHyphen/></w:r>{t('d')}</w:p>",
            "a\tb\nc-d",
        ),
        ("<w:p><w:pPr><w:tabs><w:tab w:val='left'/></w:tabs></w:pPr><w:r><w:t>a</w:t></w:r></w:p>", "a"),
        (
            "<w:p><w:r><w:sym w:font='Symbol' w:char='F061'/><w:sym w:font='Wingdings' w:char='F0FC'/>"
            "<w:sym w:char='2264'/></w:r></w:p>",
            "α≤",
        ),
        (
            "<w:p><w:r><w:rPr><w:vanish/></w:rPr><w:t>no</w:t></w:r>"
            "<w:r><w:rPr><w:vanish w:val='0'/></w:rPr><w:t>yes</w:t>"
            "</w:r></w:p>",
            "yes",
        ),
        (
            f"<w:p><w:r><w:t>Bef</w:t></w:r><w:r><mc:AlternateContent><mc:Choice Requires='wps'>{BOX}</mc:Choice>"
            f"<mc:Fallback><w:pict>{BOX}</w:pict></mc:Fallback></mc:AlternateContent></w:r><w:r><w:t>ore</w:t></w:r></w:p>",
            "Before\n\nBoxed",
        ),
        (
            f"<w:p><w:r><mc:AlternateContent><mc:Choice/><mc:Fallback>{BOX}</mc:Fallback></mc:AlternateContent></w:r></w:p>",
            "Boxed",
        ),
        (
            f"<w:p>{t('A')}<w:r><w:footnoteReference w:id='2'/></w:r>{t('B')}"
            "<w:r><w:footnoteReference w:id='2'/></w:r></w:p>",
            "AB\n\nFirst note",
        ),
        ("<w:p><m:oMath><m:r><m:t>x+1</m:t></m:r></m:oMath></w:p>", "x+1"),
        (
            f"<w:p><w:r><w:ruby><w:rt>{t('kan')}</w:rt><w:rubyBase>{t('漢')}</w:rubyBase></w:ruby></w:r></w:p>",
            "漢\n\nkan",
        ),
        (
            "<w:p><w:r><w:fldChar w:fldCharType='begin'><w:ffData><w:ddList><w:result w:val='1'/>"
            "<w:listEntry w:val='no'/>"
            "<w:listEntry w:val='yes'/></w:ddList></w:ffData></w:fldChar></w:r></w:p>",
            "yes",
        ),
        ("<w:p><w:r><w:pict><v:textpath string='Draft'/></w:pict></w:r></w:p>", "Draft"),
    ],
)
def test_a_word_document_is_read_as_it_is_printed(body: str, text: str) -> None:
    parsed = parse_docx(docx_bytes(body, footnotes=NOTES))
    assert (parsed.text, list(parsed.losses)) == (text, [])
    strict = parse_docx(docx_bytes(body, namespace=STRICT_W, footnotes=NOTES.replace(W, STRICT_W)))
    assert strict.text == text


def test_headings_of_a_word_document_are_known_by_their_style_in_any_language() -> None:
    body = "".join(
        f"<w:p><w:pPr>{style}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"
        for text, style in (
            ("Anfang", '<w:pStyle w:val="Überschrift1"/>'),
            ("Own", '<w:pStyle w:val="own"/>'),
            ("Loop", '<w:pStyle w:val="a"/>'),
            ("Level", '<w:outlineLvl w:val="2"/>'),
            ("Former", '<w:pPrChange><w:pPr><w:pStyle w:val="own"/></w:pPr></w:pPrChange>'),
        )
    )
    parsed = parse_docx(docx_bytes(body, styles=STYLES))
    assert parsed.headings == ["Anfang", "Own", "Level"]
    assert parsed.title == "Anfang"


def test_headers_and_footers_are_read_once_at_the_end() -> None:
    header = f'<w:hdr xmlns:w="{W}">{p("Acme Ltd")}</w:hdr>'
    footer = f'<w:ftr xmlns:w="{W}">{p("Ref 7")}</w:ftr>'
    assert (
        parse_docx(docx_bytes(p("Body"), footer=footer, header1=header, header2=header)).text
        == "Body\n\nAcme Ltd\n\nRef 7"
    )
    styles = (
        f"<office:document-styles {ODF_NAMESPACES}><office:master-styles><style:master-page><style:header><text:p>Acme"
        " Ltd</text:p></style:header><style:header-left><text:p>Acme Ltd</text:p></style:header-left><style:footer>"
        "<text:p>Ref 7</text:p></style:footer></style:master-page></office:master-styles></office:document-styles>"
    )
    assert parse_odt(odt_bytes("<text:p>Body</text:p>", styles=styles)).text == "Body\n\nAcme Ltd\n\nRef 7"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<text:h>One</text:h><text:p>Two\n <text:span>and</text:span> three</text:p>", "One\n\nTwo and three"),
        (
            "<text:p>a<text:tab/>b<text:line-break/>c<text:s text:c='3'/>d<text:s text:c='99999999999'/></text:p>",
            "a\tb\nc   d",
        ),
        (
            "<text:tracked-changes><text:changed-region><text:deletion><text:p>Out</text:p></text:deletion>"
            "</text:changed-region></text:tracked-changes>"
            "<text:p>Kept <text:change-start/>in<text:change-end/></text:p>",
            "Kept in",
        ),
        (
            "<table:table><table:table-row><table:table-cell><text:p>A</text:p></table:table-cell><table:table-cell>"
            "<table:table><table:table-row><table:table-cell><text:p>B</text:p></table:table-cell></table:table-row>"
            "</table:table></table:table-cell></table:table-row></table:table><text:p>End</text:p>",
            "A\nB\n\nEnd",
        ),
        (
            "<text:p>Bef<draw:frame><draw:text-box><text:p>Boxed</text:p></draw:text-box><svg:desc>alt</svg:desc>"
            "</draw:frame>ore</text:p>",
            "Before\n\nBoxed",
        ),
        (
            "<text:p>A<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>Note</text:p>"
            "</text:note-body></text:note>B</text:p>",
            "AB\n\nNote",
        ),
        ("<text:p>A<office:annotation><text:p>comment</text:p></office:annotation></text:p>", "A"),
        (
            "<text:section text:display='none'><text:p>no</text:p></text:section><text:list><text:list-item><text:p>yes"
            "</text:p></text:list-item></text:list>",
            "yes",
        ),
        ("<text:p>x <text:a xlink:href='#'>link</text:a> <text:page-number>3</text:page-number></text:p>", "x link 3"),
    ],
)
def test_an_opendocument_text_is_read_as_it_is_printed(body: str, text: str) -> None:
    parsed = parse_odt(odt_bytes(body))
    assert (parsed.text.strip(), list(parsed.losses)) == (text, [])
    assert parse_odt(odt_xml(body).encode()).text.strip() == text  # one XML file (.fodt)


@pytest.mark.parametrize(
    ("date", "expected"),
    [("2024-05-06T07:08:09Z", "2024-05-06T07:08:09+00:00"), ("", ""), ("0000-00-00", "0000-00-00"), ("May", "May")],
)
def test_odd_dates_are_kept_as_they_are(date: str, expected: str) -> None:
    core = (
        '<cp xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="http://purl.org/dc/terms/"><dc:title>T</dc:title>'
        f"<dc:creator>Cy</dc:creator><dcterms:created>{date}</dcterms:created></cp>"
    )
    parsed = parse_docx(docx_bytes(p("x"), core=core))
    assert (parsed.title, parsed.metadata) == ("T", {"author": "Cy", "date": expected})
    meta = (
        f"<office:document-meta {ODF_NAMESPACES}><office:meta><dc:title>T</dc:title><meta:initial-creator>Cy"
        f"</meta:initial-creator><meta:creation-date>{date}</meta:creation-date></office:meta></office:document-meta>"
    )
    assert parse_odt(odt_bytes("<text:p>x</text:p>", meta=meta)).metadata["date"] == expected


ENTITIES = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)
MANIFEST = "<manifest><file-entry><encryption-data/></file-entry></manifest>"


@pytest.mark.parametrize(
    ("name", "raw", "reason"),
    [
        ("a.docx", OLE, "a file of Word 97 (.doc) under another name"),
        ("a.docm", OLE + "EncryptedPackage".encode("utf-16-le"), "needs a password"),
        ("a.odt", zip_bytes({"META-INF/manifest.xml": MANIFEST, "content.xml": b"\x01\x02"}), "needs a password"),
        ("a.docx", zip_bytes({"word/document.xml": f"{ENTITIES}<x>&b;</x>"}), "declares entities"),
        ("a.odt", zip_bytes({"content.xml": f"{ENTITIES}<x>&b;</x>"}), "declares entities"),
        ("a.fodt", f"{ENTITIES}<x>&b;</x>".encode(), "declares entities"),
        ("a.docx", zip_bytes({"xl/workbook.xml": "<x/>"}), "not a Word document"),
        ("a.odt", zip_bytes({"content.xml": "<x/>"}), "not an OpenDocument text"),
        ("a.docx", docx_bytes(p("x"))[:-60], "cannot be read as a Word document"),
        ("a.docx", zip_bytes({"word/document.xml": bytes(300_000)}), "decompresses to more than"),
        ("a.odt", zip_bytes({"content.xml": bytes(300_000)}), "decompresses to more than"),
        ("a.docx", docx_bytes("<w:altChunk r:id='x'/>"), "another document is embedded"),
    ],
)  # fmt: skip
def test_hostile_and_locked_documents_are_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, raw: bytes, reason: str
) -> None:
    monkeypatch.setattr(limits, "MAX_PACKED_BYTES", 200_000)
    (bad,) = read(Source(path=write(tmp_path / name, raw)))
    assert isinstance(bad, BadRecord)
    assert reason in bad.reason
    assert bad.whole_file
    assert not bad.is_empty


@pytest.mark.parametrize("suffix", ["docx", "odt"])
def test_damaged_xml_is_read_up_to_the_damage_which_is_reported(tmp_path: Path, suffix: str) -> None:
    if suffix == "docx":
        raw = docx_bytes(p("Before") + "<w:p></w:q>" + p("After"))
    else:
        raw = odt_bytes("<text:p>Before</text:p><text:p></text:q><text:p>After</text:p>")
    document, loss = read(Source(path=write(tmp_path / f"a.{suffix}", raw)))
    assert isinstance(document, Document)
    assert document.text == "Before"
    assert isinstance(loss, BadRecord)
    assert loss.is_loss
    assert "damaged" in loss.reason


def test_deep_nesting_takes_linear_time_and_no_recursion() -> None:
    depth = 20_000
    tables = "<w:tbl><w:tr><w:tc>" * depth + p("deep") + "</w:tc></w:tr></w:tbl>" * depth
    assert parse_docx(docx_bytes(tables)).text == "deep"
    boxes = "<w:p><w:r><w:t>a </w:t></w:r>" * depth + "</w:p>" * depth
    assert parse_docx(docx_bytes(boxes)).text.split() == ["a"] * depth
    spans = f"<text:p>{'<text:span>' * depth}deep{'</text:span>' * depth}</text:p>"
    assert parse_odt(odt_bytes(spans)).text == "deep"


def test_a_chart_or_an_object_is_read_once_however_often_it_is_referred_to() -> None:
    chart = '<c:chart xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart" xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"><a:t>Sales</a:t></c:chart>'
    assert parse_docx(docx_bytes('<w:p><c:chart r:id="chart1"/></w:p>' * 100, chart1=chart)).text == "Sales"
    raw = odt_bytes(
        '<text:p><draw:object xlink:href="./O"/></text:p>' * 100, **{"O/content": odt_xml("<text:p>E</text:p>")}
    )
    assert parse_odt(raw).text == "E"


@pytest.mark.parametrize(
    ("name", "parts", "reason"),
    [
        (
            "a.docx",
            {"_rels/.rels": "<Relationships><Relationship", "word/document.xml": W_TEXT},
            "~its part _rels/.rels is",
        ),
        (
            "a.docx",
            {"word/_rels/document.xml.rels": "<R", "word/document.xml": W_TEXT},
            "~its part word/_rels/document",
        ),
        ("a.docx", {"word/document.xml": ""}, "!not a Word document: its main part word/document.xml cannot be read"),
        (
            "a.docx",
            {"word/other.xml": W_TEXT},
            "!not a Word document: its main part word/document.xml cannot be read; its",
        ),
        ("a.odt", {"meta.xml": "<x/>"}, "!not an OpenDocument text: it has no <office:text>; it is damaged"),
    ],
)
def test_a_damaged_package_is_never_empty(tmp_path: Path, name: str, parts: dict[str, str], reason: str) -> None:
    bad = [
        record
        for record in read(Source(path=write(tmp_path / name, zip_bytes(parts))))
        if isinstance(record, BadRecord)
    ]
    assert f"{'~' if bad[0].is_loss else '!' if bad[0].whole_file else ''}{bad[0].reason}".startswith(reason)
    assert not any(record.is_empty for record in bad)
