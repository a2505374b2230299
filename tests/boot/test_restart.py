# SPDX-License-Identifier: GPL-2.0-or-later
"""Real kernels reboot, one at a time, and the other one's shell goes on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nanokernel_vm.board import Board
from nanokernel_vm.clock import TICKS_PER_SECOND
from nanokernel_vm.config import OnReboot, load
from nanokernel_vm.digest import digest
from nanokernel_vm.machine import Machine

pytestmark = pytest.mark.boot

PAIR = Path(__file__).parents[2] / "examples/two-linuxes.toml"
LIMIT = 60 * TICKS_PER_SECOND  # of virtual time, for anything
COMMANDS = {
    "reboot": "reboot -f",
    "sysrq": "echo b > /proc/sysrq-trigger",
    "panic": "echo 1 > /proc/sys/kernel/panic; echo c > /proc/sysrq-trigger",
}


class Pair:
    """Both kernels, each of which is to be switched on again when it resets itself."""

    def __init__(self) -> None:
        config = load(PAIR)
        partitions = tuple(
            replace(p, on_reboot=OnReboot.RESTART) for p in config.partitions
        )
        self.machine = Machine(replace(config, partitions=partitions), warp=True)

    def board(self, name: str) -> Board:
        board = self.machine.board(name)
        assert board is not None
        return board

    def prompts(self, *names: str) -> Callable[[], bool]:
        """Watch for prompts; whether all have come."""
        watched = [(self.board(name).console, f"{name}# ".encode()) for name in names]
        for console, prompt in watched:
            console.watch_for(prompt)
        return lambda: all(console.seen(prompt) for console, prompt in watched)

    def type(self, name: str, line: str) -> None:
        self.machine.type(self.board(name), line.encode() + b"\n")

    def run(self, goal: Callable[[], bool]) -> None:
        partitions = self.machine.partitions
        end = max(p.clock for p in partitions) + LIMIT
        self.machine.goal = lambda: goal() or any(p.clock > end for p in partitions)
        self.machine.run(partitions)
        assert goal(), [b.console.output[-1000:].decode() for b in self.machine.boards]

    def ask(self, name: str, command: str) -> str:
        """Type a command at a shell; what it prints."""
        console = self.board(name).console
        start, came = len(console.output), self.prompts(name)
        self.type(name, command)
        self.run(came)
        return "\n".join(console.output[start:].decode().splitlines()[1:-1])


@pytest.fixture(scope="module")
def pair() -> Pair:
    """At their shells."""
    pair = Pair()
    pair.run(pair.prompts("host", "guest"))
    return pair


@pytest.mark.parametrize("name", ["host", "guest"])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_reboot_comes_to_the_shell_and_the_other_shell_goes_on(
    pair: Pair, name: str, command: str
) -> None:
    other = "guest" if name == "host" else "host"
    board, began = pair.board(name), pair.board(name).lives
    shell = pair.ask(other, "echo $$")
    pair.ask(name, "echo lost > /lost")
    pair.type(name, command)
    pair.run(lambda: board.lives > began)
    at_prompt = pair.prompts(name)
    assert pair.ask(other, "echo seven $((3 + 4))") == "seven 7"
    pair.run(at_prompt)
    assert board.lives == began + 1
    assert "No such file" in pair.ask(name, "cat /lost")
    assert pair.ask(other, "echo $$") == shell


@pytest.mark.parametrize("name", ["host", "guest"])
def test_time_of_day_goes_on_over_a_reboot(pair: Pair, name: str) -> None:
    pair.type(name, "reboot -f")
    began = pair.board(name).lives
    pair.run(lambda: pair.board(name).lives > began)
    pair.run(pair.prompts(name))
    since = pair.board(name).partition.clock / TICKS_PER_SECOND
    now = int(pair.ask(name, "date +%s"))
    assert abs(now - pair.machine.config.epoch - since) < 3
    assert float(pair.ask(name, "cat /proc/uptime").split()[0]) < 30


def test_the_guest_does_not_notice_that_the_host_reboots() -> None:
    """Bit by bit: it is where it is when the host does something else."""
    found = []
    for command in ("reboot -f", "echo"):
        pair = Pair()
        pair.run(pair.prompts("host"))
        pair.type("guest", "while :; do cat /proc/uptime > /last; done")
        pair.type("host", command)
        guest = pair.board("guest")
        end = guest.partition.clock + 2 * TICKS_PER_SECOND
        pair.run(lambda: guest.partition.clock >= end)  # noqa: B023
        found.append((pair.board("host").lives, digest(guest)))
    assert [lives for lives, _ in found] == [2, 1]
    assert found[0][1] == found[1][1]


def test_restarted_at_time_zero_it_boots_to_the_same_digest(pair: Pair) -> None:
    """To its shell, whatever it was before."""
    for board in pair.machine.boards:
        board.partition.ticker.clock = 0
        board.power_on()
    found = []
    for each in (pair, Pair()):
        each.run(each.prompts("host", "guest"))
        found.append([digest(board) for board in each.machine.boards])
    assert found[0] == found[1]
