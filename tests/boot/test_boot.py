# SPDX-License-Identifier: GPL-2.0-or-later
"""Both kernels to their shells, and what can be done there."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nanokernel_vm.board import Board
from nanokernel_vm.clock import TICKS_PER_SECOND
from nanokernel_vm.config import load
from nanokernel_vm.digest import digest
from nanokernel_vm.machine import Machine

pytestmark = pytest.mark.boot

EXAMPLES = Path(__file__).parents[2] / "examples"
PAIR, HOST_ONLY = EXAMPLES / "two-linuxes.toml", EXAMPLES / "host-only.toml"
PATIENCE = 900  # seconds of real time; bounds a wait, measures nothing
LIMIT = 60 * TICKS_PER_SECOND  # of virtual time, for anything
ONES = "0xFFFFFFFF"


class Booted:
    """A machine at its shells, with somebody at the consoles."""

    def __init__(self, description: Path) -> None:
        self.machine = Machine(load(description), warp=True)
        self._run_until(self._expect(*self.machine.boards))
        self.digests = {b.partition.name: _digest(b) for b in self.machine.boards}

    def board(self, name: str) -> Board:
        board = self.machine.board(name)
        assert board is not None
        return board

    def ask(self, name: str, command: str) -> str:
        """Type a command at a shell; what it prints."""
        board = self.board(name)
        start = len(board.console.output)
        at_prompt = self._expect(board)
        self.machine.type(board, command.encode() + b"\n")
        self._run_until(at_prompt)
        printed = board.console.output[start:].decode()
        return "\n".join(printed.splitlines()[1:-1])

    def _expect(self, *boards: Board) -> Callable[[], bool]:
        """Watch for a prompt on every console; whether all have come."""
        prompts = [(b.console, f"{b.partition.name}# ".encode()) for b in boards]
        for console, prompt in prompts:
            console.watch_for(prompt)
        return lambda: all(console.seen(prompt) for console, prompt in prompts)

    def _run_until(self, goal: Callable[[], bool]) -> None:
        end = max(p.clock for p in self.machine.partitions) + LIMIT
        partitions = self.machine.partitions
        self.machine.goal = lambda: goal() or any(p.clock > end for p in partitions)
        self.machine.run(partitions)
        assert goal(), [b.console.output[-1000:].decode() for b in self.machine.boards]


def _digest(board: Board) -> dict[str, object]:
    """What ``nk run --digest`` says of a partition."""
    return {**digest(board).rows(), "ticks": board.partition.clock}


@pytest.fixture(scope="module")
def pair() -> Booted:
    """Both at their shells, for all tests of this module."""
    return Booted(PAIR)


def test_the_host_is_debians_binary_and_the_guest_its_own(pair: Booted) -> None:
    assert "-cloud-amd64 #1 SMP" in pair.ask("host", "uname -rv")
    assert "-cloud-" not in pair.ask("guest", "uname -rv")
    assert pair.ask("guest", "uname -r").startswith("6.1.")


@pytest.mark.parametrize("name", ["host", "guest"])
def test_a_shell_answers(pair: Booted, name: str) -> None:
    assert pair.ask(name, "echo seven $((3 + 4)) | tr s S") == "Seven 7"
    assert pair.ask(name, "hostname") == name


def test_neither_has_tried_what_is_not_its_own(pair: Booted) -> None:
    for partition in pair.machine.partitions:
        assert list(partition.log.violations) == []


@pytest.mark.parametrize("name", ["host", "guest"])
def test_floating_point_survives_task_switches(pair: Booted, name: str) -> None:
    """The kernel saves and restores SSE state, with interrupts in between."""
    pair.ask(
        name, "echo 'BEGIN { for (; i < 9e3; i++) s = s / 3 + i / v; print s }' >p"
    )
    one, other = "awk -v v=7 -f p", "awk -v v=9 -f p"
    alone = [pair.ask(name, one), pair.ask(name, other)]
    before = pair.board(name).partition.log.delivered
    together = pair.ask(name, f"{one} >a & {other} >b; wait; cat a b")
    assert pair.board(name).partition.log.delivered - before > 5
    assert alone[0] != alone[1]
    assert [row for row in together.splitlines() if row[0].isdigit()] == alone


def test_the_host_cannot_reach_the_guest(pair: Booted) -> None:
    """Its kernel maps any physical address into a program: the guest's is a bus."""
    guest, host = pair.board("guest").partition, pair.board("host").partition
    address = f"{guest.window.base + 0x100_0000:#x}"
    before, violated = guest.log.delivered, host.log.violated
    frozen = [host]
    digest = guest.window.digest()
    everyone, pair.machine.partitions = pair.machine.partitions, frozen
    try:
        assert pair.ask("host", f"devmem {address}") == ONES
        for width in (8, 16, 32, 64):
            pair.ask("host", f"devmem {address} {width} 0")
        assert pair.ask("host", f"devmem {address}") == ONES
    finally:
        pair.machine.partitions = everyone
    assert guest.window.digest() == digest
    assert guest.log.delivered == before
    tries = list(host.log.violations)[violated:]
    assert {v.space for v in tries} == {"memory"}
    assert {v.addr & ~7 for v in tries} == {int(address, 0)}
    assert len([v for v in tries if v.value is not None]) >= 4
    for name in ("host", "guest"):
        assert pair.ask(name, "echo alive") == "alive"


def test_another_process_ends_with_the_same_digests(pair: Booted) -> None:
    goals = [f"--until={name}:{name}# " for name in ("host", "guest")]
    nk = Path(sys.executable).with_name("nk")
    run = subprocess.run(
        [nk, "run", PAIR, "--warp", "--no-gdb", *goals, "--digest", "--json"],
        capture_output=True,
        check=True,
        timeout=PATIENCE,
    )
    rows = json.loads(run.stdout)
    for name, digests in pair.digests.items():
        assert {part: rows[name][part] for part in digests} == digests


def test_the_host_boots_alone() -> None:
    alone = Booted(HOST_ONLY)
    assert alone.ask("host", "echo $((6 * 7))") == "42"
    assert not alone.board("host").partition.log.violated
