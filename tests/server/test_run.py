"""The server's address is reserved before anything is loaded, and errors name it and the remedy."""

from __future__ import annotations

import socket

import pytest

from semsearch.server.run import ListenError, bind
from semsearch.server.security import WriteKeys
from tests.conftest import NEEDS_IPV6

NO_KEYS = WriteKeys({})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", pytest.param("::1", marks=NEEDS_IPV6)])
def test_all_addresses_of_a_host_have_one_port_and_accept_nothing_yet(host: str) -> None:
    with bind(host, 0, NO_KEYS) as sockets:
        ports = {reserved.getsockname()[1] for reserved in sockets}
        assert len(ports) == 1
        assert ports != {0}
        for reserved in sockets:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(reserved.getsockname()[:2], timeout=5)


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("192.0.2.1", 0, "every client that reaches 192.0.2.1 could label, adapt and reset: require write keys"),
        ("0.0.0.0", 0, "every client that reaches 0.0.0.0 could"),
        ("::", 0, "every client that reaches :: could"),
    ],
)
def test_a_host_that_other_machines_reach_needs_write_keys(host: str, port: int, message: str) -> None:
    with pytest.raises(ListenError, match=message), bind(host, port, NO_KEYS):
        pass


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_this_machine_does_not_have_is_refused(host: str) -> None:
    message = rf"cannot listen at {host}, port 0 .*: choose another with --host"
    with pytest.raises(ListenError, match=message), bind(host, 0, WriteKeys({}, refuse_all=True)):
        pass


def test_a_taken_port_is_refused_until_it_is_free_again() -> None:
    with bind("127.0.0.1", 0, NO_KEYS) as sockets:
        port = sockets[0].getsockname()[1]
        sockets[0].listen()
        message = f"cannot listen at 127.0.0.1, port {port} .*: choose another with --port"
        with pytest.raises(ListenError, match=message), bind("127.0.0.1", port, NO_KEYS):
            pass
    with bind("127.0.0.1", port, NO_KEYS) as sockets:
        assert sockets[0].getsockname()[1] == port
