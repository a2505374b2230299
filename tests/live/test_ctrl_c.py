# SPDX-License-Identifier: GPL-2.0-or-later
"""Ctrl-C in loops of short runs, in which gdb resumes by itself after every stop.

It is pressed just when a run begins, so that most often another stop is reported first;
whatever the machine is about, the user is asked for the next command.
"""

import asyncio
import os
import random
import re
import signal
import subprocess
from collections.abc import Awaitable, Sequence
from pathlib import Path

import pytest

from nanokernel_vm.debug import DebugMachine
from stub.server import parse_endpoint, serve
from stub.stops import StopReason
from stub.target import Action
from tests.live.busy import SCRIPTS, BusyMachine
from tests.live.mi import GDBS
from tests.live.process import TIMEOUT

TIMES = 6

# What sets a loop up, and what begins it, in a kernel that is at work.
LOOPS: dict[str, tuple[list[str], str]] = {
    "condition": (["break schedule if $rsp == 1"], "continue"),
    "commands": (
        [
            "break schedule",
            "python gdb.breakpoints()[-1].commands = 'silent\\ncontinue'",
        ],
        "continue",
    ),
    "stepi": ([], "stepi 1000000"),
    "nexti": ([], "nexti 1000000"),
    "watch": (["set can-use-hw-watchpoints 0", "watch panic_timeout"], "continue"),
    "mi": ([], 'interpreter-exec mi "-exec-next-instruction 1000000"'),
}


class Pressed(DebugMachine):
    """Lets somebody press Ctrl-C in gdb when the N-th run begins after ``press N``."""

    gdb: asyncio.subprocess.Process
    _left = 0

    def monitor(self, pid: int, line: str, *, read_only: bool = False) -> str:
        self._left = int(line.removeprefix("press "))
        return "ready\n"

    def resume(self, actions: Sequence[Action]) -> "StopReason | Awaitable[StopReason]":
        self._left -= 1
        if self._left == 0:
            os.kill(self.gdb.pid, signal.SIGINT)
        return super().resume(actions)


async def run(busy: BusyMachine, program: Path, *commands: str) -> str:
    """Let a gdb do ``commands``; all that it printed."""
    debug = Pressed(busy.machine, busy.symbols)
    server = await serve(debug, parse_endpoint("127.0.0.1:0"))
    words = [word for command in commands for word in ("-ex", command)]
    try:
        debug.gdb = await asyncio.create_subprocess_exec(
            *(program, "-nx", "-q", "-batch", "-iex", "set sysroot", "-x", SCRIPTS),
            *("-ex", f"target remote {server.address}", *words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(TIMEOUT * 5):
                return (await debug.gdb.communicate())[0].decode()
        finally:
            if debug.gdb.returncode is None:
                debug.gdb.kill()
    finally:
        server.close()
        debug.close()


@pytest.mark.parametrize("inferior", [1, 2], ids=["host", "guest"])
@pytest.mark.parametrize("loop", LOOPS)
async def test_ctrl_c_is_never_lost(
    busy: BusyMachine, program: str, loop: str, inferior: int
) -> None:
    prepare, begin = LOOPS[loop]
    chance = random.Random(f"{loop} {inferior}")
    presses = [f"monitor press {chance.randrange(1, 40)}" for _ in range(TIMES)]
    lines = [*prepare, *(line for press in presses for line in (press, begin))]
    # With both running, gdb 18 takes some for its own: it ends the loop in silence.
    alone = "set schedule-multiple off"
    text = await run(busy, GDBS[program], alone, f"inferior {inferior}", *lines)
    stops = re.findall(r"^Thread .* received signal SIGINT", text, re.MULTILINE)
    assert len(stops) == TIMES, text
