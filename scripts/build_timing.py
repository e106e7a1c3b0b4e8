"""Where the time of a build or a change goes, for the scripts that measure it."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter

from semsearch.ingest.building import LoadingEncoder
from semsearch.ingest.encoding import Encoding


def timed(events: Iterable[object]) -> dict[str, float]:
    """Seconds from the first event after the encoder was loaded to the end (`all`), and of encoding (`encode`)."""
    loaded = first = last = 0.0
    for event in events:
        now = perf_counter()
        if isinstance(event, LoadingEncoder):
            continue
        # reading begins once the model is loaded, and is told after the first document
        loaded = loaded or now
        if isinstance(event, Encoding):
            first, last = first or now, now
    return {"all": perf_counter() - loaded, "encode": last - first}
