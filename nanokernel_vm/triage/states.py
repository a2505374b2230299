# SPDX-License-Identifier: GPL-2.0-or-later
"""What is wrong now, by a kernel's state: pure functions of what awareness returns."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from nanokernel_vm.linux.awareness.locks import Lock, Locks, Party
from nanokernel_vm.linux.awareness.runqueues import RunQueue
from nanokernel_vm.linux.awareness.stacks import Frame
from nanokernel_vm.linux.awareness.tasks import Task
from nanokernel_vm.triage.report import Finding, Kind
from nanokernel_vm.triage.signature import blamed, interrupted

SECOND = 1_000_000_000
HUNG = 10 * SECOND  # in state D; the kernel itself complains after 120 s
STALLED = SECOND  # asleep as a reader of RCU, who must not sleep at all
SILENCE = 1.0  # seconds without any interrupt, of a CPU that is busy
HELD = SECOND  # on one CPU that others want; a fair share is over in milliseconds
_IF = 1 << 9  # eflags
_USER = 3  # cs: the privilege level

Traces = Mapping[int, Sequence[str]]


def names(frames: Iterable[Frame]) -> tuple[str, ...]:
    """Return a backtrace's functions in the kernel, as the kernel writes them."""
    return tuple(
        f"{frame.name} [{frame.module}]" if frame.module else frame.name
        for frame in frames
        if frame.name
    )


def deadlocks(found: Locks, traces: Traces) -> Iterator[Finding]:
    """Yield a finding for each cycle.

    Args:
        found: The locks.
        traces: Functions of the tasks' stacks, by pid.
    """
    for cycle in found.cycles:
        waits = [_wait(pid, found.locks) for pid in cycle]
        steps = [(lock, party) for wait in waits if wait for lock, party in (wait,)]
        yield Finding(
            kind=Kind.DEADLOCK,
            what="deadlock of " + " and ".join(_who(party) for _, party in steps),
            functions=tuple(party.caller for _, party in steps),
            time=min(party.since for _, party in steps) / SECOND,
            task=", ".join(_who(party) for _, party in steps),
            evidence=tuple(_step(lock, party) for lock, party in steps),
            frames=tuple(name for pid in cycle for name in traces.get(pid, ())),
        )


def _wait(pid: int, found: Sequence[Lock]) -> tuple[Lock, Party] | None:
    for lock in found:
        for party in lock.waiters:
            if party.pid == pid:
                return lock, party
    return None


def _step(lock: Lock, party: Party) -> str:
    owners = ", ".join(_who(owner) for owner in lock.owners)
    name = lock.name or f"{lock.address:#x}"
    age = party.age / SECOND
    return (
        f"{_who(party)} waits in {party.caller} for {lock.kind} {name}, "
        f"which {owners} has, for {age:.1f} s"
    )


def _who(party: Party) -> str:
    return f"{party.name} ({party.pid})"


def hung(
    tasks: Iterable[Task], found: Locks | None, traces: Traces
) -> Iterator[Finding]:
    """Yield a finding for each task that sleeps where no signal wakes it, for long.

    Those of a deadlock are left out, and those that others wait for.
    """
    locked = {pid for cycle in found.cycles for pid in cycle} if found else set()
    for task in tasks:
        if task.state != "D" or task.age < HUNG or task.pid in locked or stalls(task):
            continue
        age = task.age / SECOND
        wait = _wait(task.pid, found.locks) if found else None
        yield Finding(
            kind=Kind.HUNG_TASK,
            what=f"task {task.name} ({task.pid}) hangs for {age:.0f} s in state D",
            functions=(_place(task, traces),),
            time=task.since / SECOND,
            task=f"{task.name} ({task.pid})",
            evidence=(_step(*wait),) if wait else (),
            frames=tuple(traces.get(task.pid, ())),
        )


def stalls(task: Task) -> bool:
    """Whether it sleeps where it must not: what it reads cannot be freed meanwhile."""
    return task.reads_rcu and task.state in "SDI" and task.age >= STALLED


def stalled(tasks: Iterable[Task], traces: Traces) -> Iterator[Finding]:
    """Yield a finding for each task that sleeps as a reader of RCU.

    The kernel says so after 21 s, if anybody waits for the grace period's end.
    """
    for task in filter(stalls, tasks):
        who, age = f"{task.name} ({task.pid})", task.age / SECOND
        trace = traces.get(task.pid, ())
        yield Finding(
            kind=Kind.RCU_STALL,
            what=f"RCU stall: {who} sleeps for {age:.0f} s between "
            "rcu_read_lock and rcu_read_unlock",
            functions=tuple(blamed(trace)[:1]),
            time=task.since / SECOND,
            task=who,
            evidence=(f"state {task.state}, waits in {task.waits_in}",),
            frames=tuple(trace),
        )


def _place(task: Task, traces: Traces) -> str:
    """The function that a task waits in, with its module."""
    for name in traces.get(task.pid, ()):
        if name.partition(" ")[0] == task.waits_in:
            return name
    return task.waits_in


def interrupts_off(
    registers: dict[str, int], trace: Sequence[str], silence: float | None, task: str
) -> Iterator[Finding]:
    """Yield a finding if the CPU is in the kernel and lets no interrupt in, for long.

    Args:
        registers: Of the CPU.
        trace: Functions of its stack.
        silence: Seconds since the last delivery; None: nobody knows, and nothing is
            found, because to have interrupts off for a moment is usual.
        task: What runs.
    """
    flags, user = registers.get("eflags", _IF), registers.get("cs", _USER) & 3 == _USER
    if silence is None or silence < SILENCE or flags & _IF or user or not trace:
        return
    yield Finding(
        kind=Kind.INTERRUPTS_OFF,
        what=f"hang with interrupts off for {silence:.1f} s",
        functions=tuple(blamed(trace)[:1]),
        time=None,
        task=task,
        evidence=(f"eflags {flags:#x}: IF is clear; rip {registers['rip']:#x}",),
        frames=tuple(trace),
    )


def never_yields(
    queue: RunQueue, registers: dict[str, int], trace: Sequence[str]
) -> Iterator[Finding]:
    """Yield a finding if the CPU stays in the kernel with one task while others wait.

    The kernel's own watchdog says so after 20 s, unless it was switched off.
    """
    user = registers.get("cs", _USER) & 3 == _USER
    others = queue.running - 1
    if queue.held < HELD or others < 1 or user or not trace:
        return
    trace = interrupted(trace)  # those come and go while it stays
    held, who = queue.held / SECOND, f"{queue.current} ({queue.current_pid})"
    yield Finding(
        kind=Kind.SOFT_LOCKUP,
        what=f"soft lockup: {who} keeps the CPU for {held:.1f} s",
        functions=tuple(blamed(trace)[:1]),
        time=None,
        task=who,
        evidence=(f"{others} others could run, the first {_first(queue)}",),
        frames=tuple(trace),
    )


def _first(queue: RunQueue) -> str:
    return ", ".join(f"{row.name} ({row.pid})" for row in queue.queued[:1]) or "unknown"
