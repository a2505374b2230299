# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients that misbehave: the machine survives them and the next one can attach."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from stub.endpoint import Tcp
from stub.framing import encode
from tests.live.process import TIMEOUT, NkRun
from tests.raw_client import RawClient

Mischief = Callable[[RawClient], Awaitable[object]]


async def garbage(client: RawClient) -> None:
    client.writer.write(bytes(range(256)) * 64)


async def a_wrong_checksum(client: RawClient) -> None:
    client.writer.write(b"$g#00")


async def an_endless_packet(client: RawClient) -> None:
    client.writer.write(b"$m" + b"0" * (1 << 20))


async def half_a_packet(client: RawClient) -> None:
    client.writer.write(b"$mffffffff81000")


async def leaving_while_it_runs(client: RawClient) -> None:
    client.send(b"vCont;c")
    await client.writer.drain()


async def leaving_while_one_runs(client: RawClient) -> None:
    client.send(b"Z0,ffffffff81000000,1")
    client.send(b"vCont;c:p2.-1")
    await client.writer.drain()


async def reset(client: RawClient) -> None:
    client.send(b"vCont;c")
    client.writer.transport.abort()


@asynccontextmanager
async def next_client(address: Tcp) -> AsyncIterator[RawClient]:
    """Attach; again, where the server has not yet read of the last one's leaving."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            async with RawClient.connected(address) as client:
                if await client.ask(b"qSupported"):  # one turned away gets nothing
                    await client.hello()
                    yield client
                    return


@pytest.mark.parametrize(
    "mischief",
    [
        garbage,
        a_wrong_checksum,
        an_endless_packet,
        half_a_packet,
        leaving_while_it_runs,
        leaving_while_one_runs,
        reset,
    ],
)
async def test_the_next_client_can_attach(machine: NkRun, mischief: Mischief) -> None:
    address = Tcp(*machine.endpoint)
    async with next_client(address) as client:
        await mischief(client)
    async with next_client(address) as client:
        assert b"host/cpu0" in await client.ask(b"qXfer:threads:read::0,1000")
    assert machine.host.answers()
    assert machine.guest.answers()


@pytest.mark.parametrize(
    "request_",
    [
        b"Hgp7.1",
        b"Hgp1.9",
        b"T p1.9",
        b"mffffffffffffffff,10",
        b"m0,ffffffffffffffff",
        b"M0,4:00000000",
        b"Mfffffffffffffffe,4:00000000",
        b"Z2,800000000000,8",
        b"Z2,0,0",
        b"Z9,0,1",
        b"P999=00",
        b"vCont;c:p7.1",
        b"vCont;x",
        b"vKill;99",
        b"D;63",
        b"qXfer:threads:read::zz",
        b"qRcmd,zz",
        b"\x00\xff",
    ],
)
async def test_nonsense_is_refused_and_nothing_is_lost(
    machine: NkRun, request_: bytes
) -> None:
    async with next_client(Tcp(*machine.endpoint)) as client:
        before = await client.ask(b"g")
        reply = await client.ask(request_)
        assert reply == b"" or re.match(rb"E([0-9]{2}|\.)", reply), reply
        assert await client.ask(b"g") == before


async def test_ctrl_c_while_nothing_runs_changes_nothing(machine: NkRun) -> None:
    async with next_client(Tcp(*machine.endpoint)) as client:
        before = await client.ask(b"g")
        client.writer.write(b"\x03" * 10)
        assert await client.ask(b"g") == before


async def test_ctrl_c_in_the_same_breath_as_continue(machine: NkRun) -> None:
    async with next_client(Tcp(*machine.endpoint)) as client:
        for _ in range(200):
            client.writer.write(encode(b"vCont;c") + b"\x03")
            assert (await client.receive()).startswith(b"T02")


async def test_nk_ends_at_once_while_a_client_lets_it_run() -> None:
    run = NkRun("--freeze")
    async with RawClient.connected(Tcp(*run.endpoint)) as client:
        await client.hello()
        client.send(b"vCont;c")
        await client.writer.drain()
        run.host.expect("Linux version")
        run.close()
        assert await client.gone()
