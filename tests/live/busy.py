# SPDX-License-Identifier: GPL-2.0-or-later
"""Both kernels hard at work, in this process: a gdb on them, and drgn beside it.

The machine stops by itself some time after it was resumed, at a place that nobody has
chosen, and drgn looks at the very state that gdb is about to see.
"""

import asyncio
import os
import random
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from nanokernel_vm.board import Board
from nanokernel_vm.clock import TICKS_PER_MS
from nanokernel_vm.config import load
from nanokernel_vm.cpu.engine import NEVER
from nanokernel_vm.cpu.registers import Registers
from nanokernel_vm.debug import DebugMachine
from nanokernel_vm.linux.awareness import Awareness
from nanokernel_vm.linux.awareness.stacks import cpu_trace
from nanokernel_vm.machine import Machine
from nanokernel_vm.partition import Partition
from nanokernel_vm.symbols import symbol_file
from stub import amd64
from stub.server import parse_endpoint, serve
from stub.stops import StopReason
from stub.target import Action
from tests.live.process import TIMEOUT

PROJECT = Path(__file__).parents[2]
SCRIPTS = PROJECT / "gdb_scripts/nk-gdb.py"
NAMES = {1: "host", 2: "guest"}
_PACE = TICKS_PER_MS // 5  # between two stops, about
_TRIES, _TRY = 50, 50 * TICKS_PER_MS
_GENERAL = amd64.REGISTERS[: amd64.BY_NAME["ss"].number + 1]

# fork, exec, pipes, files, devices, faults, sleep; "launch" is not in its echo
_WORK = """echo la''unch; while :; do cat /proc/self/maps /proc/stat >/dev/null;
(: | sh -c 'ls -lR /sys/class/tty >/dev/null'); usleep 1000;
dd if=/dev/urandom of=/tmp/x bs=256 count=2 2>/dev/null; done
""".replace("\n", " ")

Level = tuple[int, int, int | None]


class BusyMachine:
    """The pair, its shells at work.

    Args:
        description: The machine file.
    """

    def __init__(self, description: Path) -> None:
        config = load(description)
        self.machine = Machine(config, warp=True)
        self.symbols = {p.name: symbol_file(p.kernel) for p in config.partitions}
        self._run_to({name: f"{name}# ".encode() for name in self.symbols})
        for name in self.symbols:
            self.work(name)
        self._run_to(dict.fromkeys(self.symbols, b"launch\r"))
        self.machine.goal = lambda: False
        # As the kernel does, and as nobody does by default where there is DWARF.
        os.environ["DRGN_PREFER_ORC_UNWINDER"] = "1"
        self._aware = {
            p.pid: Awareness(p.window, self.symbols[p.name])
            for p in self.machine.partitions
        }

    def work(self, name: str, first: str = ":") -> None:
        """Let a shell begin anew, with another command before.

        What comes before a shell that was interrupted is back at its prompt is lost.
        A ^C that meets one of its subshells ends that one only.
        """
        board = self.machine.board(name)
        assert board is not None
        board.console.watch_for(f"{name}# ".encode())
        for _ in range(_TRIES):
            if not board.console.seen(f"{name}# ".encode()):
                self._interrupt(board)
        self.machine.type(board, f"{first}; {_WORK}\n".encode())
        self.machine.goal = lambda: False

    def _interrupt(self, board: Board) -> None:
        self.machine.type(board, b"\x03")
        limit = board.partition.clock + _TRY
        self.machine.goal = lambda: board.partition.clock > limit
        self.machine.run(self.machine.partitions)

    def _run_to(self, goals: Mapping[str, bytes]) -> None:
        consoles = {b.partition.name: b.console for b in self.machine.boards}
        for name, goal in goals.items():
            consoles[name].watch_for(goal)
        self.machine.goal = lambda: all(
            consoles[name].seen(goal) for name, goal in goals.items()
        )
        self.machine.run(self.machine.partitions)

    def debug(
        self,
        program: Path,
        script: str,
        arguments: Sequence[object],
        symbols: Mapping[str, Path] = {},
        stops: Callable[[Partition], None] | None = None,
    ) -> str:
        """Let a gdb run a script of ``in_gdb``; what it printed.

        Args:
            program: Which gdb.
            script: Name of the script.
            arguments: Its ``sys.argv``.
            symbols: Files to advertise by partition in place of nk's own.
            stops: Called at random moments, at which the machine stops for gdb, too.
        """
        return asyncio.run(
            self._debug(program, script, arguments, {**self.symbols, **symbols}, stops)
        )

    async def _debug(
        self,
        program: Path,
        script: str,
        arguments: Sequence[object],
        symbols: dict[str, Path],
        stops: Callable[[Partition], None] | None,
    ) -> str:
        debug = _Stopping(self.machine, symbols, stops)
        server = await serve(debug, parse_endpoint("127.0.0.1:0"))
        argv = [str(argument) for argument in arguments]
        try:
            async with asyncio.timeout(TIMEOUT * 5):
                gdb = await asyncio.create_subprocess_exec(
                    *(program, "-nx", "-q", "-batch", "-iex", "set sysroot"),
                    *("-iex", "set remotetimeout 60"),
                    *("-x", SCRIPTS, "-ex", f"target remote {server.address}"),
                    *("-ex", f"python import sys; sys.path.insert(0, '{PROJECT}')"),
                    *("-ex", f"python sys.argv = {argv}"),
                    *("-x", Path(__file__).with_name("in_gdb") / script),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
                try:
                    return (await gdb.communicate())[0].decode()
                finally:
                    if gdb.returncode is None:
                        gdb.kill()
        finally:
            server.close()
            debug.close()

    def truth(self, partition: Partition) -> list[Level]:
        """What drgn says of the CPU's stack, inlined functions left out."""
        reader = Registers(partition.engine, partition.pid)
        registers = {
            row.name: int.from_bytes(reader.read(row.number), "little")
            for row in _GENERAL
        }
        found: list[Level] = []
        for frame in cpu_trace(self._aware[partition.pid].program, registers):
            if not frame.is_inline:
                known = frame.registers()
                if "rip" not in known:
                    break
                found.append((known["rip"], known["rsp"], known.get("rbp")))
        return found


class _Stopping(DebugMachine):
    """Stops what runs by itself, some time later."""

    def __init__(
        self,
        machine: Machine,
        symbols: dict[str, Path],
        stops: Callable[[Partition], None] | None,
    ) -> None:
        super().__init__(machine, symbols)
        self._stops, self._random = stops, random.Random(0)

    def resume(self, actions: Sequence[Action]) -> "StopReason | Awaitable[StopReason]":
        if self._stops is None:
            return super().resume(actions)
        pid = actions[0].thread.pid
        return self._resume_for_a_while(self.machine.partitions[pid - 1], actions)

    async def _resume_for_a_while(
        self, partition: Partition, actions: Sequence[Action]
    ) -> StopReason:
        assert self._stops is not None
        before = partition.clock
        while partition.clock == before:
            later = 64 + int(self._random.expovariate(1 / _PACE))
            partition.ticker.pause = before + later
            try:
                reason = super().resume(actions)
                stopped = await reason if isinstance(reason, Awaitable) else reason
            finally:
                partition.ticker.pause = NEVER
        self._stops(partition)
        return stopped
