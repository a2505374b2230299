# SPDX-License-Identifier: GPL-2.0-or-later
"""What is a hang, and what only looks like one."""

from dataclasses import replace

import pytest

from nanokernel_vm.linux.awareness.locks import Lock, Locks, Party
from nanokernel_vm.linux.awareness.runqueues import Queued, RunQueue
from nanokernel_vm.linux.awareness.stacks import Frame
from nanokernel_vm.linux.awareness.tasks import Task
from nanokernel_vm.triage.report import Finding, Kind
from nanokernel_vm.triage.states import (
    HELD,
    HUNG,
    STALLED,
    deadlocks,
    hung,
    interrupts_off,
    names,
    never_yields,
    stalled,
)

IF = 0x200
KERNEL, USER = 0x10, 0x33


def task(pid: int, state: str = "D", age: int = HUNG) -> Task:
    return Task(pid, pid, 2, "t", state, True, False, "wait", 5, age, 0)


def party(pid: int, caller: str) -> Party:
    return Party(pid, f"t{pid}", "write", 5, HUNG, caller)


def mutex(name: str, owner: int, *waiters: int) -> Lock:
    rows = tuple(party(pid, f"take_{name}") for pid in waiters)
    return Lock("mutex", 0x10, name, "locked", (party(owner, ""),), rows)


ABBA = Locks((mutex("a", 2, 1), mutex("b", 1, 2, 3)), ((1, 2),))


def test_a_deadlock_names_every_task_and_lock() -> None:
    (found,) = deadlocks(ABBA, {1: ["f"], 2: ["g"], 3: ["h"]})
    assert found.kind is Kind.DEADLOCK
    assert found.functions == ("take_a", "take_b")
    assert found.task == "t1 (1), t2 (2)"
    assert "t1 (1) waits in take_a for mutex a, which t2 (2) has" in found.evidence[0]
    assert found.frames == ("f", "g")


def test_no_cycle_no_deadlock() -> None:
    assert list(deadlocks(Locks((mutex("a", 2, 1),), ()), {})) == []


def test_who_waits_for_a_deadlock_hangs_but_is_not_in_it() -> None:
    rows = [task(1), task(2), task(3)]
    (found,) = hung(rows, ABBA, {3: ["lock", "wait [m]"]})
    assert found.task == "t (3)"
    assert found.functions == ("wait [m]",)
    assert "for mutex b, which t1 (1) has" in found.evidence[0]


def test_only_a_long_sleep_that_no_signal_ends_is_a_hang() -> None:
    rows = [task(1, "S"), task(2, "I"), task(3, "R"), task(4, "D", HUNG - 1)]
    assert list(hung(rows, None, {})) == []
    assert len(list(hung([task(5)], None, {}))) == 1


def _spin(flags: int, cs: int, silence: float | None) -> list[Finding]:
    registers = {"eflags": flags, "cs": cs, "rip": 0x1234}
    return list(interrupts_off(registers, ["f", "g"], silence, "sh (1)"))


def test_a_cpu_that_lets_no_interrupt_in() -> None:
    (found,) = _spin(2, KERNEL, 1.5)
    assert (found.kind, found.functions) == (Kind.INTERRUPTS_OFF, ("f",))


@pytest.mark.parametrize(
    ("flags", "cs", "silence"),
    [(2 | IF, KERNEL, 9.0), (2, USER, 9.0), (2, KERNEL, 0.1), (2, KERNEL, None)],
)
def test_one_that_does_or_has_only_just_begun(
    flags: int, cs: int, silence: float | None
) -> None:
    assert _spin(flags, cs, silence) == []


def test_who_sleeps_as_a_reader_stalls_and_does_not_merely_hang() -> None:
    rows = [replace(task(number), reads_rcu=number == 1) for number in (1, 2)]
    (found,) = stalled(rows, {1: ("schedule", "msleep", "read [m]")})
    assert (found.kind, found.functions) == (Kind.RCU_STALL, ("read [m]",))
    assert found.task == "t (1)"
    assert [row.task for row in hung(rows, None, {})] == ["t (2)"]
    awake = replace(rows[0], state="R"), replace(rows[0], age=STALLED - 1)
    assert list(stalled(awake, {})) == []


def _kept(held: int, others: int, cs: int, *trace: str) -> list[Finding]:
    waiting = (Queued(2, "w", "fair", 120, held),) * others
    queue = RunQueue(0, 7, "sh", 1 + others, 9, held, 0, waiting)
    return list(never_yields(queue, {"cs": cs}, trace))


def test_a_cpu_that_one_task_keeps() -> None:
    tick = ("tick", "common_interrupt", "asm_common_interrupt")
    (found,) = _kept(HELD, 1, KERNEL, *tick, "delay_tsc", "wait [m]", "main")
    assert (found.kind, found.functions) == (Kind.SOFT_LOCKUP, ("wait [m]",))
    assert found.frames == ("delay_tsc", "wait [m]", "main")
    assert "sh (7) keeps the CPU for 1.0 s" in found.what


@pytest.mark.parametrize(
    ("held", "others", "cs"),
    [(HELD - 1, 1, KERNEL), (HELD, 0, KERNEL), (HELD, 1, USER)],
)
def test_one_that_others_do_not_want_or_a_program_has(
    held: int, others: int, cs: int
) -> None:
    assert _kept(held, others, cs, "f") == []


def test_names_are_as_the_kernel_writes_them() -> None:
    frames = [Frame(1, 1, "f", 0, "m"), Frame(1, 1, "g", 0), Frame(1, 1, "", None)]
    assert names(frames) == ("f [m]", "g")
