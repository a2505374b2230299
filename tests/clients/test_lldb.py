# SPDX-License-Identifier: GPL-2.0-or-later
"""A real lldb: it connects, looks, steps, asks ``monitor``, and just quits.

``make test-clients`` installs it.
"""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stub.endpoint import Tcp
from tests.live.process import TIMEOUT, NkRun, build
from tests.raw_client import RawClient

pytestmark = pytest.mark.clients

LLDB = shutil.which("lldb") or shutil.which("lldb-14") or "lldb"


@pytest.fixture(scope="module")
def machine() -> Iterator[NkRun]:
    build()
    with NkRun() as run:
        run.wait_for_shells()
        yield run


def lldb(machine: NkRun, folder: Path, *commands: str) -> str:
    """Let lldb connect and do as it is told; all that it printed."""
    script = folder / "script"
    script.write_text("\n".join((f"gdb-remote {machine.address}", *commands, "")))
    done = subprocess.run(
        [LLDB, "--no-lldbinit", "--batch", "--source", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    return done.stdout


def stopped_by_another(machine: NkRun, pid: int) -> None:
    """Let a client stop in a partition, and leave."""

    async def stop() -> None:
        async with RawClient.connected(Tcp(*machine.endpoint)) as client:
            await client.hello()
            client.send(b"vCont;c:p%x.1" % pid)
            client.writer.write(b"\x03")
            assert (await client.receive()).startswith(b"T02thread:p%x.1;" % pid)
            assert await client.ask(b"D") == b"OK"

    asyncio.run(stop())


@pytest.mark.parametrize("pid", [1, 2])
def test_its_quit_ends_nothing(machine: NkRun, tmp_path: Path, pid: int) -> None:
    stopped_by_another(machine, pid)
    text = lldb(machine, tmp_path, "thread list", "quit")
    assert "Process 1 stopped" in text
    assert "error:" not in text
    assert machine.host.answers()
    assert machine.guest.answers()


def test_monitor_is_readable(machine: NkRun, tmp_path: Path) -> None:
    ask = "process plugin packet monitor partitions"
    text = lldb(machine, tmp_path, ask, "process detach")
    assert "1 host " in text
    assert "2 guest " in text
    assert machine.host.answers()


def test_it_steps_and_reads(machine: NkRun, tmp_path: Path) -> None:
    where = "register read rip"
    commands = [where, "thread step-inst", where, "memory read $rip", "kill"]
    text = lldb(machine, tmp_path, *commands)
    assert "instruction step into" in text
    assert text.count(" rip = 0x") == 2
    assert machine.host.answers()
    assert machine.guest.answers()
