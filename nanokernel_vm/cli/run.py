# SPDX-License-Identifier: GPL-2.0-or-later
"""``nk run``: boots a machine, joins its consoles, serves gdb, says how it ended."""

import asyncio
import hashlib
import json as json_module
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from nanokernel_vm.advice import advice
from nanokernel_vm.cli.consoles import Consoles
from nanokernel_vm.cli.gdb import offer_scripts
from nanokernel_vm.cli.wishes import heard
from nanokernel_vm.clock import TICKS_PER_SECOND
from nanokernel_vm.config import load
from nanokernel_vm.cpu.registers import Registers
from nanokernel_vm.debug import DebugMachine
from nanokernel_vm.errors import ConfigError
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
    freeze: bool
    warp: bool
    until: tuple[str, ...]
    timeout: float | None
    consoles: tuple[str, ...]
    digest: bool
    json: bool


class Run:
    """One run from power-on to its end."""

    def __init__(self, options: Options) -> None:
        self.options = options
        config = load(options.machine)
        self.machine = Machine(config, warp=options.warp)
        for partition in config.partitions:
            for line in advice(partition):
                _LOG.warning("[partition.%s] %s", partition.name, line)
        self._goals = [self._goal(word) for word in options.until]
        if self._goals:
            self.machine.goal = self._reached
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
        self.consoles = Consoles(self.machine, options.consoles, quiet)

    def _goal(self, word: str) -> tuple[str, bytes]:
        name, colon, text = word.partition(":")
        board = self.machine.board(name)
        if board is None or not colon or not text:
            names = ", ".join(p.name for p in self.machine.partitions)
            raise ConfigError(
                f"--until {word}: write PARTITION:TEXT, with one of {names}"
            )
        goal = os.fsencode(text)  # the bytes that were typed
        board.console.watch_for(goal)
        return name, goal

    def _reached(self) -> bool:
        return all(
            (board := self.machine.board(name)) is not None and board.console.seen(goal)
            for name, goal in self._goals
        )

    def _on_end(self) -> None:
        """In the machine's thread: a free run has ended, perhaps for a client."""
        self._loop.call_soon_threadsafe(self._check_end)

    def _check_end(self) -> None:
        reached = bool(self._goals) and self._reached()
        if reached or self.finished() or self.debug.broken:
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
                server = await serve(self.debug, self.endpoint)
                print(f"nk: gdb: target remote {server.address}", file=sys.stderr)
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
        failed = [p for p in self.machine.partitions if p.condition is Condition.FAILED]
        self._report()
        if self._goals and self._reached():
            return 0
        if failed:
            return FAILED  # the partition's log has said why, when it was
        if late:
            waited = f"after {self.options.timeout:g} s"
            print(f"nk: timeout {waited}: {self._missing()}", file=sys.stderr)
            return TIMEOUT
        if self._goals and self.finished():
            print(f"nk: every partition has ended: {self._missing()}", file=sys.stderr)
            return FAILED
        return 0

    def _missing(self) -> str:
        missing = [
            f"{name} has not printed {goal.decode(errors='replace')!r}"
            for name, goal in self._goals
            if (board := self.machine.board(name)) and not board.console.seen(goal)
        ]
        return ", ".join(missing) or "the machine was still running"

    def _report(self) -> None:
        rows = {p.name: self._row(p.name) for p in self.machine.partitions}
        if self.options.json:
            print(json_module.dumps(rows, indent=2))
        elif self.options.digest:
            for name, row in rows.items():
                print(f"{name}: ram {row['ram']} cpu {row['cpu']} ticks {row['ticks']}")

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
            registers = Registers(p.engine, p.pid).read_all()
            row["ram"] = p.window.digest()
            row["cpu"] = hashlib.sha256(registers).hexdigest()
        return row


def run_machine(options: Options) -> int:
    """Run; the exit code of ``nk run``."""

    async def main() -> int:
        return await Run(options).main()

    with asyncio.Runner(loop_factory=EagerLoop) as runner:
        return runner.run(main())
