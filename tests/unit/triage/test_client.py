# SPDX-License-Identifier: GPL-2.0-or-later
"""The client where there is no server of ours; with one: tests/boot."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from nanokernel_vm.debug.client import Client, ConnectionFailed, NoAnswer
from stub.endpoint import Stdio, Tcp, Unix
from stub.framing import encode

PATIENCE = 300.0  # seconds; bounds a wait, measures nothing


@contextmanager
def peer(behave: Callable[[socket.socket], object]) -> Iterator[Tcp]:
    """Somebody on a port, who does ``behave`` with the first connection."""

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(PATIENCE)
            behave(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        thread = threading.Thread(target=serve)
        thread.start()
        yield Tcp("127.0.0.1", listening.getsockname()[1])
        thread.join(PATIENCE)


def test_nobody_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    for endpoint in (Tcp("127.0.0.1", port), Unix("/none"), Stdio()):
        with pytest.raises(ConnectionFailed, match=str(endpoint)):
            Client(endpoint, PATIENCE)


def test_one_who_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        endpoint = Tcp("127.0.0.1", listening.getsockname()[1])
        with pytest.raises(NoAnswer, match="no answer in"):
            Client(endpoint, patience=0.01)


def test_one_who_hangs_up() -> None:
    with (
        peer(lambda connection: connection.recv(99)) as endpoint,
        pytest.raises(ConnectionFailed, match=r"hung up|reset"),
    ):
        Client(endpoint, PATIENCE)


def test_one_who_speaks_something_else() -> None:
    def garbage(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n$nonsense#00")
        connection.recv(99)

    with peer(garbage) as endpoint, pytest.raises(ConnectionFailed):
        Client(endpoint, PATIENCE)


def test_a_server_that_knows_no_such_command() -> None:
    def other(connection: socket.socket) -> None:
        for reply in (b"PacketSize=1000", b"T05", b"", b"OK"):
            connection.recv(999)
            connection.sendall(b"+" + encode(reply))
        connection.recv(999)

    with (
        peer(other) as endpoint,
        Client(endpoint, PATIENCE) as client,
        pytest.raises(ConnectionFailed, match="is it a server of this version"),
    ):
        client.rows("partitions")


def test_text_may_come_in_pieces() -> None:
    def server(connection: socket.socket) -> None:
        replies = [[b"PacketSize=1000"], [b"T05"], [b"O" + b"one ".hex().encode(),
                   b"O" + b"two".hex().encode(), b"OK"], [b"OK"]]  # fmt: skip
        for reply in replies:
            _request(connection)
            connection.sendall(b"".join(map(encode, reply)))

    with peer(server) as endpoint, Client(endpoint, PATIENCE) as client:
        assert client.monitor("anything") == "one two"


def _request(connection: socket.socket) -> None:
    """Read one packet, whatever acknowledgements come before it."""
    data = b""
    while b"#" not in data:
        data += connection.recv(999)
