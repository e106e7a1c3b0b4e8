"""The rules that every label and click meets, whether it comes over HTTP, from a file or from Python."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from math import isfinite

from semsearch.errors import LabelError
from semsearch.types import Click, Label, domain_name_problem, is_unicode

MAX_QUERY_CHARS = 10_000
MAX_DOCUMENT_CHARS = 1_000
MAX_ID_CHARS = 200
MAX_USER_CHARS = 200
MAX_SOURCE_CHARS = 300
MAX_SHOWN = 200
"""Documents of one result list."""
MAX_POSITION = 10_000
MAX_RELEVANCE = 1_000
MAX_KEEP_DAYS = 3_650
"""Longest time that a server may keep queries."""
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
MAX_CLOCK_ERROR = timedelta(days=1)
"""How far ahead of this machine's clock the time of an entry may be: the latest label counts, so one that is dated far
in the future would count for ever."""

_LENGTHS = {
    "id": (1, MAX_ID_CHARS),
    "query": (0, MAX_QUERY_CHARS),
    "document": (1, MAX_DOCUMENT_CHARS),
    "user": (0, MAX_USER_CHARS),
    "source": (0, MAX_SOURCE_CHARS),
}
"""Field → least and most characters."""
_SECONDS_SINCE_1970 = re.compile(r"[+-]?\d{9,25}(\.\d{1,9})?", re.ASCII)
_LEAP_SECOND = re.compile(r"(\d\d:\d\d:)60")
_TIME_FORMATS = "write it as in 2026-01-31T12:00:00Z, or as seconds since 1970"


def entry_problems(entry: Label | Click) -> Iterator[tuple[str, str]]:
    """Yield (field, reason) for each rule that an entry does not meet."""
    for field, (least, most) in _LENGTHS.items():
        value: object = getattr(entry, field)
        if value is None and field == "document" and isinstance(entry, Click):
            continue
        yield from ((field, reason) for reason in _text_problems(value, least, most))
    if problem := domain_name_problem(entry.domain):
        yield "domain", problem
    if not EARLIEST <= as_utc(entry.at) <= datetime.now(UTC) + MAX_CLOCK_ERROR:
        yield "at", f"the time {entry.at.isoformat()} is before 1970 or in the future: correct it, or leave it out"
    if isinstance(entry, Label):
        if not 0 <= entry.relevance <= MAX_RELEVANCE:
            yield "relevance", f"the relevance {entry.relevance} is not a number from 0 to {MAX_RELEVANCE:,}"
    else:
        yield from _click_problems(entry)


def check_entry(entry: Label | Click) -> None:
    """Raise LabelError for the first rule that an entry does not meet."""
    for field, reason in entry_problems(entry):
        kind = "label" if isinstance(entry, Label) else "click"
        raise LabelError(f"a {kind} for {entry.document!r:.80} cannot be stored: {field}: {reason}")


def click_position(document: str | None, position: int | None, shown: Sequence[str]) -> int | None:
    """Return the given position of a clicked document, else its position in the result list; None if unknown."""
    if position is None and document is not None and document in shown:
        return list(shown).index(document) + 1
    return position


def as_utc(at: datetime) -> datetime:
    """Return a time in UTC. A time without an offset is in UTC."""
    if at.tzinfo is None:
        return at.replace(tzinfo=UTC)
    try:
        return at.astimezone(UTC)
    except OverflowError:
        return at.replace(tzinfo=UTC)  # within a day of the years 1 or 9999


def parse_time(value: object) -> datetime:
    """Return a time in UTC, from ISO 8601 or a number since 1970. Raises ValueError with a reason.

    A time without an offset is in UTC, a date is its first moment, a leap second is the second after it. A number, also
    as a text of at least 9 digits, counts seconds; milliseconds, microseconds or nanoseconds if seconds would be after
    the year 5000.
    """
    if isinstance(value, datetime):
        return as_utc(value)
    if isinstance(value, str):
        text = value.strip()
        return _since_1970(float(text)) if _SECONDS_SINCE_1970.fullmatch(text) else _parse_iso(text)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e21 and isfinite(value):
        return _since_1970(value)
    raise ValueError(f"the time is {value!r:.40}: {_TIME_FORMATS}")


def _parse_iso(text: str) -> datetime:
    plain = re.sub(r"\s*(utc|gmt|z)$", "+00:00", text, flags=re.IGNORECASE)
    plain = re.sub(r"\s+([+-]\d\d:?\d\d)$", r"\1", plain)
    leap = _LEAP_SECOND.search(plain)
    try:
        parsed = as_utc(datetime.fromisoformat(_LEAP_SECOND.sub(r"\g<1>59", plain)))
        return parsed + timedelta(seconds=1) if leap else parsed
    except (ValueError, OverflowError):
        raise ValueError(f"the time is {text[:40]!r}: {_TIME_FORMATS}") from None


def _since_1970(number: float) -> datetime:
    for units_per_second in (1, 10**3, 10**6, 10**9):
        if 0 <= number < 1e11 * units_per_second:
            return EARLIEST + timedelta(seconds=number / units_per_second)
    raise ValueError(f"the time is {number:g}: {_TIME_FORMATS}")


def _text_problems(value: object, least: int, most: int) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{value!r:.40} is not a text"
    elif not is_unicode(value):
        yield "holds half of a surrogate pair: send valid Unicode"
    elif len(value) < least:
        yield "is empty: give at least 1 character"
    elif len(value) > most:
        yield f"is longer than {most:,} characters"


def _click_problems(click: Click) -> Iterator[tuple[str, str]]:
    document, position, shown = click.document, click.position, click.shown
    if not click.query.strip():
        yield "query", "is blank: give the query whose results were shown"
    if len(shown) > MAX_SHOWN:
        yield "shown", f"has more than {MAX_SHOWN} documents"
    for shown_id in shown[:MAX_SHOWN]:
        yield from (("shown", reason) for reason in _text_problems(shown_id, 1, MAX_DOCUMENT_CHARS))
    if position is not None and not 1 <= position <= MAX_POSITION:
        yield "position", f"the position {position} is not a number from 1 to {MAX_POSITION:,}"
    elif document is None:
        if not shown or position is not None:
            yield "document", "without a document, give `shown` and no `position`"
    elif position is None:
        yield (
            "position",
            "a click on a document has no position: give the `position`, or `shown` with the document in it",
        )
    elif shown and shown[position - 1 : position] != (document,):
        yield "position", "the document is not at this `position` of `shown`"
