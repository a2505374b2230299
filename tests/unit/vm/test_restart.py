# SPDX-License-Identifier: GPL-2.0-or-later
"""One partition is switched on again: what does it, what is new, and what is kept."""

import gc
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from nanokernel_vm.abi.layout import Hypercall
from nanokernel_vm.board import Board
from nanokernel_vm.clock import TICKS_PER_MS
from nanokernel_vm.debug import PartitionInferior
from nanokernel_vm.digest import digest
from nanokernel_vm.machine import RESET, End, Machine
from nanokernel_vm.partition import Condition, Outcome, Partition
from stub.target import BreakpointKind
from tests.guests import LINKED, pair, symbols
from tests.unit.vm.conftest import Build
from tests.unit.vm.crashes import hook

RESTART = 'on_reboot = "restart"'
CHIPS = "".join(
    f', {{ chip = "{chip}" }}' for chip in ("cmos", "i8042", "pci", "reset")
)

# Counts its lives in the clock chip's memory and prints each; the third goes on.
LIVES = """
main:
    mov $0x40, %al
    out %al, $0x70
    in $0x71, %al
    inc %al
    out %al, $0x71
    add $'0', %al
    mov $0x3f8, %edx
    out %al, %dx
    cmp $'3', %al
    jb again
1:  incl %ecx
    jmp 1b
again:
"""
WAYS = {
    "keyboard controller": "mov $0xfe, %al; out %al, $0x64; 2: jmp 2b",
    "port 0x92": "mov $1, %al; out %al, $0x92; 2: jmp 2b",
    "PCI": "mov $0xcf9, %edx; mov $6, %al; out %al, %dx; 2: jmp 2b",
    "triple fault": "lidt 2f(%rip); ud2; 2: .word 0; .quad 0",
}
# Does as much as one can to be another than a new one, then spins.
DISORDER = """
main:
    gate 3, main
    movl $0x12345678, changed(%rip)
    .irp pair, 0x1120, 0x2021, 0x0421, 0x0121, 0x3443, 0x9c40, 0x2e40
    mov $\\pair >> 8, %al
    out %al, $\\pair & 0xff
    .endr
    mov $0x3ff, %edx
    out %al, %dx
    mov $0xc0000082, %ecx
    wrmsr
    movl $0x1fa0, changed(%rip)
    ldmxcsr changed(%rip)
    fld1
    movq %rax, %xmm7
    mov %cr3, %rax
    mov %rax, %cr3
    lea 1f(%rip), %rbx
    movb $0x90, (%rbx)
1:  nop
    incl %ecx
    jmp 1b
.data
changed: .long 0
"""
COUNT = "main: incl %ecx\njmp main"
HYPERCALL = f"""
.set SET_TIMER, {int(Hypercall.SET_TIMER)}
.set RESTART, {int(Hypercall.RESTART)}
main:
    mov $SET_TIMER, %eax    # something to lose
    mov $1000000, %edi
    out %al, $0xe0
    mov $RESTART, %eax
    out %al, $0xe0
1:  jmp 1b
"""


def until(machine: Machine, time: int) -> object:
    machine.goal = lambda: all(p.clock >= time for p in machine.partitions)
    return machine.run(machine.partitions)


@pytest.fixture
def restarting(tmp_path: Path) -> Build:
    return partial(pair, tmp_path, chips=CHIPS, keys=(RESTART, RESTART))


@pytest.mark.parametrize("way", WAYS)
def test_a_partition_that_resets_itself_starts_again(
    restarting: Build, way: str
) -> None:
    machine = restarting(LIVES + WAYS[way].replace("; ", "\n"), COUNT)
    assert until(machine, 2 * RESET + 40 * TICKS_PER_MS) is End.REACHED
    board = machine.boards[0]
    assert board.console.output == b"123"
    assert board.lives == 3
    assert board.partition.condition is Condition.RUNNING


@pytest.mark.parametrize("way", WAYS)
def test_it_stops_unless_told_otherwise(tmp_path: Path, way: str) -> None:
    machine = pair(tmp_path, LIVES + WAYS[way].replace("; ", "\n"), COUNT, chips=CHIPS)
    board = machine.boards[0]
    assert machine.run(machine.partitions) == (board.partition, Outcome.DEAD)
    assert board.console.output == b"1"
    assert board.partition.restart_wanted
    ended = Condition.FAILED if way == "triple fault" else Condition.SHUT_DOWN
    assert board.partition.condition is ended
    machine.power_on(board.partition)
    machine.run(machine.partitions)
    assert board.console.output == b"12"


def test_a_guest_asks_for_it_and_its_registrations_are_gone(tmp_path: Path) -> None:
    registered = f'{RESTART}\ninterrupts = "registered"'
    machine = pair(tmp_path, COUNT, HYPERCALL, keys=("", registered))
    board = machine.boards[1]
    first = board.guest
    assert until(machine, 2 * RESET + 40 * TICKS_PER_MS) is End.REACHED
    assert board.lives == 4  # the last of them waits
    assert board.guest is not None
    assert first is not None
    assert (first.timer is None, board.guest.timer) == (False, None)


def test_the_other_one_has_what_it_has_alone(restarting: Build) -> None:
    ways = WAYS["port 0x92"].replace("; ", "\n")
    disturbed, alone = restarting(LIVES + ways, DISORDER), restarting(COUNT, DISORDER)
    for machine in (disturbed, alone):
        assert until(machine, 2 * RESET + 40 * TICKS_PER_MS) is End.REACHED
    assert digest(disturbed.boards[1]) == digest(alone.boards[1])


def test_who_does_nothing_but_reset_leaves_the_other_its_turns(
    restarting: Build,
) -> None:
    at_once = "main: " + WAYS["triple fault"].replace("; ", "\n")
    machine = restarting(at_once, COUNT)
    assert until(machine, 5 * RESET) is End.REACHED
    assert machine.boards[0].lives in (6, 7)


def spoil_nothing(_: Board) -> None: ...
def spoil_registers(board: Board) -> None:
    board.partition.engine.state.lstar = 7
    board.partition.engine.put_state()


def spoil_life(board: Board) -> None:
    board.partition.type(lambda data: None, b"typed")
    board.partition.fail("of this test")


def spoil_engine(board: Board) -> None:
    hook(board.partition.engine, 0, LINKED + board.partition.window.base)
    board.partition.engine.state.rip = LINKED + board.partition.window.base
    board.partition.engine.put_state()
    while board.partition.alive:
        board.partition.run(board.partition.clock + TICKS_PER_MS)
    assert board.partition.engine.crash is not None


SPOILERS = [spoil_nothing, spoil_registers, spoil_life, spoil_engine]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("spoil", SPOILERS)
def test_at_time_zero_it_is_a_cold_boot_bit_by_bit(
    restarting: Build, which: int, spoil: Callable[[Board], None]
) -> None:
    used, cold = restarting(DISORDER, DISORDER), restarting(DISORDER, DISORDER)
    mine, other = used.boards[which], cold.boards[which]
    new = digest(other)
    for _ in range(2):
        until(used, used.partitions[which].clock + 50 * TICKS_PER_MS)
        assert mine.partition.alive
        assert digest(mine) != new
        spoil(mine)
        mine.partition.ticker.clock = 0
        mine.power_on()
        assert digest(mine) == new
        end = 30 * TICKS_PER_MS
        for board in (mine, other):
            if board.partition.clock < end:
                board.partition.run(end)
        assert digest(mine) == digest(other)


def test_time_goes_on_and_logs_and_what_was_printed_stay(build: Build) -> None:
    machine = build(DISORDER, COUNT)
    until(machine, 20 * TICKS_PER_MS)
    board = machine.boards[0]
    board.console.transmit(ord("x"))
    board.partition.violation("port", 1, 1, None)
    before = board.partition.clock
    machine.power_on(board.partition)
    assert board.partition.clock == before
    assert board.console.output == b"x"
    assert board.partition.log.violated == 1


def test_who_was_off_comes_back_at_the_machines_time(build: Build) -> None:
    machine = build("main: cli\nhlt", COUNT)
    off, on = machine.partitions
    machine.run([off])
    machine.goal = lambda: on.clock >= 70 * TICKS_PER_MS
    machine.run([on])
    machine.power_on(off)
    assert off.clock == on.clock
    assert off.alive


def watched(partition: Partition, source: str) -> PartitionInferior:
    inferior = PartitionInferior(partition, None)
    place = symbols(source)["here"] + partition.window.base
    inferior.insert_breakpoint(BreakpointKind.SOFTWARE, place, 1)
    inferior.insert_breakpoint(BreakpointKind.WRITE, place + 0x1000, 8)
    inferior.prepare(stepping=False)
    return inferior


STORES = """
main:
    incl %ecx
here:
    incl %edx
    movb $7, here+0x1000(%rip)
1:  incl %ecx
    jmp 1b
"""


@pytest.mark.parametrize("dies", [False, True])
def test_breakpoints_and_watchpoints_stop_the_new_life(
    build: Build, dies: bool
) -> None:
    machine = build(STORES, STORES)
    for partition in machine.partitions:
        inferior = watched(partition, STORES)
        for life in range(3):
            assert partition.run(partition.clock + TICKS_PER_MS) is Outcome.BREAKPOINT
            inferior.prepare(stepping=False)
            assert partition.run(partition.clock + TICKS_PER_MS) is Outcome.WATCH
            if dies:
                partition.fail(f"in life {life}")
            machine.power_on(partition)
            assert not partition.ticker.watched


def test_a_kernel_that_is_gone_is_a_failure_in_words(
    restarting: Build, tmp_path: Path
) -> None:
    machine = restarting(LIVES + WAYS["port 0x92"].replace("; ", "\n"), COUNT)
    (tmp_path / "host").unlink()
    host = machine.partitions[0]
    assert machine.run(machine.partitions) == (host, Outcome.DEAD)
    assert host.condition is Condition.FAILED
    assert host.failure.startswith("it cannot be started again: ")
    assert str(tmp_path / "host") in host.failure


def test_a_hundred_restarts_leave_memory_flat(build: Build) -> None:
    def resident() -> int:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")

    machine = build(DISORDER, COUNT)
    partition = machine.partitions[0]

    def restart() -> None:
        partition.run(partition.clock + TICKS_PER_MS)
        machine.power_on(partition)

    for _ in range(5):
        restart()
    before = resident()
    for _ in range(100):
        restart()
    assert resident() < before + (16 << 20)
