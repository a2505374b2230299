# SPDX-License-Identifier: GPL-2.0-or-later
"""Both kernels at their prompts, in this process, and drgn's view of each."""

from pathlib import Path

from nanokernel_vm.config import load
from nanokernel_vm.cpu.engine import TSC_PER_TICK
from nanokernel_vm.cpu.registers import Registers
from nanokernel_vm.linux.awareness import Awareness, Cpu, Frame
from nanokernel_vm.linux.awareness.stacks import backtrace
from nanokernel_vm.linux.awareness.tasks import Task, tasks
from nanokernel_vm.machine import Machine
from nanokernel_vm.partition import Partition
from nanokernel_vm.symbols import symbol_file
from stub import amd64

EXAMPLE = Path(__file__).parents[2] / "examples/two-linuxes.toml"
NAMES = ("host", "guest")


class Shells:
    """The pair."""

    def __init__(self) -> None:
        self.config = load(EXAMPLE)
        self.machine = Machine(self.config, warp=True)
        self._run_to({name: f"{name}# ".encode() for name in NAMES})
        self.aware = {
            p.name: Awareness(self.partition(p.name).window, symbol_file(p.kernel))
            for p in self.config.partitions
        }

    def partition(self, name: str) -> Partition:
        return next(p for p in self.machine.partitions if p.name == name)

    def cpu(self, name: str) -> Cpu:
        """What the CPU knows."""
        partition = self.partition(name)
        registers = Registers(partition.engine, partition.pid)
        values = {
            row.name: int.from_bytes(registers.read(row.number), "little")
            for row in amd64.REGISTERS[: amd64.BY_NAME["ss"].number + 1]
        }
        return Cpu(values, partition.clock * TSC_PER_TICK)

    def tasks(self, name: str) -> list[Task]:
        return tasks(self.aware[name], self.cpu(name))

    def backtrace(self, name: str, pid: int) -> tuple[Frame, ...]:
        return backtrace(self.aware[name], pid, self.cpu(name)).frames

    def ask(self, name: str, command: str) -> str:
        """Type a command, and return what it prints."""
        board = self.machine.board(name)
        assert board is not None
        start = len(board.console.output)
        self.machine.type(board, f"{command}; echo that''s-all\n".encode())
        self._run_to({name: b"thats-all"})
        return board.console.output[start:].decode().partition("\n")[2]

    def _run_to(self, goals: dict[str, bytes]) -> None:
        consoles = {name: self.machine.board(name) for name in goals}
        for name, goal in goals.items():
            board = consoles[name]
            assert board is not None
            board.console.watch_for(goal)
        self.machine.goal = lambda: all(
            board is not None and board.console.seen(goals[name])
            for name, board in consoles.items()
        )
        self.machine.run(self.machine.partitions)
