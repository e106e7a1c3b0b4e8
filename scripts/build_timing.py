"""Measure where the time of a build or an update goes, for the scripts of this folder."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter

from semsearch.ingest.building import LoadingEncoder
from semsearch.ingest.encoding import Encoding


def timed(events: Iterable[object]) -> dict[str, float]:
    """Consume the events and return seconds: `all` from loading the encoder to the end, `encode` of encoding alone."""
    loaded = first = last = 0.0
    for event in events:
        now = perf_counter()
        if isinstance(event, LoadingEncoder):
            continue
        # reading begins once the model is loaded; its first event comes after the first document
        loaded = loaded or now
        if isinstance(event, Encoding):
            first, last = first or now, now
    return {"all": perf_counter() - loaded, "encode": last - first}
