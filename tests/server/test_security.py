"""Hosts by whose names a server may be called."""

from __future__ import annotations

import re

import pytest
from werkzeug.exceptions import BadRequest

from semsearch.server.security import TrustedHostError, check_host, parse_trusted_host

TRUSTED = [
    parse_trusted_host(name) for name in ("localhost", "127.0.0.1", "[0:0::1]", " Search.Example", ".team.example")
]


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8080",
        "127.0.0.1:80",
        "[::1]",
        "[::1]:8080",
        "[0:0:0:0:0:0:0:1]:8080",
        "search.example",
        "team.example",
        "a.b.team.example:443",
    ],
)
def test_a_trusted_host_is_accepted(host: str) -> None:
    check_host(host, TRUSTED)


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":80",
        "[",
        "[::1",
        "[::2]",
        "::1",
        "localhost.evil.example",
        "evilteam.example",
        "x@localhost.evil.example",
        "localhost:80@evil.example",
        "127.0.0.1.example",
        "search.example/evil",
        "a b",
    ],
)
def test_any_other_host_is_refused_with_the_remedy(host: str) -> None:
    with pytest.raises(BadRequest, match="not a name of this server: add it with --trusted-host"):
        check_host(host, TRUSTED)


@pytest.mark.parametrize(
    "text",
    ["", " ", "*", "http://search.example", "search.example:80", "search.example/", "a b", "..", "a..b", "é.example"],
)
def test_a_trusted_host_that_no_request_could_name_is_refused_at_start(text: str) -> None:
    message = rf"the trusted host {re.escape(repr(text))} is not a host name: give it without .*--trusted-host"
    with pytest.raises(TrustedHostError, match=message):
        parse_trusted_host(text)
