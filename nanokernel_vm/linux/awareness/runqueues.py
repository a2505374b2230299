# SPDX-License-Identifier: GPL-2.0-or-later
"""Run queues: who runs, who could."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from drgn import Object
from drgn.helpers.linux.cpumask import for_each_online_cpu
from drgn.helpers.linux.sched import cpu_rq, rq_for_each_fair_task, rq_for_each_rt_task

from nanokernel_vm.linux.awareness.kernel import (
    Awareness,
    Cpu,
    clock,
    current_task,
    has,
    text_of,
    understood,
)
from nanokernel_vm.linux.awareness.tasks import last_switch

_QUEUE_MAX = 1 << 16
_FAIR = 100  # MAX_RT_PRIO: lower numbers are for real time


@dataclass(frozen=True, slots=True)
class Queued:
    """A task that could run.

    Attributes:
        policy: "fair" or "rt".
        priority: The kernel's own, 0 (highest) to 139.
        waits: Nanoseconds since it last had the CPU.
    """

    pid: int
    name: str
    policy: str
    priority: int
    waits: int


@dataclass(frozen=True, slots=True)
class RunQueue:
    """One CPU's queue.

    Attributes:
        current: The task that runs: pid and name.
        running: How many could run, the current one included, the idle task not.
        switches: Context switches since boot.
        held: Nanoseconds of processor time that the current task has had since it was
            switched to, up to the last tick; 0 for one that is not fair.
        clock: When the scheduler last looked, in nanoseconds of the kernel's clock.
        queued: Who waits for the CPU.
    """

    cpu: int
    current_pid: int
    current: str
    running: int
    switches: int
    held: int
    clock: int
    queued: tuple[Queued, ...]


@understood
def runqueues(kernel: Awareness, cpu: Cpu = Cpu()) -> list[RunQueue]:  # noqa: B008
    """Return the queue of each CPU."""
    now = clock(kernel.program, cpu.tsc)
    return [
        _queue(number, cpu_rq(kernel.program, number), now)
        for number in for_each_online_cpu(kernel.program)
    ]


def _queue(number: int, rq: Object, now: int) -> RunQueue:
    current = current_task(rq.prog_, number)
    queued = [row for row in _queued(rq, now) if row.pid != current.pid.value_()]
    return RunQueue(
        cpu=number,
        current_pid=current.pid.value_(),
        current=text_of(current.comm),
        running=rq.nr_running.value_(),
        switches=rq.nr_switches.value_(),
        held=_held(current),
        clock=rq.clock.value_(),
        queued=tuple(queued),
    )


def _held(task: Object) -> int:
    """Return what set_next_entity() (v6.1, kernel/sched/fair.c) counts from."""
    if task.prio < _FAIR or not has(task.se, "prev_sum_exec_runtime"):
        return 0
    se = task.se
    return int(se.sum_exec_runtime.value_() - se.prev_sum_exec_runtime.value_())


def _queued(rq: Object, now: int) -> Iterator[Queued]:
    for policy, tasks in (
        ("rt", rq_for_each_rt_task(rq)),
        ("fair", rq_for_each_fair_task(rq)),
    ):
        for task in islice(tasks, _QUEUE_MAX):
            yield Queued(
                pid=task.pid.value_(),
                name=text_of(task.comm),
                policy=policy,
                priority=task.prio.value_(),
                waits=max(now - last_switch(task, running=False), 0),
            )
