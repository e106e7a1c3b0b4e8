"""Files of labels and clicks: formats, times and ids, and what is left out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semsearch.domains.exchange import Reading, read_entries, write_qrels
from semsearch.errors import LabelError
from semsearch.storage.labels import EntryFilter, LabelLog
from semsearch.types import Label

QUERIES = '{"_id": "q1", "text": "first"}\n{"_id": "q2", "text": "second"}\n'


def read(path: Path, content: str | bytes, queries: str | None = None) -> Reading:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    texts = None
    if queries is not None:
        texts = path.with_name("queries.txt")
        texts.write_text(queries)
    return read_entries(path, domain="d", source="s", queries=texts)


def labels_of(reading: Reading) -> list[tuple[str, str, float]]:
    return [(entry.query, entry.document, entry.relevance) for entry in reading.entries if isinstance(entry, Label)]


BOTH = [("first", "a", 1.0), ("second", "b", 2.0)]


@pytest.mark.parametrize(
    "content",
    [
        "q1\ta\t1\nq2\tb\t2\n",
        "query-id\tcorpus-id\tscore\nq1\ta\t1\nq2\tb\t2\n",
        "q1 0 a 1\nq2 0 b 2\n",
        "q1   Q0\ta  1  \n\n  \nq2 Q0 b 2",
        "q1\t0\ta\t1\r\nq2\t0\tb\t2\r\n",
        "\ufeffq1 0 a 1\rq2 0 b 2\r",
        "query_id,doc_id,rel\nq1,a,1\nq2,b,2.0\n",
        'QID;DocNo;"Grade"\nq1;"a";1\nq2;b;2e0\n',
        "score\tcorpus-id\tquery-id\n1\ta\tq1\n2\tb\tq2\n",
        "query,document,relevance\nfirst,a,1\nsecond,b,2\n",
        "query|document|relevance|comment\nfirst|a|1|x\nsecond|b|2|\n",
        'query,document,relevance,user\n"first",a,,\nsecond,b,2,ann,\n',
        '{"query": "first", "document": "a"}\n\n{"query": "second", "document": "b", "gain": 2}\n',
        '\ufeff{"query": "first", "document": "a"}\r\n{"query": "second", "document": "b", "relevance": 2}',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gzip"])
def test_every_format_gives_the_same_labels(tmp_path: Path, content: str, encoding: str) -> None:
    packed = gzip.compress(content.encode()) if encoding == "gzip" else content.lstrip("\ufeff").encode(encoding)
    reading = read(tmp_path / ("a.gz" if encoding == "gzip" else "a"), packed, QUERIES)
    assert (labels_of(reading), reading.left_out) == (BOTH, [])


@pytest.mark.parametrize("queries", [QUERIES, "q1\tfirst\nq2\tsecond\n", "\ufeffq1\tfirst\r\n\r\nq2\tsecond"])
def test_queries_are_json_lines_or_tab_separated(tmp_path: Path, queries: str) -> None:
    assert labels_of(read(tmp_path / "a", "q1 0 a 1\nq2 0 b 2\n", queries)) == BOTH


def test_a_folder_may_have_one_file_of_qrels_or_several(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "queries.jsonl").write_text(QUERIES)
    (tmp_path / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq1\ta\t1\n")
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq2\tb\t2\n")
    assert labels_of(read_entries(tmp_path, domain="d", source="s")) == BOTH
    (tmp_path / "qrels.tsv").write_text("q1\tc\t1\n")
    assert labels_of(read_entries(tmp_path, domain="d", source="s")) == [("first", "c", 1.0)]


def test_negative_grades_are_not_relevant_and_counted(tmp_path: Path) -> None:
    reading = read(tmp_path / "a", "q1 0 a -2\nq1 0 b -1\nq2 0 b 0\n", QUERIES)
    assert [relevance for _, _, relevance in labels_of(reading)] == [0.0, 0.0, 0.0]
    assert reading.notes == ["2 relevances below 0 were read as 0, not relevant"]
    reading = read(tmp_path / "b", '{"query": "q", "document": "a", "relevance": -1}')
    assert labels_of(reading) == [("q", "a", 0.0)]
    assert reading.notes == ["1 relevance below 0 was read as 0, not relevant"]


@pytest.mark.parametrize("header", ["query,doc,score,document,text", "QUERY,doc_id,score,DocID,text"])
def test_of_two_columns_for_one_field_the_first_is_used_and_the_other_reported(tmp_path: Path, header: str) -> None:
    reading = read(tmp_path / "a", f"{header}\nfirst,a,1,x,\nsecond,b,2,y,\n")
    assert (labels_of(reading), reading.left_out) == (BOTH, [])
    assert [note.partition(" of ")[0] for note in reading.notes] == [
        f"the column {header.split(',')[3]!r}",
        "the column 'text'",
    ]


GOOD = '{"query": "q", "document": "a"}'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"query": ' * 100_000, "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"query": "q"}', "document: missing"),
        ('{"query": "q", "document": null}', "document: not a text"),
        ('{"query": ["q"], "document": "a"}', "query: not a text"),
        ('{"query": "q", "document": "a", "relevance": null}', "relevance: not a number"),
        ('{"query": "q", "document": "a", "kind": "vote"}', "kind: neither label nor click"),
        ('{"query": "q", "document": ""}', "document: is empty"),
        ('{"query": "q", "document": "a", "relevance": "much"}', "the relevance is 'much'"),
        ('{"query": "q", "document": "a", "relevance": 1e999}', "relevance: "),
        ('{"query": "q", "document": "a", "relevance": 1001}', "is not a number from 0 to 1,000"),
        ('{"query": "q", "document": "a", "colour": 1}', "colour: a label has no field of this name"),
        ('{"query": "q", "document": "\\ud800"}', "not JSON: an escape of it is not valid Unicode"),
        ('{"query": "q", "document": "\\udfff\\ud83d"}', "not JSON: an escape of it is not valid Unicode"),
        ('{"query": "q", "document": "a", "shown": ["a"]}', "shown: a label has no field of this name"),
        ('{"kind": "click", "query": "q", "document": "a", "relevance": 1}', "relevance: a click has no field of this"),
        ('{"query": "q", "document": "a", "domain": "../../etc"}', "domain: '../../etc' cannot be a domain's name"),
        ('{"query": "q", "document": "a", "at": "yesterday"}', "the time is 'yesterday'"),
        ('{"query": "q", "document": "a", "at": "9999-01-01T00:00:00Z"}', "in the future"),
        ('{"query": "q", "document": "a", "at": 1e300}', "the time is 1e+300"),
        ('{"kind": "click", "query": "q", "document": "a"}', "a click on a document has no position"),
        ('{"kind": "click", "query": "q", "document": "a", "shown": ["b"]}', "has no position"),
        ('{"kind": "click", "query": "q", "document": "a", "position": 0}', "position: "),
        (
            '{"kind": "click", "query": "q", "document": "a", "position": 1, "shown": ["b", "a"]}',
            "not at this `position`",
        ),
        ('{"kind": "click", "query": "q"}', "without a document"),
        ('{"kind": "click", "query": " ", "document": "a", "position": 1}', "query: is blank"),
        (f'{{"kind": "click", "query": "q", "document": "a", "position": {10**30}}}', "position: "),
        (b'{"query": "caf\xe9", "document": "a"}', "not UTF-8"),
    ],
)
def test_a_bad_line_is_left_out_with_its_number_and_reason(tmp_path: Path, line: str | bytes, reason: str) -> None:
    raw = line if isinstance(line, bytes) else line.encode()
    reading = read(tmp_path / "a", b"\n".join([GOOD.encode(), b"", raw, GOOD.encode()]))
    assert len(reading.entries) == 2
    [left_out] = reading.left_out
    assert left_out.location == f"{tmp_path / 'a'}:3"
    assert reason in left_out.reason
    assert len(left_out.reason) < 300
    reading.check(strict=False)
    with pytest.raises(LabelError, match=r"a:3: .*because of --strict"):
        reading.check(strict=True)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("q1 0 a", "has 3 columns where the first line has 4"),
        ("q1 0 a 1 x", "has 5 columns"),
        ("q1 0 a many", "the relevance is 'many', not a number"),
        ("q1 0 a 1_000", "not a number"),
        ("q1 0 a nan", "not a number"),
        ("q1 0 a 1e999", "not a number"),
        ("q9 0 a 1", "no query has the id 'q9'"),
    ],
)
def test_a_bad_row_of_qrels_is_left_out(tmp_path: Path, line: str, reason: str) -> None:
    for content, number in ((f"q1 0 a 1\n{line}\nq2 0 b 2\n", 2), (f"q1 0 a 1\nq2 0 b 2\n{line}", 3)):
        reading = read(tmp_path / "a", content, QUERIES)
        assert labels_of(reading) == BOTH
        assert [bad.location for bad in reading.left_out] == [f"{tmp_path / 'a'}:{number}"]
        assert reason in reading.left_out[0].reason


def test_an_open_quotation_mark_loses_one_line(tmp_path: Path) -> None:
    rows = "".join(f"query {n},a,1\n" for n in range(100))
    reading = read(tmp_path / "a.csv", f'query,document,relevance\n24" monitor,a,1\n"open,a,1\n{rows}')
    assert len(reading.entries) == 101
    assert [bad.location for bad in reading.left_out] == [f"{tmp_path / 'a.csv'}:3"]


def test_a_cut_compressed_file_gives_its_lines_and_the_reason(tmp_path: Path) -> None:
    lines = "".join(f'{{"query": "{n * 7919 % 10007}", "document": "a"}}\n' for n in range(5000))
    packed = gzip.compress(lines.encode())
    reading = read(tmp_path / "a.gz", packed[: len(packed) // 2])
    assert 0 < len(reading.entries) < 5000
    assert "ends too early" in reading.left_out[-1].reason


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no labels or clicks"),
        ("\n \n", "holds no labels or clicks"),
        ("hello\n", "is neither a header nor a judgment"),
        ("a,b\n1,2\n", "is neither a header nor a judgment"),
        ("q1 Q0 a 1 0.5 tag\n", "is neither a header nor a judgment"),
        ('[{"query": "q"}]', "is a JSON array"),
        ("q1\ta\t1\n", r"give the file of their texts with --queries FILE"),
        (b"\x00\xff\xfe\x80", "holds no labels|not UTF-8"),
    ],
)
def test_a_file_of_another_kind_is_refused_without_words_of_python(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    with pytest.raises(LabelError, match=message) as raised:
        read(tmp_path / "a", content).check(strict=False)
    assert not any(word in str(raised.value) for word in ("invalid literal", "codec", "expected", "unpack", "None"))


def test_events_at_different_times_are_different_and_a_repeated_line_is_the_same(tmp_path: Path) -> None:
    event = {"kind": "click", "query": "q", "document": "a", "shown": ["b", "a"]}
    times = [f"2026-01-02T10:00:{second:02}Z" for second in range(21)]
    lines = [json.dumps({**event, "at": at}) for at in [*times, "2026-01-02T11:00:20+01:00", times[0]]]
    reading = read(tmp_path / "a", "\n".join(lines))
    assert len({entry.id for entry in reading.entries}) == 21
    log = LabelLog(tmp_path)
    assert (log.append(reading.entries), log.append(reading.entries)) == (21, 0)
    log.close()


def test_events_without_a_time_are_counted_by_their_lines(tmp_path: Path) -> None:
    lines = [json.dumps({"query": "q", "document": "a", "relevance": value}) for value in (1, 0, 1)]
    first, again = (read(tmp_path / "a", "\n".join(lines)) for _ in range(2))
    assert len({entry.id for entry in first.entries}) == 3
    assert [entry.id for entry in again.entries] == [entry.id for entry in first.entries]
    log = LabelLog(tmp_path)
    assert (log.append(first.entries), log.append(again.entries)) == (3, 0)
    assert [label.relevance for _, label in log.labels(EntryFilter())] == [1, 0, 1]
    log.close()


def test_the_first_entry_without_a_time_has_the_id_that_semsearch_0_1_gave(tmp_path: Path) -> None:
    reading = read(tmp_path / "a", '{"query": "q", "document": "a"}\n')
    assert reading.entries[0].id == "597933cdc05111a1db9851eff1949f98"


def test_exported_qrels_hold_the_merged_labels(tmp_path: Path) -> None:
    votes = [("ann", 1), ("ann", 0), ("bob", 3), ("cy", 2)]
    lines = [json.dumps({"query": "q", "document": "a", "relevance": value, "user": user}) for user, value in votes]
    reading = read(tmp_path / "a", "\n".join([*lines, '{"query": " ", "document": "liked"}']))
    assert write_qrels(tmp_path / "out", [entry for entry in reading.entries if isinstance(entry, Label)]) == 1
    assert labels_of(read_entries(tmp_path / "out", domain="d", source="s")) == [("q", "a", 2.0)]


_TEXT = st.text(max_size=20)
_VALUE = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _TEXT, st.lists(_TEXT, max_size=3))
_FIELDS = ("kind", "id", "domain", "query", "document", "relevance", "position", "shown", "user", "source", "at")


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.dictionaries(st.sampled_from(_FIELDS), _VALUE).map(json.dumps).map(str.encode),
            st.text().map(lambda text: text.encode("utf-8", "surrogatepass")),
            st.binary(max_size=40),
        ),
        max_size=8,
    )
)
def test_no_file_raises_another_error_and_what_is_read_can_be_stored(
    tmp_path_factory: pytest.TempPathFactory, lines: Sequence[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    try:
        reading = read(folder / "a", b"\n".join([GOOD.encode(), *lines]))
    except LabelError:
        return
    log = LabelLog(folder)
    log.append([entry for entry in reading.entries if len(entry.id) == 32])
    assert all(entry.at.tzinfo is not None for _, entry in log.labels(EntryFilter()))
    log.close()
