"""CSV and TSV as programs and people write them: no row swallows others, and no column overwrites another."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from semsearch.ingest.readers import delimited
from semsearch.ingest.readers.delimited import column_names, find_delimiter
from semsearch.ingest.readers.files import BadRecord
from semsearch.ingest.readers.sources import read
from semsearch.ingest.recipe import Source
from semsearch.types import Document
from tests.ingest.readers.samples import write


def read_table(path: Path, content: str | bytes, **options: object) -> tuple[list[Document], list[BadRecord]]:
    records = list(read(Source.model_validate({"path": write(path, content), **options})))
    bad = [record for record in records if isinstance(record, BadRecord)]
    return [record for record in records if isinstance(record, Document)], bad


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "id;text;x\n1;a, b;c\n2;d;e, f\n"),
        ("a.csv", "id|text|x\n1|a, b|c\n2|d|e, f\n"),
        ("a.csv", "id\ttext\tx\n1\ta, b\tc\n2\td\te, f\n"),
        ("a.csv", 'id,text,x\n1,"a, b",c\n2,d,"e, f"\n'),
        ("a.tsv", 'id,text,x\n1,"a, b",c\n2,d,"e, f"\n'),
        ("a.tsv", "id\ttext\tx\n1\ta, b\tc\n2\td\te, f\n"),
        ("a.csv", "sep=;\r\nid;text;x\r\n1;a, b;c\r\n2;d;e, f\r\n"),
        ("a.csv", "id;text;x\r1;a, b;c\r2;d;e, f\r"),
        ("a.csv", "\ufeff\"id\";text;x\n1;a, b;c\n2;d;e, f\n"),
        ("a.csv", "id;text;x\n1;a, b;c\n2;d;e, f\n".encode("utf-16")),
        ("a.tsv", "id\ttext\tx\r\n1\ta, b\tc\r\n2\td\te, f\r\n".encode("utf-16")),
        ("a.csv", "\n,,\n\nid,text,x\n1,\"a, b\",c\n,,\n2,d,\"e, f\"\n,,,,\n"),
        ("a.csv", "id,text,x\n1,\"a, b\",c,,\n2,d,\"e, f\",\n"),
        ("a.csv", "id,text,x\n1,\"a, b\x00\",c\n\x00\n2,d,\"e, f\"\n"),
        ("a.csv", 'id, text, x\n1, "a, b", c\n2, d, "e, f"\n'),
        ("a.csv", '"id" , "text" , "x"\n"1" , "a, b" ,"c" \n2 , d , "e, f"\t\r\n'),
        ("a.csv", "id; text; x\n1 ;a, b ;\tc\n2;  d;e, f\t \n"),
        ("a.csv", "id text x\n1 \"a, b\" c\n2 d \"e, f\"\n".replace(" ", "|").replace(",|", ", ")),
    ],
)  # fmt: skip
def test_tables_are_split_whatever_separates_their_columns(tmp_path: Path, name: str, content: str | bytes) -> None:
    documents, bad = read_table(tmp_path / name, content)
    assert bad == []
    assert [(one.id, one.text, one.metadata) for one in documents] == [
        ("1", "a, b", {"x": "c"}), ("2", "d", {"x": "e, f"}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "delimiter"),
    [
        (["foo,bar", "1,2"], ","),
        (["foo;bar", "1,5;2,5"], ";"),
        (["foo|bar|baz", "1|2|a,b"], "|"),
        (["a,b;text;c", "1;2;3"], ";"),
        (["only", "one column, with commas"], ","),
        ([], ","),
        (['"open', "x;y"], ","),
    ],
)
def test_the_delimiter_is_found_from_the_first_lines(lines: list[str], delimiter: str) -> None:
    assert find_delimiter([f"{line}\n" for line in lines], likely=",", known={"text"}) == delimiter


def test_a_delimiter_that_is_named_is_used(tmp_path: Path) -> None:
    documents, bad = read_table(tmp_path / "a.csv", "id~text\n1~a,b;c\n", delimiter="~")
    assert ([one.text for one in documents], bad) == (["a,b;c"], [])
    for wrong in ("", ";;", '"', "\n"):
        with pytest.raises(ValidationError):
            Source.model_validate({"path": "a.csv", "delimiter": wrong})


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        ([" 1", "  2.5 ", "-3e2\t"], [1, 2.5, -300.0]),
        ([" true", "False ", " FALSE "], [True, False, False]),
        ([" red", "red ", "\tred"], ["red", "red", "red"]),
        (['" red"', ' "red "', '"a ""b"" "'], [" red", "red ", 'a "b" ']),
        (['"1 "', " 2", "3"], ["1 ", "2", "3"]),
        (['"1"', ' "2" ', "3"], [1, 2, 3]),
        (["  ", '""', " x"], [None, None, "x"]),
    ],
)
def test_cells_without_quotation_marks_have_no_surrounding_spaces(
    tmp_path: Path, cells: list[str], values: list[object]
) -> None:
    for row in ("{n},t,{cell}", "{n}, t, {cell}", '{n}, "a, b", {cell}'):
        rows = "".join(f"{row.format(n=n, cell=cell)}\n" for n, cell in enumerate(cells))
        documents, bad = read_table(tmp_path / "a.csv", f"id, text, x\n{rows}")
        assert [record for record in bad if not record.is_note] == []
        assert [one.metadata.get("x") for one in documents] == values


@pytest.mark.parametrize("columns", [2, 3, 4])
@pytest.mark.parametrize("closing", ['"', '12"', 'said "so"'])
@pytest.mark.parametrize("between", [0, 1, 20])
def test_a_quotation_mark_in_a_table_with_tabs_joins_no_rows(
    tmp_path: Path, columns: int, closing: str, between: int
) -> None:
    texts = ["first", '"open', *(["plain"] * between), closing, "last"]
    rest = "\ty" * (columns - 2)
    header = "id\ttext" + "".join(f"\tx{n}" for n in range(columns - 2))
    rows = "".join(f"{n}\t{text}{rest}\n" for n, text in enumerate(texts))
    documents, bad = read_table(tmp_path / "a.tsv", f"{header}\n{rows}")
    assert ([one.text for one in documents], bad) == (texts, [])


def test_a_text_of_several_lines_in_a_table_with_tabs_stays_one_row(tmp_path: Path) -> None:
    documents, bad = read_table(tmp_path / "a.tsv", 'id\ttext\n1\t"one\ntwo"\n2\t"one\ntwo\tthree\nfour"\n3\tx\n')
    assert ([one.text for one in documents], bad) == (["one\ntwo", "one\ntwo\tthree\nfour", "x"], [])


@pytest.mark.parametrize("row", ['2,"open', '2,"open "here" and there', '2,"a "b'])
@pytest.mark.parametrize("others", ["{n},row {n}", '{n},"row, {n}"', '{n},"row ""{n}"""', '"{n}",row'])
def test_a_quotation_mark_that_is_not_closed_costs_one_row(tmp_path: Path, row: str, others: str) -> None:
    content = "id,text\n" + "".join(f"{row if n == 2 else others.format(n=n)}\n" for n in range(500))
    documents, (bad,) = read_table(tmp_path / "a.csv", content)
    assert [one.id for one in documents] == [str(n) for n in range(500) if n != 2]
    assert bad.location.endswith("a.csv:4")
    assert "quotation mark" in bad.reason


def test_rows_between_two_stray_quotation_marks_are_read(tmp_path: Path) -> None:
    rows = {2: '2,"open,y', 300: '300,close",y'}
    content = "id,text,x\n" + "".join(f"{rows.get(n, f'{n},row {n},y')}\n" for n in range(500))
    documents, (bad,) = read_table(tmp_path / "a.csv", content)
    assert len(documents) == 499
    assert bad.location.endswith(":4")


def test_a_text_of_many_lines_stays_one_row(tmp_path: Path) -> None:
    text = "\n".join(f"Doe {n}, Jane" for n in range(50))
    documents, bad = read_table(tmp_path / "a.csv", f'id,text\n1,"{text}"\n2,next\n')
    assert bad == []
    assert [one.text for one in documents] == [text, "next"]


def test_quotation_marks_of_a_table_with_tabs_may_be_text(tmp_path: Path) -> None:
    documents, bad = read_table(tmp_path / "a.tsv", 'id\ttext\n1\t"Hello" he said\n2\t"open\n3\t"a\tb"\n')
    assert bad == []
    assert [one.text for one in documents] == ['"Hello" he said', '"open', "a\tb"]


def test_columns_of_one_name_are_kept_apart_and_reported(tmp_path: Path) -> None:
    documents, notes = read_table(tmp_path / "a.csv", "id,text,tag,tag,tag.2,,\n1,x,a,b,c,d,\n")
    assert documents[0].metadata == {"tag": "a", "tag.3": "b", "tag.2": "c", "column 6": "d"}
    assert [(note.is_note, note.reason) for note in notes] == [
        (True, "column 'tag' occurs more than once: a later one is read as 'tag.3'")
    ]
    many, _ = column_names(["a"] * 100_000)  # in quadratic time, minutes
    assert many[-1] == "a.100000"
    assert column_names(["a"] * 3) == (["a", "a.2", "a.3"], {"a.2": "a", "a.3": "a"})


def test_rows_of_other_lengths_are_bad_rows_unless_what_is_too_much_is_empty(tmp_path: Path) -> None:
    documents, bad = read_table(tmp_path / "a.csv", "id,text\n1,a,,\n2\n3,b,c\n4,d\n")
    assert [one.id for one in documents] == ["1", "4"]
    assert [record.reason for record in bad] == ["1 fields in a table of 2 columns", "3 fields in a table of 2 columns"]


def test_a_long_cell_and_a_row_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents, bad = read_table(tmp_path / "a.csv", f'id,text\n1,"{"x " * 100_000}"\n')
    assert (len(documents), bad) == (1, [])
    monkeypatch.setattr(delimited, "MAX_RECORD_BYTES", 1_000)
    lines = "line\n" * 500
    documents, bad = read_table(tmp_path / "a.csv", f'id,text\n1,{"x" * 5_000}\n2,b\n3,"{lines}"\n4,d\n')
    assert [one.id for one in documents] == ["2", "4"]
    assert {record.location.rpartition(":")[2] for record in bad} >= {"2", "4"}
    assert "longer than 1000 characters" in bad[0].reason


def test_a_header_alone_is_an_empty_table(tmp_path: Path) -> None:
    documents, (bad,) = read_table(tmp_path / "a.csv", "id,text\n")
    assert documents == []
    assert bad.is_empty


def test_every_row_with_an_open_quotation_mark_takes_linear_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "MAX_REREAD_CHARS", 100_000)
    # an even number of quotation marks in no line, so that each row goes on to the end of the file
    documents, bad = read_table(tmp_path / "a.csv", "id,text\n" + '1,"open ""\n' * 20_000)
    assert documents == []
    assert len(bad) == 20_000
