# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine with one partition, and somebody at its console."""

from dataclasses import replace
from pathlib import Path

from nanokernel_vm.board import Board
from nanokernel_vm.clock import TICKS_PER_SECOND
from nanokernel_vm.config import PartitionConfig, load
from nanokernel_vm.machine import Machine

PAIR = Path(__file__).parents[2] / "examples/two-linuxes.toml"
PROMPT = b"guest# "


class Shell:
    """A machine with one partition, and somebody at its console."""

    def __init__(self, config: PartitionConfig) -> None:
        self.machine = Machine(replace(load(PAIR), partitions=(config,)), warp=True)
        self.board: Board = self.machine.boards[0]
        self.partition = self.board.partition

    def wait(self, text: bytes, seconds: int = 30) -> bytes:
        """Run until ``text`` is printed, for some virtual time; what came before it."""
        console, start = self.board.console, len(self.board.console.output)
        limit = self.partition.clock + seconds * TICKS_PER_SECOND
        console.watch_for(text)
        self.machine.goal = lambda: console.seen(text) or self.partition.clock > limit
        self.machine.run(self.machine.partitions)
        printed = bytes(console.output[start:])
        assert console.seen(text), printed.decode(errors="replace")
        return printed

    def type(self, command: str) -> None:
        """Type a line."""
        self.machine.type(self.board, command.encode() + b"\n")

    def ask(self, command: str, seconds: int = 30) -> str:
        """Type a command; what it prints."""
        self.type(command)
        lines = self.wait(PROMPT, seconds).decode().splitlines()
        return "\n".join(lines[1:-1])

    def run_to_its_end(self) -> None:
        """Run until nothing runs any more."""
        limit = self.partition.clock + 30 * TICKS_PER_SECOND
        self.machine.goal = lambda: self.partition.clock > limit
        self.machine.run(self.machine.partitions)


def partition(name: str) -> PartitionConfig:
    return next(p for p in load(PAIR).partitions if p.name == name)
