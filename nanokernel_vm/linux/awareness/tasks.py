# SPDX-License-Identifier: GPL-2.0-or-later
"""All tasks: what state each is in, what it waits for, since when."""

from collections.abc import Callable
from dataclasses import dataclass

from drgn import Object, Program
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.sched import task_on_cpu, task_state_to_char

from nanokernel_vm.linux.awareness.kernel import (
    Awareness,
    Cpu,
    clock,
    has,
    text_of,
    understood,
)
from nanokernel_vm.linux.awareness.stacks import Frame, task_frames


@dataclass(frozen=True, slots=True)
class Task:
    """One thread of Linux.

    Attributes:
        pid: As the kernel counts, a thread's own number.
        process: The number that user space calls pid.
        parent: The process that it is a child of.
        state: The letter that ps(1) shows.
        kernel: Whether it has no user space.
        running: Whether it has the CPU.
        waits_in: Where it sleeps: the innermost function that is not the
            scheduler's or a lock's, as in /proc/PID/wchan; empty if it does not sleep.
        since: When it last had the CPU, or got it if it runs (where the kernel keeps
            that, or else was last seen with it); nanoseconds of the kernel's clock,
            as in its log.  0: never.
        age: Nanoseconds from then until now.
        address: Of its ``struct task_struct``.
        reads_rcu: Whether it is between rcu_read_lock and rcu_read_unlock, in kernels
            that let such tasks be preempted; others do not know.
    """

    pid: int
    process: int
    parent: int
    name: str
    state: str
    kernel: bool
    running: bool
    waits_in: str
    since: int
    age: int
    address: int
    reads_rcu: bool = False


@understood
def tasks(kernel: Awareness, cpu: Cpu = Cpu()) -> list[Task]:  # noqa: B008 - frozen
    """Return all tasks, by number; the idle task is none."""
    program = kernel.program
    now, scheduler = clock(program, cpu.tsc), scheduler_text(program)
    found = [_task(task, cpu, now, scheduler) for task in for_each_task(program)]
    return sorted(found, key=lambda task: task.pid)


def _task(task: Object, cpu: Cpu, now: int, scheduler: Callable[[int], bool]) -> Task:
    running = bool(task_on_cpu(task))
    state = task_state_to_char(task)
    since = last_switch(task, running)
    asleep = not running and state not in "RXZ"
    return Task(
        pid=task.pid.value_(),
        process=task.tgid.value_(),
        parent=task.real_parent.tgid.value_(),
        name=text_of(task.comm),
        state=state,
        kernel=not task.mm,
        running=running,
        waits_in=wait_channel(task_frames(task, cpu), scheduler) if asleep else "",
        since=since,
        age=max(now - since, 0) if since else 0,
        address=task.value_(),
        reads_rcu=_reads_rcu(task),
    )


def _reads_rcu(task: Object) -> bool:
    member = "rcu_read_lock_nesting"
    return has(task, member) and task.member_(member).value_() > 0


def last_switch(task: Object, running: bool) -> int:
    """Return when a task was switched to, if it runs, or else away from."""
    if running and has(task, "sched_info") and has(task.sched_info, "last_arrival"):
        arrival: int = task.sched_info.last_arrival.value_()
        if arrival:  # kept only if somebody wants statistics
            return arrival
    return int(task.se.exec_start.value_())


def scheduler_text(program: Program) -> Callable[[int], bool]:
    """Return whether an address is of the scheduler, or of locks that it serves.

    kernel/sched/core.c: in_sched_functions.
    """
    ranges = [
        range(program.symbol(start).address, program.symbol(end).address)
        for start, end in (
            ("__sched_text_start", "__sched_text_end"),
            ("__lock_text_start", "__lock_text_end"),
        )
        if _known(program, start) and _known(program, end)
    ]
    return lambda address: any(address in addresses for addresses in ranges)


def _known(program: Program, name: str) -> bool:
    return bool(program.symbols(name))


def wait_channel(frames: list[Frame], scheduler: Callable[[int], bool]) -> str:
    """Return the name of the innermost function, not inlined, outside the scheduler."""
    for frame in frames:
        if frame.offset is not None and not scheduler(frame.pc - 1):
            return frame.name
    return ""
