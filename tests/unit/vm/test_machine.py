# SPDX-License-Identifier: GPL-2.0-or-later
"""Two partitions on one machine: turns, idleness, death, interrupts from outside."""

import threading

import pytest

from nanokernel_vm.clock import TICKS_PER_MS
from nanokernel_vm.machine import End, Machine
from nanokernel_vm.partition import Condition, Outcome
from tests.boot.perturb import GRID, Perturber, fingerprint, prepare, run_plainly
from tests.unit.vm.conftest import Build

# Counts, and prints a star every 2^16 rounds: to COM1 or COM2.
COUNT = """
main:
    mov ${port}, %edx
1:  incl %ecx
    test $0xffff, %ecx
    jnz 1b
    mov $'*', %al
    out %al, %dx
    jmp 1b
"""
HOST, GUEST = COUNT.format(port=0x3F8), COUNT.format(port=0x2F8)
ASLEEP = "main:\n1: sti; hlt; jmp 1b".replace(";", "\n")
TRIPLE_FAULT = "main: lidt 1f(%rip)\nud2\n1: .word 0\n.quad 0"

# Programs the timer for interrupts every 2 ms, and prints a point at each of them.
TICKING = """
main:
    gate 0x20, tick
    .irp pair, 0x1120, 0x2021, 0x0421, 0x0121
    mov $\\pair >> 8, %al
    out %al, $\\pair & 0xff
    .endr
    mov $0xfe, %al                   # the timer alone
    out %al, $0x21
    mov $0x34, %al
    out %al, $0x43
    mov $2386 & 0xff, %al
    out %al, $0x40
    mov $2386 >> 8, %al
    out %al, $0x40
1:  sti
    hlt
    incl awake(%rip)
    mov $2000, %ecx
2:  loop 2b
    jmp 1b
tick:
    push %rax
    push %rdx
    mov $0x3f8, %edx
    mov $'.', %al
    out %al, %dx
    mov $0x20, %al
    out %al, $0x20
    pop %rdx
    pop %rax
    iretq
.data
awake: .long 0
"""


def until(machine: Machine, time: int) -> End | tuple[object, Outcome]:
    machine.goal = lambda: all(p.clock >= time for p in machine.partitions)
    return machine.run(machine.partitions)


def test_everybody_gets_the_same_time(build: Build) -> None:
    machine = build(HOST, GUEST)
    assert until(machine, 100 * TICKS_PER_MS) is End.REACHED
    for partition in machine.partitions:
        assert 0 <= partition.clock - 100 * TICKS_PER_MS < 16
    outputs = [board.console.output for board in machine.boards]
    assert outputs[0] == outputs[1]
    assert outputs[0].startswith(b"**")


def test_a_machine_knows_its_boards(build: Build) -> None:
    machine = build(HOST, GUEST)
    board = machine.board("guest")
    assert board is machine.boards[1]
    assert machine.board("nobody") is None


def test_an_idle_partition_costs_nothing_and_holds_nobody_back(build: Build) -> None:
    machine = build(HOST, ASLEEP)
    until(machine, 48 * TICKS_PER_MS)
    _, guest = machine.partitions
    assert guest.condition is Condition.IDLE
    assert guest.clock == 48 * TICKS_PER_MS
    assert machine.boards[0].console.output


def test_a_timer_ticks_in_virtual_time(build: Build) -> None:
    machine = build(TICKING, ASLEEP)
    until(machine, 1000 * TICKS_PER_MS)
    ticks = len(machine.boards[0].console.output)
    assert ticks == pytest.approx(500, abs=1)
    assert machine.partitions[0].log.delivered == ticks
    assert not machine.partitions[0].log.violated


def test_real_time_and_leaps_are_the_same_run(build: Build) -> None:
    leaping = build(TICKING, ASLEEP)
    sleeping = build(TICKING, ASLEEP, warp=False)
    for machine in (leaping, sleeping):
        until(machine, 40 * TICKS_PER_MS)
    assert fingerprint(sleeping) == fingerprint(leaping)


@pytest.mark.parametrize("warp", [False, True])
def test_a_machine_with_nothing_to_wait_for_can_be_woken(
    build: Build, warp: bool
) -> None:
    machine = build(ASLEEP, ASLEEP, warp=warp)
    timer = threading.Timer(0.05, machine.interrupt)
    timer.start()
    assert machine.run(machine.partitions) is End.INTERRUPTED
    timer.join()
    assert all(p.alive for p in machine.partitions)


def test_a_busy_machine_can_be_interrupted(build: Build) -> None:
    machine = build(HOST, GUEST)
    timer = threading.Timer(0.02, machine.interrupt)
    timer.start()
    assert machine.run(machine.partitions) is End.INTERRUPTED
    timer.join()
    machine.arm()
    later = max(p.clock for p in machine.partitions) + TICKS_PER_MS
    assert until(machine, later) is End.REACHED


def test_an_interrupt_that_came_too_early_is_forgotten(build: Build) -> None:
    machine = build(HOST, GUEST)
    machine.interrupt()
    machine.arm()
    assert until(machine, TICKS_PER_MS) is End.REACHED


def test_one_partition_dies_and_the_other_goes_on(build: Build) -> None:
    machine = build(HOST, TRIPLE_FAULT)
    host, guest = machine.partitions
    assert machine.run(machine.partitions) == (guest, Outcome.DEAD)
    assert guest.condition is Condition.FAILED
    machine.goal = lambda: host.clock >= 20 * TICKS_PER_MS
    assert machine.run(machine.partitions) is End.REACHED
    assert host.condition is Condition.RUNNING
    assert guest.clock < TICKS_PER_MS


def test_when_all_are_dead_nothing_runs(build: Build) -> None:
    machine = build(TRIPLE_FAULT, TRIPLE_FAULT)
    for _ in machine.partitions:
        machine.run(machine.partitions)
    assert machine.run(machine.partitions) is End.STILL


def test_only_those_that_shall_run_do(build: Build) -> None:
    machine = build(HOST, GUEST)
    host, guest = machine.partitions
    machine.goal = lambda: guest.clock >= 20 * TICKS_PER_MS
    machine.run([guest])
    assert host.clock == 0
    assert guest.clock >= 20 * TICKS_PER_MS


ECHO = """
main:
    gate 0x24, receive
    .irp pair, 0x1120, 0x2021, 0x0421, 0x0121
    mov $\\pair >> 8, %al
    out %al, $\\pair & 0xff
    .endr
    mov $0xef, %al                   # COM1 alone
    out %al, $0x21
    .irp pair, 0x0bfc, 0x01f9        # OUT2, RTS, DTR; interrupt when received
    mov $0x300 + (\\pair & 0xff), %edx
    mov $\\pair >> 8, %al
    out %al, %dx
    .endr
1:  sti
    hlt
    jmp 1b
receive:
    mov $0x3f8, %edx
    in %dx, %al
    inc %al
    out %al, %dx
    mov $0x20, %al
    out %al, $0x20
    iretq
"""


def test_what_is_typed_arrives_and_is_logged_with_its_time(build: Build) -> None:
    machine = build(ECHO, ASLEEP)
    prepare(machine, {})
    board = machine.boards[0]
    until(machine, 20 * TICKS_PER_MS)
    machine.type(board, b"HAL")
    until(machine, 60 * TICKS_PER_MS)
    assert board.console.output == b"IBM"
    assert list(board.partition.input_log) == [(20 * TICKS_PER_MS + 1, b"HAL")]


def test_the_log_replays_what_was_typed(build: Build) -> None:
    live, replay = build(ECHO, ASLEEP), build(ECHO, ASLEEP, quantum=10)
    for machine in (live, replay):
        prepare(machine, {})
    until(live, 20 * TICKS_PER_MS)
    live.type(live.boards[0], b"HAL")
    board = replay.boards[0]
    until(live, 60 * TICKS_PER_MS)
    assert board.console_input is not None
    for time, data in live.partitions[0].input_log:
        board.partition.life.inputs.append((time, board.console_input, data))
    until(replay, 60 * TICKS_PER_MS)
    assert fingerprint(replay)["host ram"] == fingerprint(live)["host ram"]
    assert replay.partitions[0].log.deliveries == live.partitions[0].log.deliveries


def test_typing_wakes_a_machine_that_waits(build: Build) -> None:
    machine = build(ECHO, ASLEEP)
    board = machine.boards[0]
    board.console.watch_for(b"B")
    machine.goal = lambda: board.console.seen(b"B")
    timer = threading.Timer(0.05, machine.type, (board, b"A"))
    timer.start()
    assert machine.run(machine.partitions) is End.REACHED
    timer.join()


# Is interrupted every 0.2 ms in long blocks, and keeps where that was.
BUSY = (
    TICKING.partition("1:  sti")[0].replace("2386", "238")
    + """
    sti
    lea places(%rip), %rdi
1:  .rept 40
    add $12345, %rcx
    .endr
    jmp 1b
tick:
    mov %rcx, (%rdi)
    add $8, %rdi
    mov $0x20, %al
    out %al, $0x20
    iretq
.data
places: .skip 65536
"""
)


@pytest.mark.parametrize("host", [TICKING, BUSY], ids=["mostly idle", "busy"])
@pytest.mark.parametrize("seed", range(2))
def test_a_debugger_disturbs_nothing(build: Build, host: str, seed: int) -> None:
    """In small what tests/boot does with two kernels."""
    plain, perturbed = build(host, GUEST), build(host, GUEST)
    for machine in (plain, perturbed):
        prepare(machine, {})
    run_plainly(plain, 5 * GRID)
    perturber = Perturber(perturbed, 5 * GRID, seed, pace=TICKS_PER_MS)
    perturber.run()
    assert fingerprint(perturbed) == fingerprint(plain)
    assert perturber.done["stops"] > 10
    assert plain.partitions[0].log.delivered > (400 if host is BUSY else 40)
