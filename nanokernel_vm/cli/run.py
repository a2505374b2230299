# SPDX-License-Identifier: GPL-2.0-or-later
"""``nk run``: boots a machine, joins its consoles, serves gdb, says how it ended."""

import asyncio
import json as json_module
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nanokernel_vm.advice import advice
from nanokernel_vm.cli.consoles import Consoles
from nanokernel_vm.cli.gdb import offer_scripts
from nanokernel_vm.cli.goals import Goals
from nanokernel_vm.cli.outlet import Voice, drop_output
from nanokernel_vm.cli.wishes import heard
from nanokernel_vm.clock import TICKS_PER_SECOND
from nanokernel_vm.config import load
from nanokernel_vm.debug import DebugMachine
from nanokernel_vm.digest import digest
from nanokernel_vm.machine import Machine
from nanokernel_vm.partition import Condition
from nanokernel_vm.symbols import symbol_file
from stub.eager import EagerLoop
from stub.endpoint import Stdio
from stub.server import parse_endpoint, serve

TIMEOUT, FAILED = 3, 4
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for; ``gdb`` None: no server, empty: where the machine says."""

    machine: Path
    gdb: str | None
    allow_remote: bool
    read_only: bool
    freeze: bool
    warp: bool
    until: tuple[str, ...]
    timeout: float | None
    consoles: tuple[str, ...]
    digest: bool
    json: bool


class Run:
    """One run from power-on to its end."""

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        self.options, self._say = options, say
        config = load(options.machine)
        self.machine = Machine(config, warp=options.warp)
        for partition in config.partitions:
            for line in advice(partition):
                _LOG.warning("[partition.%s] %s", partition.name, line)
        self._goals = Goals(self.machine, options.until)
        if self._goals:
            self.machine.goal = self._over
        endpoint = config.gdb if options.gdb == "" else options.gdb
        self.endpoint = parse_endpoint(endpoint) if endpoint else None
        served = config.partitions if self.endpoint else ()
        symbols = {p.name: symbol_file(p.kernel, p.symbols) for p in served}
        for path in symbols.values():
            offer_scripts(path)
        self.ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.debug = DebugMachine(self.machine, symbols, self._on_end)
        quiet = options.json or options.gdb == "stdio"
        self.consoles = Consoles(self.machine, options.consoles, quiet, say)

    def _over(self) -> bool:
        """In the machine's thread: whether there is nothing more to wait for.

        Who holds a dead kernel in a debugger may look at it as long as he likes.
        """
        return self._goals.reached or (self.debug.unattended and bool(self._goals.lost))

    def _on_end(self) -> None:
        """In the machine's thread: a free run has ended, perhaps for a client."""
        self._loop.call_soon_threadsafe(self._check_end)

    def _check_end(self) -> None:
        over = bool(self._goals) and self._over()
        if over or self.finished() or self.debug.broken:
            self.ended.set()

    def finished(self) -> bool:
        """Whether nothing will ever run again."""
        return not any(p.alive for p in self.machine.partitions)

    async def main(self) -> int:
        """Run to the end; the exit code."""
        with heard(self._loop, self.ended.set):
            late = await self._run()
        return self._conclude(late)

    async def _run(self) -> bool:
        """Run to the end; whether it came by the time-out."""
        server = None
        try:
            if self.endpoint is not None:
                server = await serve(
                    self.debug,
                    self.endpoint,
                    allow_remote=self.options.allow_remote,
                    read_only=self.options.read_only,
                )
                what = " (read-only)" if self.options.read_only else ""
                self._say(f"gdb: target remote {server.address}{what}")
                if isinstance(self.endpoint, Stdio):
                    leaving = asyncio.create_task(server.wait_closed())
                    leaving.add_done_callback(lambda _: self.ended.set())
            self.consoles.open(self._loop)
            if not self.options.freeze:
                self.debug.run_freely()
            async with asyncio.timeout(self.options.timeout):
                await self.ended.wait()
            return False
        except TimeoutError:
            return True
        finally:
            if server is not None:
                server.close()
            self.debug.close()
            self.consoles.close()

    def _conclude(self, late: bool) -> int:
        self._report()
        if self._goals and self._goals.reached:
            return 0
        if any(p.condition is Condition.FAILED for p in self.machine.partitions):
            return FAILED  # the partition's log has said why, when it was
        if late:
            waited = f"after {self.options.timeout:g} s"
            missing = self._goals.missing or "the machine was still running"
            self._say(f"timeout {waited}: {missing}")
            return TIMEOUT
        why = "every partition has ended" if self.finished() else self._goals.lost
        if self._goals and why:
            self._say(f"{why}: {self._goals.missing}")
            return FAILED
        if self.finished():
            self._say(why)
        return 0

    def _report(self) -> None:
        """Print what was asked for; who reads no more has seen enough."""
        rows = {p.name: self._row(p.name) for p in self.machine.partitions}
        try:
            if self.options.json:
                print(json_module.dumps(rows, indent=2), flush=True)
            elif self.options.digest:
                for name, row in rows.items():
                    print(_digest(name, row), flush=True)
        except BrokenPipeError:
            drop_output()

    def _row(self, name: str) -> dict[str, object]:
        board = self.machine.board(name)
        if board is None:
            raise AssertionError(name)
        p = board.partition
        row: dict[str, object] = {
            "condition": p.condition.value,
            "failure": p.failure,
            "ticks": p.clock,
            "seconds": p.clock / TICKS_PER_SECOND,
            "delivered": p.log.delivered,
            "violations": p.log.violated,
        }
        if self.options.digest:
            found = digest(board)
            row |= {**found.rows(), "whole": found.whole}
        return row


def _digest(name: str, row: dict[str, object]) -> str:
    return f"{name}: {row['whole']} ticks {row['ticks']}"


def run_machine(options: Options) -> int:
    """Run; the exit code of ``nk run``."""
    voice = Voice()
    logging.basicConfig(format="%(message)s", handlers=[voice], force=True)

    async def main() -> int:
        return await Run(options, voice.say).main()

    try:
        with asyncio.Runner(loop_factory=EagerLoop) as runner:
            return runner.run(main())
    finally:
        voice.close()
