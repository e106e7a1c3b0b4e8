"""The server's address is reserved before anything is loaded, and errors name it and the remedy."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from semsearch.errors import IndexFolderError
from semsearch.server.run import ListenError, bind, open_indexes
from semsearch.server.security import WriteKeys
from semsearch.storage.generations import current, republish
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


def break_vectors(folder: Path) -> None:
    (current(folder) / "s-000001" / "vectors.faiss").write_bytes(b"")


def break_current(folder: Path) -> None:
    (folder / "current").unlink()


def break_encoder(folder: Path) -> None:
    republish(
        folder,
        lambda manifest: manifest.model_copy(
            update={"encoder": manifest.encoder.model_copy(update={"weights_sha256": 64 * "0"})}
        ),
    )


@pytest.mark.parametrize("damage", [break_vectors, break_current, break_encoder])
def test_of_two_indexes_the_one_that_cannot_be_opened_is_named(
    animals: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    whole, broken = (Path(shutil.copytree(animals, tmp_path / name)) for name in ("whole", "broken"))
    damage(broken)
    with pytest.raises(IndexFolderError) as caught:
        open_indexes([whole, broken], device="cpu", threads=1)
    assert str(broken) in str(caught.value)
    assert str(whole) not in str(caught.value)
