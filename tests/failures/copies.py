# SPDX-License-Identifier: GPL-2.0-or-later
"""A booted machine of which every failure gets a copy: a forked process.

RAM is a private mapping and the engine has no thread, so that a copy goes on by itself
and what it does to its kernel leaves the others whole.
"""

import json
import os
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from nanokernel_vm.clock import TICKS_PER_SECOND
from nanokernel_vm.config import load
from nanokernel_vm.cpu.registers import Registers
from nanokernel_vm.debug.monitor import Monitor
from nanokernel_vm.machine import Machine
from nanokernel_vm.partition import Partition
from nanokernel_vm.symbols import symbol_file
from nanokernel_vm.triage import Report
from stub import amd64
from tests.failures.elfcore import PT_LOAD, PT_NOTE, elf, prstatus
from tests.failures.host import description

_LIMIT = 60  # virtual seconds for anything


class Booted:
    """Both kernels at their shells, the host's with the module at hand.

    Args:
        describe: Writes another machine file into a directory.
    """

    def __init__(self, describe: Callable[[Path], Path] = description) -> None:
        with tempfile.TemporaryDirectory() as directory:
            self.config = load(describe(Path(directory)))
            self.machine = Machine(self.config, warp=True)
        symbols = {
            p.name: symbol_file(p.kernel, p.symbols) for p in self.config.partitions
        }
        self.symbols = symbols
        self.monitor = Monitor(self.machine, symbols)
        self.run_to({name: f"{name}# " for name in symbols})

    def partition(self, name: str) -> Partition:
        return next(p for p in self.machine.partitions if p.name == name)

    def type(self, name: str, text: str) -> None:
        board = self.machine.board(name)
        assert board is not None
        self.machine.type(board, text.encode())

    def run_to(self, goals: dict[str, str]) -> None:
        """Run until each console has shown its text."""
        consoles = {}
        for name, text in goals.items():
            board = self.machine.board(name)
            assert board is not None
            board.console.watch_for(text.encode())
            consoles[text.encode()] = board.console
        self.run_while(
            lambda: not all(console.seen(text) for text, console in consoles.items())
        )
        assert all(console.seen(text) for text, console in consoles.items()), goals

    def run_while(self, condition: Callable[[], bool]) -> None:
        clocks = [p.clock + _LIMIT * TICKS_PER_SECOND for p in self.machine.partitions]
        self.machine.goal = lambda: (
            not condition()
            or any(
                p.clock > end
                for p, end in zip(self.machine.partitions, clocks, strict=True)
            )
        )
        self.machine.run(self.machine.partitions)

    def pass_time(self, seconds: float) -> None:
        """Let so much virtual time pass, idle or not."""
        self.type("guest", f"sleep {seconds}; echo pa''ssed\n")
        self.run_to({"guest": "passed"})

    def report(self, name: str) -> Report:
        """What ``monitor triage`` says."""
        answer = self.monitor.run(self.partition("host"), f"triage {name} -j")
        return Report.from_dict(json.loads(answer))


def core(partition: Partition, with_registers: bool = True) -> bytes:
    """A partition's memory and registers as an ELF core."""
    registers = Registers(partition.engine, partition.pid)
    values = {
        row.name: int.from_bytes(registers.read(row.number), "little")
        for row in amd64.REGISTERS[: amd64.BY_NAME["ss"].number + 1]
    }
    window = partition.window
    memory = window.read(window.base, window.size)
    notes = prstatus(**values) if with_registers else b""
    return elf((PT_NOTE, 0, notes), (PT_LOAD, window.base, memory))


def in_a_copy(booted: Booted, work: Callable[[Booted], str]) -> str:
    """Do something in a copy of this process; what it returns."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reading)
            with os.fdopen(writing, "w") as pipe:
                pipe.write(work(booted))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return text
