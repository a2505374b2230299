# SPDX-License-Identifier: GPL-2.0-or-later
"""Who gets the one seat, over real sockets, and what keeps nobody from it."""

import asyncio
import logging
import socket
import struct
import threading
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from stub import server as server_module
from stub.endpoint import Tcp, local
from stub.errors import EndpointError
from stub.framing import encode
from stub.server import Server, serve
from tests.fakes import MonitoredMachine, two_partitions
from tests.raw_client import RawClient

LOCAL = Tcp("127.0.0.1", 0)
PAGE = (
    b"POST / HTTP/1.1\r\nHost: localhost:1234\r\nContent-Type: text/plain\r\n\r\n"
    + encode(b"qRcmd,696e666f")
)
HALVES = [b"$", b"+", b"+$g", b"$g#6", b"\x03", b"-+-", b"+$" + b"m" * 0x1F000]


@pytest.fixture
def machine() -> MonitoredMachine:
    return two_partitions()


@pytest.fixture
async def server(machine: MonitoredMachine) -> AsyncIterator[Server]:
    server = await serve(machine, LOCAL)
    yield server
    server.close()
    async with asyncio.timeout(10):
        await server.wait_closed()


@pytest.mark.parametrize(
    "said", [PAGE, b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01", b"x", b"\xff", b" +"]
)
async def test_who_is_no_debugger_is_hung_up_on(
    server: Server, machine: MonitoredMachine, said: bytes
) -> None:
    async with RawClient.connected(server.address) as other:
        other.writer.write(said)
        with suppress(ConnectionError):  # reset: so it says even less
            assert await other.gone()
    async with RawClient.connected(server.address) as client:
        await client.hello()
    assert not [word for word in machine.log if "monitor" in word]


@pytest.mark.parametrize("said", HALVES)
async def test_half_a_packet_holds_no_seat(server: Server, said: bytes) -> None:
    async with RawClient.connected(server.address) as other:
        other.writer.write(said)
        await other.writer.drain()
        async with RawClient.connected(server.address) as client:
            await client.hello()
            assert await client.ask(b"qC") == b"QCp1.1"


@pytest.mark.parametrize("said", [b"", *HALVES])
async def test_who_sends_no_whole_packet_is_hung_up_on(
    machine: MonitoredMachine, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(server_module, "_PATIENCE", 0.0)
    server = await serve(machine, LOCAL)
    async with RawClient.connected(server.address) as other:
        other.writer.write(said)
        with suppress(ConnectionError):
            assert await other.gone()
    server.close()
    async with asyncio.timeout(10):
        await server.wait_closed()
    assert machine.log == []


async def test_the_seat_is_kept_however_long_it_is_silent(server: Server) -> None:
    async with RawClient.connected(server.address) as client:
        await client.hello()
        for connection in server._connections:
            connection.expect(0.0)
        assert await client.ask(b"qC") == b"QCp1.1"
        assert await client.ask(b"qC") == b"QCp1.1"


async def test_any_number_of_silent_ones_keeps_nobody_out(server: Server) -> None:
    silent = [await RawClient.connect(server.address) for _ in range(100)]
    async with RawClient.connected(server.address) as client:
        await client.hello()
        assert len(server._connections) <= server_module._STANDING + 1
        more = [await RawClient.connect(server.address) for _ in range(100)]
        assert await client.ask(b"qC") == b"QCp1.1"
        for other in silent + more:
            await other.leave()


async def test_refused_clients_that_reset_leave_no_trace(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    failures: list[object] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    assert isinstance(server.address, Tcp)
    async with RawClient.connected(server.address) as first:
        await first.hello()
        for said in (b"", b"$", encode(b"vMustReplyEmpty"), encode(b"?") * 100, PAGE):
            for _ in range(50):
                other = socket.create_connection(
                    (server.address.host, server.address.port)
                )
                other.sendall(said)
                reset = struct.pack("ii", 1, 0)
                other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                other.close()
            assert await first.ask(b"qC") == b"QCp1.1"
    assert not failures
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_other_computers_are_let_in_by_name_only(
    host: str, machine: MonitoredMachine
) -> None:
    with pytest.raises(EndpointError, match=r"other computers reach .*--allow-remote"):
        await serve(machine, Tcp(host, 0))
    if host != "::":
        server = await serve(machine, Tcp(host, 0), allow_remote=True)
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.1", False),
        ("fe80::1%lo", False),
    ],
)
def test_what_is_local(address: str, expected: bool) -> None:
    assert local(address) is expected


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a..b", "x" * 70, "\udcff"])
async def test_a_host_that_cannot_be_found_is_named(
    host: str, machine: MonitoredMachine
) -> None:
    with pytest.raises(EndpointError, match=r"cannot serve gdb on .*give an address"):
        await serve(machine, Tcp(host, 1))


async def test_others_are_answered_during_long_work(
    server: Server, machine: MonitoredMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another client, 0x03 and the end of the server, while memory is searched."""
    begun = threading.Event()

    def everywhere(addr: int, length: int) -> bytes:
        begun.set()
        return b"x"

    monkeypatch.setattr(machine.inferior(1), "read_memory", everywhere)
    async with RawClient.connected(server.address) as first:
        await first.hello()
        first.send(b"qSearch:memory:0;ffffffffffffffff;abc")
        await asyncio.to_thread(begun.wait, 10)
        async with RawClient.connected(server.address) as second:
            await second.ask(b"qSupported:error-message+")
            assert b"another client" in await second.ask(b"vMustReplyEmpty")
        first.writer.write(b"\x03")
        assert await first.receive() == b"E.interrupted"
        assert await first.ask(b"qC") == b"QCp1.1"
        begun.clear()
        first.send(b"qCRC:0,40000000")
        await asyncio.to_thread(begun.wait, 10)
    async with RawClient.connected(server.address) as third:
        await third.hello()  # the work of who has gone has ended
        third.send(b"qSearch:memory:0;ffffffffffffffff;abc")
        await third.writer.drain()
        server.close()
        async with asyncio.timeout(10):
            await server.wait_closed()


async def test_a_read_only_server_changes_nothing(machine: MonitoredMachine) -> None:
    server = await serve(machine, LOCAL, read_only=True)
    async with RawClient.connected(server.address) as client:
        await client.hello()
        assert await client.ask(b"m1000,2") == b"0001"
        for request in (b"M1000,1:ff", b"vCont;c", b"Z0,1000,1", b"vKill;1", b"c"):
            assert (await client.ask(request)).startswith(b"E.this server is read-only")
        client.send(b"k")
        assert await client.gone()
    server.close()
    await server.wait_closed()
    assert machine.log == ["attach", "detach None"]
