# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows about Linux as lines for people."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from nanokernel_vm.linux.awareness.interrupts import Handler, Irq
from nanokernel_vm.linux.awareness.locks import Lock, Locks, Party
from nanokernel_vm.linux.awareness.log import Record
from nanokernel_vm.linux.awareness.memory import Meminfo
from nanokernel_vm.linux.awareness.modules import Module
from nanokernel_vm.linux.awareness.paging import Translation
from nanokernel_vm.linux.awareness.runqueues import RunQueue
from nanokernel_vm.linux.awareness.stacks import TaskStack
from nanokernel_vm.linux.awareness.system import System
from nanokernel_vm.linux.awareness.tasks import Task

# A read lock keeps who took it last, and that may be gone.
_OWNERS = {"write": "owner", "read": "last reader"}
_SECOND = 1_000_000_000


def seconds(nanoseconds: int) -> str:
    """A duration."""
    return f"{nanoseconds / _SECOND:.6f} s"


def dmesg(rows: Iterable[Record]) -> Iterator[str]:
    """The log."""
    return map(str, rows)


def ps(rows: Sequence[Task]) -> Iterator[str]:
    """The tasks; kernel threads in brackets, as ps(1) has them."""
    yield f"{'PID':>6} {'PPID':>6} S {'SINCE':>13} {'FOR':>14} {'WAITS IN':26} NAME"
    for row in rows:
        name = f"[{row.name}]" if row.kernel else row.name
        where = "(has the CPU)" if row.running else row.waits_in or "-"
        since = f"{row.since / _SECOND:13.6f}" if row.since else f"{'never ran':>13}"
        age = seconds(row.age) if row.since else "-"
        task = f"{row.pid:6} {row.parent:6} {row.state}"
        yield f"{task} {since} {age:>14} {where:26} {name}"


def bt(rows: Iterable[TaskStack]) -> Iterator[str]:
    """The stacks."""
    for row in rows:
        running = ", has the CPU" if row.running else ""
        yield f"task {row.pid} ({row.name}){running}"
        for number, frame in enumerate(row.frames):
            yield f"#{number:<2} {frame}"
        if not row.frames:
            yield "no stack"


def modules(rows: Sequence[Module]) -> Iterator[str]:
    """The modules."""
    if not rows:
        yield "no modules"
    for row in rows:
        taints = f" ({row.taints})" if row.taints else ""
        yield (
            f"{row.name:24} {row.address:#018x} {row.size:8} bytes  {row.state}, "
            f"{row.references} users{taints}"
        )


def locks(answer: Locks) -> Iterator[str]:
    """The locks, then the deadlocks."""
    if not answer.locks and not answer.broken:
        yield "no task waits for a lock"
    for lock in answer.locks:
        yield from _lock(lock)
    for cycle in answer.cycles:
        yield f"DEADLOCK: {_cycle(cycle, answer.locks)}"
    for text in answer.broken:
        yield f"makes no sense: {text}"


def _lock(lock: Lock) -> Iterator[str]:
    name = f" ({lock.name})" if lock.name else ""
    yield f"{lock.kind} {lock.address:#018x}{name}: {lock.state}"
    for owner in lock.owners:
        where = f", is in {owner.caller}" if owner.caller else ""
        yield f"  {_OWNERS[owner.mode]}  {_party(owner)}{where}"
    if not lock.owners:
        yield "  owner  not kept by this lock"
    verb = "spins" if lock.kind == "spinlock" else "waits"
    for waiter in lock.waiters:
        mode = f" to {waiter.mode}" if lock.kind == "rwsem" else ""
        yield (
            f"  {verb}  {_party(waiter)}{mode} for {seconds(waiter.age)}, "
            f"asked by {waiter.caller or 'user space'}"
        )


def _party(party: Party) -> str:
    return f"{party.pid} ({party.name})"


def _cycle(cycle: Sequence[int], found: Iterable[Lock]) -> str:
    held = {
        (waiter.pid, owner.pid): lock
        for lock in found
        for owner in lock.owners
        for waiter in lock.waiters
    }
    steps = []
    for pid, owner in zip(cycle, (*cycle[1:], cycle[0]), strict=True):
        lock = held[pid, owner]
        steps.append(f"{pid} waits for {lock.name or hex(lock.address)} of {owner}")
    return ", ".join(steps)


def irq(rows: Iterable[Irq]) -> Iterator[str]:
    """The lines that somebody uses, or that came."""
    for row in rows:
        if row.actions or row.count:
            unhandled = f", {row.unhandled} unhandled" if row.unhandled else ""
            yield (
                f"{row.number:4} {row.count:10} {row.chip:12} {row.flow:24} "
                f"{row.state}{unhandled}: {', '.join(row.actions) or 'no action'}"
            )


def handlers(answer: dict[str, Any]) -> Iterator[str]:
    """The vectors; neighbours with the same entry code in one line."""
    rows: Sequence[Handler] = answer["handlers"]
    wrong = sum(not row.agree for row in rows)
    yield (
        f"{answer['partition']}: {len(rows)} handlers ({answer['source']}), "
        f"{wrong} differ from what the kernel believes"
    )
    for _, group in groupby(rows, key=_entry):
        yield _handler(list(group))


def _entry(row: Handler) -> tuple[Any, ...]:
    return row.name.partition("+")[0], row.believed_name.partition("+")[0], row.dpl


def _handler(rows: Sequence[Handler]) -> str:
    first, last = rows[0], rows[-1]
    vectors = f"{first.vector:#04x}"
    if last is not first:
        vectors += f"-{last.vector:#04x}"
    place = f"{first.handler:#018x}" if first.handler is not None else "none"
    differs = "" if first.agree else f", the kernel believes {_believed(first)}"
    dpl = f" dpl {first.dpl}" if first.dpl else ""
    return f"{vectors:9} {place:18} {first.name}{dpl}{differs}"


def _believed(row: Handler) -> str:
    return row.believed_name or (f"{row.believed:#x}" if row.believed else "none")


def runq(rows: Iterable[RunQueue]) -> Iterator[str]:
    """The run queues."""
    for row in rows:
        yield (
            f"cpu {row.cpu}: runs {row.current_pid} ({row.current}), "
            f"{row.running} runnable, {row.switches} switches, "
            f"clock {seconds(row.clock)}"
        )
        for task in row.queued:
            yield (
                f"  {task.pid:6} {task.name:16} {task.policy} prio {task.priority}, "
                f"waits for {seconds(task.waits)}"
            )


def meminfo(row: Meminfo) -> Iterator[str]:
    """Memory in KiB."""
    counters = {"MemTotal": row.total, "MemFree": row.free, **row.counters}
    for name, size in counters.items():
        yield f"{name:16} {size:10} KiB"
    for zone in row.zones:
        yield (
            f"zone {zone.name:11} {zone.managed:10} KiB, {zone.free} free "
            f"(min {zone.min}, low {zone.low}, high {zone.high})"
        )
    for process in row.processes:
        yield f"{process.size:10} KiB resident in {process.pid} ({process.name})"
    for slab in row.slabs:
        yield f"{slab.size:10} KiB in slab cache {slab.name}"


def pte(row: Translation) -> Iterator[str]:
    """The walk, its end, and what the address is."""
    yield f"page tables {row.tables}"
    for step in row.steps:
        flags = ", ".join(step.flags) or "nothing"
        yield f"{step.name:3} at {step.entry_pa:#014x}: {step.entry:#018x}  {flags}"
    if row.physical is None:
        yield f"{row.address:#x} is not mapped: {row.reason}"
    else:
        yield (
            f"{row.address:#x} is physical {row.physical:#x}, "
            f"{row.left:#x} bytes left in the page"
        )
    if row.meaning:
        yield f"{row.address:#x} is {row.meaning}"


def sysinfo(row: System) -> Iterator[str]:
    """The system."""
    yield (
        f"system       {row.sysname} {row.nodename} {row.release} {row.version} "
        f"{row.machine}"
    )
    yield f"command line {row.command_line}"
    yield f"state        {row.state}"
    yield f"uptime       {seconds(row.uptime)}"
    yield f"load         {' '.join(f'{value:.2f}' for value in row.load)}"
    yield f"tasks        {row.tasks}"
    yield f"CPUs         number {row.online} online, {row.possible} possible"
    yield f"taint        {row.taint or 'none'}"
    if row.panicked is not None:
        yield f"panic        on CPU {row.panicked}"
