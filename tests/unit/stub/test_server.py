# SPDX-License-Identifier: GPL-2.0-or-later
"""The driver over real sockets: who is served, and what survives whom."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from stub.endpoint import Tcp, Unix, parse_endpoint
from stub.errors import EndpointError
from stub.framing import encode
from stub.server import Server, serve
from tests.fakes import MonitoredMachine, two_partitions
from tests.raw_client import PATIENCE, RawClient

LOCAL = Tcp("127.0.0.1", 0)
BUSY = b"E.another client is debugging this machine; it must detach first"


Connect = Callable[[], Awaitable[RawClient]]


@pytest.fixture
def machine() -> MonitoredMachine:
    return two_partitions()


@pytest.fixture
async def server(machine: MonitoredMachine) -> AsyncIterator[Server]:
    server = await serve(machine, LOCAL)
    yield server
    server.close()
    async with asyncio.timeout(PATIENCE):
        await server.wait_closed()


@pytest.fixture
async def connect(server: Server) -> AsyncIterator[Connect]:
    clients: list[RawClient] = []

    async def connect() -> RawClient:
        clients.append(await RawClient.connect(server.address))
        return clients[-1]

    yield connect
    for client in clients:
        await client.leave()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


async def test_a_free_port_is_chosen_and_told(server: Server) -> None:
    assert isinstance(server.address, Tcp)
    assert server.address.port > 0


async def test_a_client_is_served(connect: Connect) -> None:
    client = await connect()
    await client.hello()
    assert await client.ask(b"m1000,2") == b"0001"
    client.writer.write(encode(b"m1000,1") + encode(b"m1001,1"))
    assert [await client.receive(), await client.receive()] == [b"00", b"01"]


async def test_a_run_ends_by_interrupt(
    connect: Connect, machine: MonitoredMachine
) -> None:
    client = await connect()
    await client.hello()
    client.writer.write(encode(b"vCont;c") + b"\x03")
    assert (await client.receive()).startswith(b"T02thread:p1.1;")
    client.send(b"vCont;c:p2.-1")
    await until(lambda: machine.log[-1] == "resume c:p2.-1")
    client.writer.write(b"\x03")
    assert (await client.receive()).startswith(b"T02thread:p2.1;")


async def test_a_second_client_is_told_why_and_the_first_not_disturbed(
    connect: Connect, machine: MonitoredMachine
) -> None:
    first, second = await connect(), await connect()
    await first.hello()  # the first to speak, that is
    assert await second.ask(b"qSupported:error-message+") == b""
    assert await second.ask(b"vMustReplyEmpty") == BUSY
    assert await second.gone()
    await second.leave()
    assert await first.ask(b"qC") == b"QCp1.1"
    assert machine.log == ["attach"]


async def test_who_says_nothing_keeps_nobody_out(
    connect: Connect, machine: MonitoredMachine
) -> None:
    await connect()
    await (await connect()).hello()
    assert machine.log == ["attach"]


async def test_acks_are_on_again_for_the_next_client(connect: Connect) -> None:
    first = await connect()
    await first.hello()
    await first.leave()
    second = await connect()
    second.send(b"!")
    async with asyncio.timeout(PATIENCE):
        assert await second.reader.readexactly(7) == b"+" + encode(b"OK")


async def test_a_client_that_vanishes_in_a_packet(
    connect: Connect, machine: MonitoredMachine
) -> None:
    first = await connect()
    await first.hello()
    first.writer.write(b"$m1000")
    await first.leave()
    await until(lambda: machine.log == ["attach", "detach None"])
    await (await connect()).hello()


async def test_a_client_that_vanishes_in_a_run(
    connect: Connect, machine: MonitoredMachine
) -> None:
    first = await connect()
    await first.hello()
    first.send(b"vCont;c")
    await until(lambda: machine.log[-1].startswith("resume"))
    first.writer.transport.abort()
    second = await connect()  # may come before the run has ended: it waits
    await second.hello()
    assert machine.log[1:] == ["resume c:p-1.-1", "interrupt", "detach None", "attach"]


async def test_replies_nobody_reads_hold_up_requests(
    connect: Connect, machine: MonitoredMachine
) -> None:
    machine.inferior(1).memory[0x10_0000] = bytearray(0x10000)
    client = await connect()
    await client.hello()
    for _ in range(300):  # 39 MB of replies
        client.send(b"m100000,10000")
    client.send(b"qC")
    replies = [await _large(client) for _ in range(300)]
    assert set(replies) == {0x20000}
    assert await client.receive() == b"QCp1.1"


async def _large(client: RawClient) -> int:
    async with asyncio.timeout(PATIENCE):
        frame = await client.reader.readuntil(b"#")
        await client.reader.readexactly(2)
    return len(frame) - len(b"$#")


async def test_closing_ends_a_run_and_the_connection(
    server: Server, connect: Connect, machine: MonitoredMachine
) -> None:
    client = await connect()
    await client.hello()
    client.send(b"vCont;c")
    await until(lambda: machine.log[-1].startswith("resume"))
    server.close()
    assert machine.log[-1] == "interrupt"
    async with asyncio.timeout(PATIENCE):
        await server.wait_closed()
    assert machine.log[-1] == "interrupt"  # and it is not let run on
    with pytest.raises((EOFError, ConnectionError)):
        await client.receive()


async def test_a_port_in_use_is_named(server: Server) -> None:
    with pytest.raises(EndpointError) as caught:
        await serve(two_partitions(), server.address)
    assert str(server.address) in str(caught.value)
    assert "address already in use; choose another port" in str(caught.value)


async def test_a_unix_socket_is_private_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "gdb.sock"
    server = await serve(two_partitions(), Unix(str(path)))
    try:
        assert path.stat().st_mode & 0o777 == 0o600
        client = await RawClient.connect(server.address)
        await client.hello()
        with pytest.raises(EndpointError, match="address already in use"):
            await serve(two_partitions(), Unix(str(path)))
        assert await client.ask(b"qC") == b"QCp1.1"
        await client.leave()
    finally:
        server.close()
        await server.wait_closed()
    assert not path.exists()


async def test_a_dead_servers_socket_is_taken_over(tmp_path: Path) -> None:
    path = str(tmp_path / "gdb.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    server = await serve(two_partitions(), Unix(path))
    server.close()
    await server.wait_closed()


async def test_ipv6_loopback() -> None:
    try:
        server = await serve(two_partitions(), parse_endpoint("[::1]:0"))
    except EndpointError as error:
        pytest.skip(f"this host has no IPv6: {error}")
    assert str(server.address).startswith("[::1]:")
    server.close()
    await server.wait_closed()


STDIO = """
import asyncio
from stub.server import parse_endpoint, serve
from tests.fakes import two_partitions
async def main():
    machine = two_partitions()
    await (await serve(machine, parse_endpoint("stdio"))).wait_closed()
    import sys; print(machine.log, file=sys.stderr)
asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["pipes", "socket"])
def test_stdio(kind: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", STDIO],
            stdin=subprocess.PIPE if kind == "pipes" else theirs.fileno(),
            stdout=subprocess.PIPE if kind == "pipes" else theirs.fileno(),
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        )
        request = encode(b"?") + encode(b"m1000,1")
        if process.stdin and process.stdout:
            process.stdin.write(request)
            process.stdin.flush()
            replies = process.stdout.read(82)
        else:
            theirs.close()
            ours.sendall(request)
            replies = ours.recv(82, socket.MSG_WAITALL)
            ours.shutdown(socket.SHUT_RDWR)
        _, errors = process.communicate(timeout=PATIENCE)
    assert replies.startswith(b"+$T05thread:1;10:0010000000000000;")
    assert replies.endswith(b"+" + encode(b"00"))
    assert (process.returncode, errors) == (0, b"['attach', 'detach None']\n")
