# SPDX-License-Identifier: GPL-2.0-or-later
"""The system as a whole: version, uptime, command line, what has tainted it."""

from dataclasses import dataclass

from drgn import Program
from drgn.helpers.linux.cpumask import (
    cpu_online_mask,
    cpu_possible_mask,
    cpumask_to_cpulist,
)
from drgn.helpers.linux.panic import tainted
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.sched import loadavg

from nanokernel_vm.linux.awareness.kernel import (
    Awareness,
    Cpu,
    clock,
    text_of,
    understood,
)

_NO_CPU = 0xFFFF_FFFF  # kernel/panic.c: PANIC_CPU_INVALID


@dataclass(frozen=True, slots=True)
class System:
    """What uname, uptime and /proc/cmdline would say.

    Attributes:
        online: CPUs that run, as a list like "0-3".
        possible: CPUs that there is room for.
        uptime: Nanoseconds of the kernel's clock.
        load: Averages over 1, 5 and 15 minutes.
        taint: Letters, as in an oops; empty: none.
        state: Of boot or shutdown, as the kernel calls it.
        panicked: The CPU that panicked; None: none has.
    """

    sysname: str
    nodename: str
    release: str
    version: str
    machine: str
    online: str
    possible: str
    uptime: int
    load: tuple[float, float, float]
    tasks: int
    command_line: str
    taint: str
    state: str
    panicked: int | None


@understood
def sysinfo(kernel: Awareness, cpu: Cpu = Cpu()) -> System:  # noqa: B008 - frozen
    """Return the system's own description."""
    program = kernel.program
    name = program["init_uts_ns"].name
    return System(
        sysname=text_of(name.sysname),
        nodename=text_of(name.nodename),
        release=text_of(name.release),
        version=text_of(name.version),
        machine=text_of(name.machine),
        online=cpumask_to_cpulist(cpu_online_mask(program)),
        possible=cpumask_to_cpulist(cpu_possible_mask(program)),
        uptime=clock(program, cpu.tsc),
        load=loadavg(program),
        tasks=sum(1 for _ in for_each_task(program)),
        command_line=_command_line(program),
        taint=tainted(program),
        state=_state(program),
        panicked=_panicked(program),
    )


def _command_line(program: Program) -> str:
    saved = program["saved_command_line"]
    return text_of(saved if saved else program["boot_command_line"])


def _state(program: Program) -> str:
    state = program["system_state"]
    names = {value: str(name) for name, value in state.type_.enumerators or ()}
    return (
        names.get(state.value_(), str(state.value_())).removeprefix("SYSTEM_").lower()
    )


def _panicked(program: Program) -> int | None:
    cpu: int = program["panic_cpu"].counter.value_() & 0xFFFF_FFFF
    return None if cpu == _NO_CPU else cpu
