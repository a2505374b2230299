# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of a report, of what awareness has returned."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nanokernel_vm.linux.awareness import Awareness, NoLinuxError
from nanokernel_vm.linux.awareness.kernel import symbol_text
from nanokernel_vm.linux.awareness.locks import Locks
from nanokernel_vm.linux.awareness.memory import Meminfo
from nanokernel_vm.linux.awareness.stacks import TaskStack
from nanokernel_vm.linux.awareness.system import System
from nanokernel_vm.linux.awareness.tasks import Task
from nanokernel_vm.triage import states
from nanokernel_vm.triage.report import Finding, Interrupt, Kind, Memory, Stack
from nanokernel_vm.triage.signature import signature


@dataclass
class Seen:
    """What awareness has returned.

    Attributes:
        stacks: Those of suspicious tasks, by pid.
    """

    tasks: list[Task] = field(default_factory=list)
    locks: Locks | None = None
    cpu: TaskStack | None = None
    stacks: dict[int, TaskStack] = field(default_factory=dict)

    @property
    def cpu_names(self) -> tuple[str, ...]:
        """The functions on the CPU's stack."""
        return states.names(self.cpu.frames) if self.cpu else ()

    @property
    def who(self) -> str:
        """The task that has the CPU."""
        return f"{self.cpu.name} ({self.cpu.pid})" if self.cpu else ""


def suspicious(seen: Seen) -> list[int]:
    """Return the tasks of deadlocks, then stalls of RCU, state D, who is at a lock."""
    pids = [pid for cycle in seen.locks.cycles for pid in cycle] if seen.locks else []
    pids += [row.pid for row in seen.tasks if states.stalls(row)]
    pids += [row.pid for row in seen.tasks if row.state == "D"]
    for lock in seen.locks.locks if seen.locks else ():
        pids += [party.pid for party in (*lock.owners, *lock.waiters)]
    return list(dict.fromkeys(pids))


def signature_of(found: Sequence[Finding], seen: Seen) -> str:
    """Return the signature of what explains most; empty: nothing is wrong."""
    if not found:
        return ""
    first = found[0]
    if first.kind is not Kind.DEADLOCK or seen.locks is None:
        return signature(first.kind, [first.frames])
    stacks = [seen.stacks.get(pid) for pid in seen.locks.cycles[0]]
    return signature(first.kind, [states.names(s.frames) for s in stacks if s])


def stacks(seen: Seen, system: System | None) -> Iterator[Stack]:
    """Yield the CPU's stack, then those of suspicious tasks."""
    if seen.cpu:
        note = "has panicked" if system and system.panicked is not None else ""
        yield _stack(seen.cpu, f"CPU, task {seen.who}", note)
    rows = {task.pid: task for task in seen.tasks}
    for pid, stack in seen.stacks.items():
        task = rows.get(pid)
        note = f"state {task.state}, {task.age / 1e9:.1f} s" if task else ""
        yield _stack(stack, f"task {stack.name} ({pid})", note)


def _stack(stack: TaskStack, title: str, note: str) -> Stack:
    return Stack(title, note, tuple(map(str, stack.frames)))


def interrupts(
    kernel: Awareness | None, rows: Sequence[Interrupt]
) -> Iterator[Interrupt]:
    """Yield deliveries with the names of where they came in."""
    for row in rows:
        if kernel is None:
            yield row
        else:
            yield replace(row, where=symbol_text(kernel.program, row.rip))


def memory(row: Meminfo) -> Memory:
    """Return how memory is used; what nothing accounts for is ``other``."""
    counters: Mapping[str, int] = row.counters
    slab = counters.get("SReclaimable", 0) + counters.get("SUnreclaim", 0)
    cache, anonymous = counters.get("PageCache", 0), counters.get("AnonPages", 0)
    fixed = counters.get("PageTables", 0) + counters.get("KernelStack", 0)
    other = row.total - row.free - slab - cache - anonymous - fixed
    sizes = [f"{c.name} ({c.pid}): {c.size} KiB" for c in row.processes]
    sizes += [f"slab {c.name}: {c.size} KiB" for c in row.slabs]
    return Memory(row.total, row.free, slab, anonymous, cache, max(other, 0), (*sizes,))


def release(kernel: Awareness | NoLinuxError) -> str:
    """Return what ``uname -r`` would say; empty: there is no Linux."""
    return "" if isinstance(kernel, NoLinuxError) else kernel.release
