"""Small files of each format, made by hand, for the tests of the readers."""

from __future__ import annotations

import base64
import io
import sys
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pypdf
from pypdf.generic import (
    ArrayObject,
    DecodedStreamObject,
    DictionaryObject,
    FloatObject,
    NameObject,
    NumberObject,
    StreamObject,
    TextStringObject,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
STRICT_W = "http://purl.oclc.org/ooxml/wordprocessingml/main"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_WORD_ROOT = (
    f'<w:document xmlns:w="{{w}}" xmlns:r="{RELATIONS}"'
    ' xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    ' xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape"'
    ' xmlns:v="urn:schemas-microsoft-com:vml"'
    ' xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
    ' xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart"><w:body>{body}</w:body></w:document>'
)
_ODF = "urn:oasis:names:tc:opendocument:xmlns"
ODF_NAMESPACES = (
    f'xmlns:office="{_ODF}:office:1.0" xmlns:text="{_ODF}:text:1.0" xmlns:table="{_ODF}:table:1.0"'
    f' xmlns:style="{_ODF}:style:1.0" xmlns:draw="{_ODF}:drawing:1.0" xmlns:meta="{_ODF}:meta:1.0"'
    f' xmlns:svg="{_ODF}:svg-compatible:1.0" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    ' xmlns:xlink="http://www.w3.org/1999/xlink"'
)
# encrypted by AES-256 with an empty user password
AES_PDF = zlib.decompress(
    base64.b85decode(
        "c-oCrJ%}Vl6vog769ePobOXh^u2=ts!@}L}40q_Ub31y;aYFsP+8f!OUV3_uTR{%g(9py{FfuYQFg*;!<PwEbG%)fvHB%75*E73w"
        "gJWRR4fS5t`@Z+Sey_I1yQ7P6Nmg4w{`A$O3K(Zie4`o+s(Rcu`6OY>23}+%=?R!^wn<1V8jC`OPQ+l6!Wdjar-jj6LzEt3iZP^6"
        "B0zH6)%JFUv)m(#HHKGDkCD~maDelw-f2!|9fPWVd79_!7E^R^pWR*yl^dZup$mu2LAAtSJ@)=ufcj6as@}(WbJ8Y?=yyg9@h%p?"
        "^f>~(^>xhCaHY9N$?!{j@d>{CZugWeQs9!4vY&Ni&YAgF4tgVpp0BDWC$U?Yy_2fG66Uzbq`r!Wcd?tMu!dsRP+q~=L3f84)$h-{"
        "7Q<21UVZrB_2+*7;?EC%`|Q*EAHVzUtp{KK@ld_}_cPyLc+|Xf`rfa9-Pr#8tuGIsfBKuJo;Y~t=NCSR&%XcUN8kN$<Km0rlV5tC"
        "GpI90yT*8vX%dZ@6}Ql|9y2Ap^2Q1;NWAG`N4-){x-iS3%~id}1{gh1m!JikRN|^6nN=xJ0>_Y(auS`*LL^gsE;)E-yv%@H^NfPW"
        "WUST}xU<5!;DwEVR@>;TD_SX_pY$3VaG{jVTuIMe)QB#Hpp-1mLY8#gnv!A;ibu^2XcvV_w2j4LDp5fW=!2FimS99ukdy$-(kF*e"
        "8rQSzj20a->GIj?@=14Rc(-qWdbde?$2jW`U1#;>;pC=V2_?mOGfldq5nBTEM*G;<8?r&*eW5w|LTUz37JL!b1Rh9{B8+j;2n#fV"
        "B(}6@kQ6kKspbMQ$zBM8NxI1Fz-nK-l)b=Qc@2W*6Sy}hMNS~KP9y~srM&=fE@@5W3vL6!jIlkUx$q?$$Ad(Vf<~UKAY4F>E}|+<"
        "uaES-7E8sMtN7|+Mr)~AVJjcdAS`xfD<6Q|^jWdt69P7TQg6m8vFX#&KK6BOm>y!g=;_JyO{A3T{if-dTn_QIS!o!Yt#@hc2Ru-p"
        "QYjvj$v}$4s9b-uSrIh#(Dwg1LYKvGmfF+fj@k3uVcvzdTL?!#MpRo{!@W`U4>b0NrT"
    )
)


def compress_zstd(raw: bytes) -> bytes:
    return zstd.compress(raw)


def zip_bytes(parts: Mapping[str, str | bytes]) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return raw.getvalue()


def docx_bytes(body: str, *, namespace: str = W, **parts: str) -> bytes:
    """A Word document. parts: content of other parts by name, such as footnotes='…'; their ids are their names."""
    relations = "".join(
        f'<Relationship Id="{name}" Type="{RELATIONS}/{name.rstrip("0123456789")}" Target="{name}.xml"/>'
        for name in parts
    )
    return zip_bytes(
        {
            "_rels/.rels": f'<Relationships><Relationship Id="m" Type="{RELATIONS}/officeDocument"'
            ' Target="word/doc.xml"/>'
            '<Relationship Id="p" Type="http://x/core-properties" Target="core.xml"/></Relationships>',
            "word/_rels/doc.xml.rels": f"<Relationships>{relations}</Relationships>",
            "word/doc.xml": _WORD_ROOT.format(w=namespace, body=body),
            **{f"word/{name}.xml": content for name, content in parts.items() if name != "core"},
            "core.xml": parts.get("core", "<x/>"),
        }
    )


def odt_bytes(body: str, **parts: str) -> bytes:
    """An OpenDocument text. parts: content of other parts by name, such as styles='…'."""
    return zip_bytes({"content.xml": odt_xml(body), **{f"{name}.xml": content for name, content in parts.items()}})


def odt_xml(body: str) -> str:
    return (
        f'<office:document-content {ODF_NAMESPACES}><office:automatic-styles><style:style style:name="P1"'
        f' style:parent-style-name="Title"/></office:automatic-styles><office:body><office:text>{body}'
        "</office:text></office:body></office:document-content>"
    )


def pdf_bytes(*pages: str | Sequence[str], image: Sequence[int] = (), form: str = "", **info: str) -> bytes:
    """A PDF file. pages: lines of each page; None has no text. image: numbers of pages that have an image."""
    writer = pypdf.PdfWriter()
    font = writer._add_object(_dictionary(Type="/Font", Subtype="/Type1", BaseFont="/Helvetica"))
    fonts = DictionaryObject({NameObject("/F1"): font})
    for number, lines in enumerate(pages, start=1):
        page = writer.add_blank_page(300, 300)
        resources = DictionaryObject({NameObject("/Font"): fonts})
        page[NameObject("/Resources")] = resources
        text = "".join(f"({line}) Tj T* " for line in ([lines] if isinstance(lines, str) else lines))
        content = f"BT /F1 12 Tf 14 TL 10 250 Td {text}ET"
        if number in image:
            picture = StreamObject()
            picture.update(_dictionary(Type="/XObject", Subtype="/Image", ColorSpace="/DeviceGray"))
            for key, value in (("/Width", 1), ("/Height", 1), ("/BitsPerComponent", 8)):
                picture[NameObject(key)] = NumberObject(value)
            picture._data = b"\x00"
            resources[NameObject("/XObject")] = DictionaryObject({NameObject("/I"): writer._add_object(picture)})
            content += " q 200 0 0 200 10 10 cm /I Do Q"
        stream = DecodedStreamObject()
        stream.set_data(content.encode("latin-1"))
        page[NameObject("/Contents")] = writer._add_object(stream)
        if form and number == 1:
            widget = _dictionary(Type="/Annot", Subtype="/Widget", FT="/Tx")
            widget[NameObject("/T")], widget[NameObject("/V")] = TextStringObject("name"), TextStringObject(form)
            widget[NameObject("/DA")] = TextStringObject("/F1 12 Tf 0 g")
            widget[NameObject("/Rect")] = ArrayObject([FloatObject(side) for side in (60, 195, 250, 215)])
            field = writer._add_object(widget)
            page[NameObject("/Annots")] = ArrayObject([field])
            fields = DictionaryObject({NameObject("/Fields"): ArrayObject([field])})
            fields[NameObject("/DR")] = DictionaryObject({NameObject("/Font"): fonts})
            writer._root_object[NameObject("/AcroForm")] = fields
    writer.add_metadata({f"/{key}": value for key, value in info.items()})
    raw = io.BytesIO()
    writer.write(raw)
    return raw.getvalue()


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _dictionary(**names: str) -> DictionaryObject:
    return DictionaryObject({NameObject(f"/{key}"): NameObject(value) for key, value in names.items()})
