"""What an index's domains have learned, one file a domain in its folder `domains`; knows nothing of learning.

A state is made of the encoder's own coordinates: it outlives a rebuilding of the index, not a change of encoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from pydantic import JsonValue

from semsearch.adapter import DomainState
from semsearch.records import StateError

FOLDER = "domains"
SUFFIX = ".safetensors"


def save_state(index: Path, domain: str, state: DomainState, about: Mapping[str, JsonValue]) -> Path:
    """Write a domain's state beside its index, whole or not at all. Raises StateError if the disk refuses.

    about: what is to be known of it; `encoder_sha256`, the weights it was learned with, must be there.
    """
    path = _path(index, domain)
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise StateError(
            f"{path.parent} cannot be made ({error.strerror}): make the index's folder writable"
        ) from error
    state.save(path, about)
    return path


def open_states(index: Path, *, encoder_sha256: str) -> dict[str, DomainState]:
    """Every domain's state. Raises StateError for a damaged one, or one that another encoder's vectors taught."""
    states = {}
    for domain, path in _stored(index):
        state, about = DomainState.open(path)
        if about.get("encoder_sha256") != encoder_sha256:
            raise StateError(
                f"{path} was learned with another encoder than the index was built with: adapt the domain again,"
                " or remove the file"
            )
        states[domain] = state
    return states


def describe_states(index: Path) -> dict[str, dict[str, JsonValue]]:
    """What every domain's state says of itself. Raises StateError for a damaged one."""
    return {domain: DomainState.open(path)[1] for domain, path in _stored(index)}


def remove_state(index: Path, domain: str) -> bool:
    """Forget what a domain learned; whether there was anything."""
    path = _path(index, domain)
    there = path.exists()
    path.unlink(missing_ok=True)
    return there


def _stored(index: Path) -> Iterator[tuple[str, Path]]:
    """Domain and file of every state."""
    for path in sorted((index / FOLDER).glob(f"*{SUFFIX}")):
        yield unquote(path.name.removesuffix(SUFFIX)), path


def _path(index: Path, domain: str) -> Path:
    name = quote(domain, safe="")
    if not name or name.startswith(".") or len(name) > 200:
        raise StateError(f"{domain[:40]!r} cannot be a domain's name: use 1 to 200 bytes that do not begin with a dot")
    return index / FOLDER / f"{name}{SUFFIX}"
