# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks at one kernel and writes the report."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from nanokernel_vm.linux.awareness import Awareness, Cpu, NoLinuxError
from nanokernel_vm.linux.awareness.locks import locks
from nanokernel_vm.linux.awareness.log import Record, dmesg
from nanokernel_vm.linux.awareness.memory import meminfo
from nanokernel_vm.linux.awareness.modules import modules
from nanokernel_vm.linux.awareness.runqueues import runqueues
from nanokernel_vm.linux.awareness.stacks import TaskStack, backtrace, cpu_backtrace
from nanokernel_vm.linux.awareness.system import sysinfo
from nanokernel_vm.linux.awareness.tasks import tasks
from nanokernel_vm.triage import findings, sections, states
from nanokernel_vm.triage.freed import free_link, poison
from nanokernel_vm.triage.incidents import Incident, incidents
from nanokernel_vm.triage.report import (
    RANKS,
    Finding,
    Interrupt,
    Kind,
    Report,
)
from nanokernel_vm.triage.sections import Seen

_T = TypeVar("_T")
_STACKS_MAX = 12  # of suspicious tasks
_DMESG = 60  # lines
_LOCKUPS = {Kind.SOFT_LOCKUP, Kind.HARD_LOCKUP, Kind.RCU_STALL}
_EXTERNAL = 32  # the first vector that is no exception's


@dataclass(frozen=True, slots=True)
class Subject:
    """What a report is about.

    Attributes:
        name: The partition's.
        kernel: Linux, or why there is none.
        condition: What the nanokernel says of the partition.
        failure: Why it has stopped it for good; empty: it has not.
        panic: What the guest has told the nanokernel of its panic.
        now: Virtual seconds since power-on; None: nobody knows.
        delivered: Count of interrupts.
        interrupts: The last of them, oldest first, without ``where``.
    """

    name: str
    kernel: Awareness | NoLinuxError
    cpu: Cpu
    condition: str = ""
    failure: str = ""
    panic: str = ""
    now: float | None = None
    delivered: int | None = None
    interrupts: Sequence[Interrupt] = ()


def examine(subject: Subject) -> Report:
    """Return the report; what cannot be read is a problem in it, never an error."""
    return _Examination(subject).report()


def _cpu_stack(kernel: Awareness, cpu: Cpu) -> TaskStack:
    if not cpu.registers:
        raise NoLinuxError("the core has no registers")
    return cpu_backtrace(kernel, cpu)


@dataclass
class _Examination:
    """The parts of one report, each read once, or noted as a problem."""

    subject: Subject
    problems: list[str] = field(default_factory=list)

    def report(self) -> Report:
        subject = self.subject
        if isinstance(subject.kernel, NoLinuxError):
            self.problems.append(str(subject.kernel))
            return self._assemble(None, [], Seen())
        kernel, cpu = subject.kernel, subject.cpu
        log = self._try("log", partial(dmesg, kernel)) or []
        seen = Seen(
            tasks=self._try("tasks", partial(tasks, kernel, cpu)) or [],
            locks=self._try("locks", partial(locks, kernel, cpu)),
            cpu=self._try("CPU's stack", partial(_cpu_stack, kernel, cpu)),
        )
        for pid in sections.suspicious(seen)[:_STACKS_MAX]:
            stack = self._try(f"stack of {pid}", partial(backtrace, kernel, pid, cpu))
            if stack is not None:
                seen.stacks[pid] = stack
        return self._assemble(kernel, log, seen)

    def _try(self, what: str, read: Callable[[], _T]) -> _T | None:
        try:
            return read()
        except NoLinuxError as error:
            self.problems.append(f"{what}: {error}")
            return None

    def _assemble(
        self, kernel: Awareness | None, log: Sequence[Record], seen: Seen
    ) -> Report:
        subject, cpu = self.subject, self.subject.cpu
        system = memory = loaded = None
        if kernel is not None:
            system = self._try("system", partial(sysinfo, kernel, cpu))
            memory = self._try("memory", partial(meminfo, kernel))
            loaded = self._try("modules", partial(modules, kernel))
        found = list(self._findings(kernel, log, seen))
        found.sort(key=lambda row: (RANKS[row.kind], row.time or 0.0))
        return Report(
            partition=subject.name,
            condition=subject.condition,
            release=sections.release(subject.kernel),
            uptime=system.uptime / states.SECOND if system else None,
            taint="".join(system.taint.split()) if system else "",
            findings=tuple(found),
            signature=sections.signature_of(found, seen),
            registers=dict(cpu.registers),
            stacks=tuple(sections.stacks(seen, system)),
            delivered=subject.delivered,
            interrupts=tuple(sections.interrupts(kernel, subject.interrupts)),
            memory=sections.memory(memory) if memory else None,
            modules=tuple(f"{m.name} {m.taints}".strip() for m in loaded or ()),
            dmesg=tuple(map(str, log[-_DMESG:])),
            problems=tuple(self.problems),
        )

    def _findings(
        self, kernel: Awareness | None, log: Sequence[Record], seen: Seen
    ) -> Iterator[Finding]:
        subject = self.subject
        if subject.failure:
            yield findings.stopped(subject.failure, seen.cpu_names, subject.now)
        told = incidents((row.time, row.text) for row in log)
        if subject.panic and not any(incident.panics for incident in told):
            yield findings.reported_panic(subject.panic, seen.cpu_names)
        traces = {pid: states.names(stack.frames) for pid, stack in seen.stacks.items()}
        now = [
            *(states.deadlocks(seen.locks, traces) if seen.locks else ()),
            *states.stalled(seen.tasks, traces),
            *states.hung(seen.tasks, seen.locks, traces),
        ]
        yield from now
        yield from findings.of_incidents(
            told, now, lambda row: self._freed(kernel, row), seen.cpu_names
        )
        if not any(incident.panics for incident in told):
            yield from self._stuck(kernel, told, seen)

    def _stuck(
        self, kernel: Awareness | None, told: Sequence[Incident], seen: Seen
    ) -> Iterator[Finding]:
        """What a CPU that gets nowhere does not say itself."""
        registers, trace = dict(self.subject.cpu.registers), seen.cpu_names
        yield from states.interrupts_off(registers, trace, self._silence(), seen.who)
        if kernel is None or any(row.kind in _LOCKUPS for row in told):
            return
        queues = self._try("run queues", partial(runqueues, kernel, self.subject.cpu))
        for queue in queues or ():
            if queue.cpu == 0:  # of which the registers are
                yield from states.never_yields(queue, registers, trace)

    def _freed(self, kernel: Awareness | None, pointers: Sequence[int]) -> str:
        if known := poison(pointers):
            return known
        if kernel is None:
            return ""
        return self._try("free objects", partial(free_link, kernel, pointers)) or ""

    def _silence(self) -> float | None:
        """Seconds since an interrupt came; exceptions come whether they may or not."""
        subject = self.subject
        if subject.now is None or not subject.interrupts:
            return None
        came = [row.time for row in subject.interrupts if row.vector >= _EXTERNAL]
        return subject.now - (came[-1] if came else subject.interrupts[0].time)
