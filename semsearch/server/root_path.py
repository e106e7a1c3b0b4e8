"""The reverse proxy in front of the server: its address, and the path at which it serves, such as `/search`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from semsearch.errors import SemsearchError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_OWN_PATHS = frozenset(
    {"api", "document", "explanation", "healthz", "learned", "map", "metrics", "readyz", "static", "status"}
)
"""First segments of the server's own paths."""


class RootPathError(SemsearchError):
    """A root path that is not valid."""


def parse_root_path(text: str) -> str:
    """Return a root path that begins with a slash and does not end with one; an empty one for `/`.

    Raises RootPathError.
    """
    path = f"/{text.strip().strip('/')}".rstrip("/")
    if not re.fullmatch(r"(/[\w.~-]+)*", path, re.ASCII) or "/.." in path or "/./" in f"{path}/":
        raise RootPathError(f"the root path {text[:200]!r} is not a path such as /search")
    if path.split("/")[1:2] and path.split("/")[1] in _OWN_PATHS:
        # it could not be told whether a proxy has removed the root path from a request
        raise RootPathError(f"the root path {text[:200]!r} begins like a path of the server: choose another")
    return path


class TrustedProxyError(SemsearchError):
    """An address of a trusted proxy that is not valid."""


def parse_trusted_proxy(text: str | None) -> str | None:
    """Return the IP address of a proxy in the form that connections have; `*` and None as they are.

    Raises TrustedProxyError for anything else: no connection would ever come from it.
    """
    if text is None or text.strip() == "*":
        return text and text.strip()
    try:
        address = ipaddress.ip_address(text.strip().removeprefix("[").removesuffix("]"))
    except ValueError:
        raise TrustedProxyError(
            f"the trusted proxy {text[:200]!r} is not an IP address: give the one that the proxy connects from, such as"
            " 127.0.0.1 or ::1, or * for any (--trusted-proxy, SEMSEARCH_TRUSTED_PROXY)"
        ) from None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def without_root(path: str, root_path: str) -> str:
    """Return a request's path without the root path, whether or not a proxy has removed it already."""
    if root_path and (path == root_path or path.startswith(f"{root_path}/")):
        return path[len(root_path) :] or "/"
    return path


class RootPathMiddleware:
    """Tells an app at which path it is served, so that the addresses that it generates are right."""

    def __init__(self, app: WSGIApplication, root_path: str, trusted_proxy: str | None) -> None:
        """Wrap an app.

        root_path: as of `parse_root_path`. trusted_proxy: as of `parse_trusted_proxy`; the X-Forwarded-Prefix of this
        proxy replaces the root path.
        """
        self._app = app
        self._root_path = root_path
        self._trusted_proxy = trusted_proxy

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        root_path = self._root_path
        prefix = environ.get("HTTP_X_FORWARDED_PREFIX", "")
        if prefix and self._trusted_proxy in {"*", environ.get("REMOTE_ADDR")}:
            with suppress(RootPathError):  # the configured path is the better guess
                root_path = parse_root_path(prefix)
        environ["SCRIPT_NAME"] = root_path
        environ["PATH_INFO"] = without_root(environ.get("PATH_INFO", ""), root_path)
        return self._app(environ, start_response)
