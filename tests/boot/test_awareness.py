# SPDX-License-Identifier: GPL-2.0-or-later
"""What drgn reads in RAM is what the kernels say of themselves at their shells."""

import re
from pathlib import Path

import pytest

from nanokernel_vm.config import load
from nanokernel_vm.cpu.registers import Registers
from nanokernel_vm.linux.awareness import (
    Awareness,
    Frame,
    NoLinuxError,
    find_vmcoreinfo,
)
from nanokernel_vm.machine import Machine
from nanokernel_vm.memory import Ram, Window
from nanokernel_vm.partition import Partition
from nanokernel_vm.symbols import symbol_file
from stub import amd64

pytestmark = pytest.mark.boot

EXAMPLE = Path(__file__).parents[2] / "examples/two-linuxes.toml"
NAMES = ("host", "guest")
each = pytest.mark.parametrize("name", NAMES)


class Shells:
    """Both kernels at their prompts, in this process."""

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

    def registers(self, name: str) -> dict[str, int]:
        """The CPU's registers, by gdb's names."""
        partition = self.partition(name)
        registers = Registers(partition.engine, partition.pid)
        return {
            row.name: int.from_bytes(registers.read(row.number), "little")
            for row in amd64.REGISTERS[: amd64.BY_NAME["ss"].number + 1]
        }

    def backtrace(self, name: str, pid: int) -> list[Frame]:
        return self.aware[name].backtrace(pid, self.registers(name))

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


@pytest.fixture(scope="module")
def shells() -> Shells:
    return Shells()


@each
def test_tasks_are_those_of_proc(shells: Shells, name: str) -> None:
    text = shells.ask(name, "cat /proc/[0-9]*/stat 2>/dev/null")
    told = re.findall(r"^(\d+) \((.*)\) (\w) (\d+)", text, re.MULTILINE)
    told = [row for row in told if row[1] != "cat"]
    assert len(told) > 10
    read = {task.pid: task for task in shells.aware[name].tasks()}
    for pid, task, _, parent in told:
        # /proc knows longer names, and adds what a worker has in hand.
        assert task.startswith(read[int(pid)].name)
        assert int(parent) == read[int(pid)].parent
    assert len(read) - len(told) <= 2  # workers come and go


@each
def test_kernel_threads_have_no_user_space(shells: Shells, name: str) -> None:
    kernel = {task.name: task.kernel for task in shells.aware[name].tasks()}
    assert kernel["kthreadd"]
    assert not kernel["init"]
    assert not kernel["sh"]


@each
def test_the_log_is_dmesg(shells: Shells, name: str) -> None:
    told = shells.ask(name, "dmesg").splitlines()
    told = [line for line in map(str.rstrip, told) if line.startswith("[")]
    read = [line.rstrip() for line in shells.aware[name].dmesg()]
    assert len(read) > 50
    assert read[: len(told)] == told


@each
def test_a_sleeping_task_waits_where_it_waits(shells: Shells, name: str) -> None:
    frames = shells.backtrace(name, 1)
    names = [frame.name for frame in frames]
    assert names.index("schedule") < names.index("do_wait")
    assert names.index("do_wait") < names.index("do_syscall_64")
    assert frames[-1].name == ""  # user space
    assert frames[-1].pc < 1 << 47


@each
def test_a_kernel_thread_ends_where_it_was_forked(shells: Shells, name: str) -> None:
    names = [frame.name for frame in shells.backtrace(name, 2)]
    assert names[-2:] == ["kthreadd", "ret_from_fork"]


@each
def test_the_cpu_is_followed_from_its_registers(shells: Shells, name: str) -> None:
    frames = shells.aware[name].cpu_backtrace(shells.registers(name))
    assert frames[0].pc == shells.partition(name).engine.state.rip
    tasks = shells.aware[name].tasks()
    running = [task.pid for task in tasks if shells.backtrace(name, task.pid) == frames]
    # Or the idle task, which has no number of its own.
    assert len(running) == 1 or "do_idle" in [frame.name for frame in frames]


@each
def test_nothing_is_changed_by_asking(shells: Shells, name: str) -> None:
    window = shells.partition(name).window
    before = window.digest()
    aware = shells.aware[name]
    assert aware.tasks()
    assert list(aware.dmesg())
    assert [shells.backtrace(name, task.pid) for task in aware.tasks()]
    assert window.digest() == before


@each
def test_a_task_that_is_not_there(shells: Shells, name: str) -> None:
    with pytest.raises(NoLinuxError, match="no task 4000"):
        shells.backtrace(name, 4000)


def test_another_kernels_symbols_are_refused(shells: Shells) -> None:
    guest = next(p for p in shells.config.partitions if p.name == "guest")
    with pytest.raises(NoLinuxError, match="is not of the kernel"):
        Awareness(shells.partition("host").window, symbol_file(guest.kernel))


def test_empty_memory_is_no_linux(tmp_path: Path) -> None:
    window = Window(Ram(1 << 20), 0, 1 << 20)
    assert find_vmcoreinfo(window) is None
    with pytest.raises(NoLinuxError, match="no Linux has introduced itself"):
        Awareness(window, tmp_path / "none")
