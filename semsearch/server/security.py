"""Who may change something: keys by name, and no page from elsewhere. Does not depend on what is changed."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from flask import Request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, Unauthorized

from semsearch.errors import SemsearchError

SHORTEST_KEY = 16
LOCAL = "local"
"""The source of what came without a key, over loopback."""


class WriteKeyError(SemsearchError):
    """A write key that cannot be used."""


class WriteKeys:
    """The keys with which labels, clicks and changes may be sent."""

    def __init__(self, keys: Mapping[str, str], *, refuse_all: bool = False) -> None:
        """Names and keys; without any, every client may write, unless refuse_all.

        Raises WriteKeyError for a key that is too short or a name that cannot be one.
        """
        for name, key in keys.items():
            if not re.fullmatch(r"[\w.@-]{1,64}", name):
                raise WriteKeyError(
                    f"the write key's name {name!r} is not 1 to 64 letters, digits, '.', '@', '_' or '-'"
                )
            if len(key) < SHORTEST_KEY:
                raise WriteKeyError(f"the write key {name!r} has {len(key)} characters: use at least {SHORTEST_KEY}")
        self._digests = {name: _digest(key) for name, key in keys.items()}
        self.refuse_all = refuse_all

    @classmethod
    def parsed(cls, given: Iterable[str], *, refuse_all: bool = False) -> WriteKeys:
        """From NAME=KEY each. Raises WriteKeyError as the constructor does, and for what has no `=`."""
        keys: dict[str, str] = {}
        for one in given:
            name, sign, key = one.partition("=")
            if not sign:
                raise WriteKeyError("a write key is given as NAME=KEY: the name stands in the log beside each label")
            if name in keys:
                raise WriteKeyError(f"two write keys are called {name!r}: give each its own name")
            keys[name] = key
        return cls(keys, refuse_all=refuse_all)

    @property
    def wanted(self) -> bool:
        """Whether a key must be shown to write."""
        return bool(self._digests)

    def source(self, request: Request) -> str:
        """Who sends this request, which is about to change or to read what is not open to all.

        Raises Unauthorized without a right key, Forbidden where nobody may write or the request comes from the page of
        another site.
        """
        if self.refuse_all:
            raise Forbidden("this server takes no labels and changes nothing (--read-only)")
        _refuse_other_sites(request)
        if not self._digests:
            return LOCAL
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        digest = _digest(given.strip() if scheme.lower() == "bearer" else "")
        # every key is compared, whichever is right, and none byte by byte
        right = [name for name, known in self._digests.items() if hmac.compare_digest(digest, known)]
        if not right:
            raise Unauthorized(
                "this needs a write key: send `Authorization: Bearer KEY`", www_authenticate=WWWAuthenticate("bearer")
            )
        return right[0]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _refuse_other_sites(request: Request) -> None:
    """Browsers say where a request comes from; programs say nothing, and need not."""
    if request.method == "GET" and request.headers.get("Sec-Fetch-Dest") == "document":
        return  # a person follows a link to the server: that changes nothing, and the other page sees nothing of it
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    origin = request.headers.get("Origin")
    try:
        foreign = origin is not None and urlsplit(origin).netloc != request.host
    except ValueError:
        foreign = True
    if site not in {"same-origin", "none"} or foreign:
        raise Forbidden("a page of another site cannot change anything here")
