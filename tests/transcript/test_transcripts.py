# SPDX-License-Identifier: GPL-2.0-or-later
"""Replays ``*.rsp``: what a client says and what it must hear, over a real socket."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from stub.endpoint import Tcp
from stub.server import serve
from tests.fakes import MonitoredMachine, two_partitions
from tests.raw_client import RawClient

FILES = sorted(Path(__file__).parent.glob("*.rsp"))


def lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield (line number, direction, text)."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line and not line.startswith("#"):
            direction, _, text = line.partition(" ")
            assert direction in ("<-", "->"), f"{path}:{number}"
            yield number, direction, text


def pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)


def machine() -> MonitoredMachine:
    machine = two_partitions()
    machine.inferior(2).last_instruction = 0x1020
    machine.inferior(1).touches = {0x1100: 0x1809}
    return machine


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_transcript(path: Path) -> None:
    server = await serve(machine(), Tcp("127.0.0.1", 0))
    async with RawClient.connected(server.address) as client:
        for number, direction, text in lines(path):
            if direction == "<-":
                client.send(text.encode())
            else:
                heard = (await client.receive()).decode()
                assert pattern(text).fullmatch(heard), f"{path}:{number}: {heard}"
    server.close()
    await server.wait_closed()


def test_there_are_transcripts() -> None:
    assert len(FILES) >= 4
