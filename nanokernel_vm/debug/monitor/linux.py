# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands about Linux in a partition: what drgn reads in its memory."""

from collections.abc import Sequence
from typing import Any

from nanokernel_vm.debug.monitor import text
from nanokernel_vm.debug.monitor.command import (
    Command,
    Parameter,
    Request,
    count,
    number,
    task,
)
from nanokernel_vm.debug.sight import Sight
from nanokernel_vm.linux.awareness import interrupts, stacks
from nanokernel_vm.linux.awareness.locks import Locks, locks
from nanokernel_vm.linux.awareness.log import Record, dmesg
from nanokernel_vm.linux.awareness.memory import Meminfo, meminfo
from nanokernel_vm.linux.awareness.modules import Module, modules
from nanokernel_vm.linux.awareness.paging import Translation, page_walk
from nanokernel_vm.linux.awareness.runqueues import RunQueue, runqueues
from nanokernel_vm.linux.awareness.system import System, sysinfo
from nanokernel_vm.linux.awareness.tasks import Task, tasks

_ALL = "-a"


def _which(word: str) -> int | str:
    return word if word == _ALL else task(word)


def _dmesg(request: Request) -> list[Record]:
    rows = dmesg(request.kernel)
    count = request.get("N", len(rows))
    return rows[max(len(rows) - count, 0) :]


def _ps(request: Request) -> list[Task]:
    return tasks(request.kernel, request.cpu)


def _bt(request: Request) -> list[stacks.TaskStack]:
    which = request.get("-a | PID")
    if which is None:
        return [stacks.cpu_backtrace(request.kernel, request.cpu)]
    if which == _ALL:
        return stacks.backtraces(request.kernel, request.cpu)
    return [stacks.backtrace(request.kernel, which, request.cpu)]


def _modules(request: Request) -> list[Module]:
    return modules(request.kernel)


def _locks(request: Request) -> Locks:
    return locks(request.kernel, request.cpu)


def _irq(request: Request) -> list[interrupts.Irq]:
    return interrupts.irqs(request.kernel)


def _runq(request: Request) -> list[RunQueue]:
    return runqueues(request.kernel, request.cpu)


def _meminfo(request: Request) -> Meminfo:
    return meminfo(request.kernel)


def _pte(request: Request) -> Translation:
    address = request.get("ADDRESS") & (1 << 64) - 1
    space = Sight(request.partition).space_of(address)
    return page_walk(request.kernel, space, address, request.get("PID"))


def _sysinfo(request: Request) -> System:
    return sysinfo(request.kernel, request.cpu)


def _handlers(request: Request) -> dict[str, Any]:
    partition = request.partition

    def in_force(vector: int) -> tuple[int, int] | None:
        gate = partition.gate(vector)
        return None if gate is None or not gate.present else (gate.handler, gate.dpl)

    rows: Sequence[interrupts.Handler] = interrupts.handlers(request.kernel, in_force)
    registered = partition.registered is not None
    source = "registered with the nanokernel" if registered else "IDT of the CPU"
    return {"partition": partition.name, "source": source, "handlers": rows}


_COUNT = Parameter("N", count, optional=True)
_TASK = Parameter("-a | PID", _which, optional=True)
_ADDRESS = Parameter("ADDRESS", number)
_PID = Parameter("PID", task, optional=True)

COMMANDS = (
    Command("dmesg", "the kernel's log, or its last N lines", (_COUNT,), _dmesg,
            text.dmesg, True),
    Command("ps", "all tasks: state, since when, wait channel", (), _ps, text.ps, True),
    Command("bt", "kernel stack of the CPU, a task or all tasks", (_TASK,), _bt,
            text.bt, True),
    Command("modules", "kernel modules and where they lie", (), _modules,
            text.modules, True),
    Command("locks", "locks waited for, their owners, deadlocks", (), _locks,
            text.locks, True),
    Command("irq", "interrupt lines: chip, actions, counts", (), _irq, text.irq, True),
    Command("runq", "who runs and who could", (), _runq, text.runq, True),
    Command("meminfo", "memory: free, used, by whom", (), _meminfo, text.meminfo, True),
    Command("pte", "an address, level by level, and its meaning", (_ADDRESS, _PID),
            _pte, text.pte, True),
    Command("sysinfo", "version, uptime, load, command line, taint", (), _sysinfo,
            text.sysinfo, True),
    Command("handlers", "handlers in force and what the kernel believes", (), _handlers,
            text.handlers, True),
)  # fmt: skip
