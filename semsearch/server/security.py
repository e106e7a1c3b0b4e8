"""Authorization of requests that change or reveal data: named write keys, and no requests from other sites' pages."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping
from urllib.parse import urlsplit

from flask import Request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import BadRequest, Forbidden, Unauthorized

from semsearch.errors import SemsearchError

MIN_KEY_LENGTH = 16
"""Characters."""
LOCAL = "local"
"""The source of requests to a server without write keys."""


class WriteKeyError(SemsearchError):
    """An invalid write key."""


class WriteKeys:
    """The write keys of a server, by name."""

    def __init__(self, keys: Mapping[str, str], *, refuse_all: bool = False) -> None:
        """Check and store the keys.

        keys: by name; without any, every client may write. refuse_all: whether to refuse all writes, with or without a
        key.

        Raises WriteKeyError for a key that is too short or an invalid name.
        """
        for name, key in keys.items():
            if not re.fullmatch(r"[\w.@-]{1,64}", name):
                raise WriteKeyError(
                    f"the write key's name {name!r} is not 1 to 64 letters, digits, '.', '@', '_' or '-'"
                )
            if len(key) < MIN_KEY_LENGTH:
                raise WriteKeyError(f"the write key {name!r} has {len(key)} characters: use at least {MIN_KEY_LENGTH}")
        self._digests = {name: _digest(key) for name, key in keys.items()}
        self.refuse_all = refuse_all

    @classmethod
    def parse(cls, options: Iterable[str], *, refuse_all: bool = False) -> WriteKeys:
        """Create keys from options of the form NAME=KEY.

        Raises WriteKeyError as the constructor, for an option without `=`, and for a repeated name.
        """
        keys: dict[str, str] = {}
        for option in options:
            name, separator, key = option.partition("=")
            if not separator:
                raise WriteKeyError("a write key is given as NAME=KEY: the name is stored with each label")
            if name in keys:
                raise WriteKeyError(f"two write keys are called {name!r}: give each its own name")
            keys[name] = key
        return cls(keys, refuse_all=refuse_all)

    @property
    def required(self) -> bool:
        """Whether writing requires a key."""
        return bool(self._digests)

    def source(self, request: Request, *, form_key: str | None = None) -> str:
        """Authorize a request and return the name of its key, or `local` if the server has no keys.

        form_key: the key as a field of a form, which a browser without scripts sends instead of the header.

        Raises Unauthorized without a valid key, and Forbidden if the server is read-only or the request comes from a
        page of another site.
        """
        if self.refuse_all:
            raise Forbidden("this server is read-only (--read-only): it stores no labels and changes nothing")
        _refuse_other_sites(request)
        if not self._digests:
            return LOCAL
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        given = token if scheme.lower() == "bearer" else form_key or ""
        digest = _digest(given.strip())
        # compares every key, each in constant time, so that the duration reveals nothing about the keys
        matches = [name for name, expected in self._digests.items() if hmac.compare_digest(digest, expected)]
        if not matches:
            raise Unauthorized(
                "this needs a write key: send `Authorization: Bearer KEY`", www_authenticate=WWWAuthenticate("bearer")
            )
        return matches[0]


class TrustedHostError(SemsearchError):
    """A name of a trusted host that is not valid."""


def parse_trusted_host(text: str) -> str:
    """Return a host name or an IP address in lower case; a leading dot includes all subdomains.

    Raises TrustedHostError for anything else, such as a URL: no request could name it.
    """
    name = text.strip().lower()
    try:
        return f"{ipaddress.ip_address(name.removeprefix('[').removesuffix(']'))}"
    except ValueError:
        if re.fullmatch(r"\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", name):
            return name
    raise TrustedHostError(
        f"the trusted host {text[:200]!r} is not a host name: give it without scheme, port and path, such as"
        " search.example.org, or .example.org for all its subdomains (--trusted-host, SEMSEARCH_TRUSTED_HOST)"
    )


def check_host(host: str, trusted: Collection[str]) -> None:
    """Raise BadRequest unless the Host header names a trusted host.

    host: the header, with or without a port. trusted: as of `parse_trusted_host`.
    Werkzeug's own check cannot be given IPv6 addresses.
    """
    try:
        name = "" if re.search(r"[/@?#\\\s]", host) else parse_trusted_host(urlsplit(f"//{host}").hostname or "")
    except (ValueError, TrustedHostError):
        name = ""
    for entry in trusted:
        if name and (name == entry.lstrip(".") or (entry.startswith(".") and name.endswith(entry))):
            return
    raise BadRequest(
        f"{host[:200]!r} is not a name of this server: add it with --trusted-host (SEMSEARCH_TRUSTED_HOST)"
    )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _refuse_other_sites(request: Request) -> None:
    """Raise Forbidden for a request from a page of another site.

    Browsers name the origin of a request in headers. Other clients send no such headers and are accepted.
    """
    if request.method == "GET" and request.headers.get("Sec-Fetch-Dest") == "document":
        return  # following a link changes nothing, and the other page cannot read the response
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    origin = request.headers.get("Origin")
    try:
        foreign = origin is not None and urlsplit(origin).netloc != request.host
    except ValueError:
        foreign = True
    if site not in {"same-origin", "none"} or foreign:
        raise Forbidden(
            "a page of another site can neither change nor read this: use this server's own pages, or a program that"
            " sends no Origin"
        )
