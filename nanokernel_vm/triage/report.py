# SPDX-License-Identifier: GPL-2.0-or-later
"""The report, plain data: what is shown, sent as JSON and read back."""

import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from enum import StrEnum
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

_T = TypeVar("_T")


class Kind(StrEnum):
    """What can have happened; the value is what people read."""

    NULL_POINTER = "NULL pointer dereference"
    USE_AFTER_FREE = "use after free"
    BAD_POINTER = "access to a bad address"
    BAD_JUMP = "jump to what is not code"
    GENERAL_PROTECTION = "general protection fault"
    STACK_OVERFLOW = "stack overflow"
    STACK_CORRUPTION = "stack corruption"
    LIST_CORRUPTION = "list corruption"
    SLAB_CORRUPTION = "slab corruption"
    BUG = "BUG()"
    DIVIDE_ERROR = "division by zero"
    DOUBLE_FAULT = "double fault"
    OOPS = "oops"
    PANIC = "panic"
    NANOKERNEL = "stopped by the nanokernel"
    OUT_OF_MEMORY = "out of memory"
    DEADLOCK = "deadlock"
    INTERRUPTS_OFF = "hang with interrupts off"
    HARD_LOCKUP = "hard lockup"
    SOFT_LOCKUP = "soft lockup"
    RCU_STALL = "RCU stall"
    HUNG_TASK = "hung task"
    SCHEDULING = "sleep where sleeping is forbidden"
    WARNING = "warning"


# How far a finding explains others: a crash comes before what hangs because of it.
RANKS = {
    **dict.fromkeys(Kind, 0),
    **dict.fromkeys(
        (
            Kind.OUT_OF_MEMORY,
            Kind.DEADLOCK,
            Kind.INTERRUPTS_OFF,
            Kind.HARD_LOCKUP,
            Kind.SOFT_LOCKUP,
            Kind.RCU_STALL,
        ),
        1,
    ),
    **dict.fromkeys((Kind.HUNG_TASK, Kind.SCHEDULING), 2),
    Kind.WARNING: 3,
}


_NO_LINUX = "no Linux to be seen"
_LIVES = {"": "alive when it was dumped", "idle": "running"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that has happened.

    Attributes:
        kind: What.
        what: The same with its particulars, a phrase in one line.
        functions: Where: one, or one for each task of a deadlock, with the module
            behind it in brackets, as the kernel writes it.
        time: Seconds of the kernel's clock; None: unknown.
        task: Name and number of the task that did or met it; empty: none in particular.
        evidence: Lines that say so.
        frames: Functions, innermost first.
    """

    kind: Kind
    what: str
    functions: tuple[str, ...]
    time: float | None
    task: str
    evidence: tuple[str, ...]
    frames: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stack:
    """One backtrace, the frames as text.

    Attributes:
        title: Whose.
        note: Why it is shown.
    """

    title: str
    note: str
    frames: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Interrupt:
    """A delivery out of the nanokernel's log.

    Attributes:
        time: Virtual seconds since power-on.
        vector: 0 to 255.
        cpl: Privilege level that it came in at.
        rip: Where it came in, virtual.
        where: The function there, empty if unknown or of a program.
    """

    time: float
    vector: int
    cpl: int
    rip: int
    where: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """How memory is used; sizes in KiB.

    Attributes:
        other: What no counter, slab cache or process accounts for: pages that kernel
            code has taken for itself.
        consumers: The largest, as "name: size".
    """

    total: int
    free: int
    slab: int
    processes: int
    cache: int
    other: int
    consumers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All about one kernel.

    Attributes:
        partition: Its name; of a core, the file's.
        condition: What the nanokernel says of the partition; of a core: empty.
        release: As ``uname -r``; empty: no Linux.
        uptime: Seconds of the kernel's clock; None: unknown.
        taint: Letters, as in an oops.
        findings: What explains most comes first; none: nothing is wrong.
        signature: The same for same failures; empty: nothing is wrong.
        registers: Of the CPU, by gdb's names.
        stacks: The CPU's, then those of suspicious tasks.
        delivered: Interrupts since power-on; None: nobody has counted.
        interrupts: The last of them, oldest first.
        modules: Names with their taints.
        dmesg: The log's last lines.
        problems: What could not be found out, and why.
    """

    partition: str
    condition: str
    release: str
    uptime: float | None
    taint: str
    findings: tuple[Finding, ...]
    signature: str
    registers: Mapping[str, int]
    stacks: tuple[Stack, ...]
    delivered: int | None
    interrupts: tuple[Interrupt, ...]
    memory: Memory | None
    modules: tuple[str, ...]
    dmesg: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def wrong(self) -> bool:
        """Whether anything has happened that should not."""
        return bool(self.findings)

    @property
    def verdict(self) -> str:
        """The report in one line."""
        if not self.findings:
            return self._calm() if self.release else _NO_LINUX
        first = self.findings[0]
        where = " and ".join(first.functions)
        return f"{first.what}, in {where}" if where else first.what

    @property
    def well(self) -> bool:
        """Whether all has been looked at, and nothing is wrong."""
        return not self.findings and not self.problems

    def _calm(self) -> str:
        life = _LIVES.get(self.condition, self.condition)
        if not self.problems:
            return f"{life}, nothing wrong"
        unread = ", ".join(problem.partition(":")[0] for problem in self.problems)
        return f"{life}, but there is no telling: {unread} cannot be read"

    def to_dict(self) -> dict[str, Any]:
        """What JSON knows."""
        return {**asdict(self), "verdict": self.verdict}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "Report":
        """The inverse of ``to_dict``.

        Raises:
            KeyError, TypeError, ValueError: It is no report.
        """
        return _decoded(cls, row)


def _decoded(type_: type[_T], row: Mapping[str, Any]) -> _T:
    hints = get_type_hints(type_)
    assert is_dataclass(type_)
    values = {f.name: _value(hints[f.name], row[f.name]) for f in fields(type_)}
    return type_(**values)


def _value(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    if get_origin(hint) is types.UnionType:
        hint = next(arm for arm in get_args(hint) if arm is not types.NoneType)
    if get_origin(hint) is tuple:
        return tuple(_value(get_args(hint)[0], item) for item in value)
    if is_dataclass(hint):
        return _decoded(hint, value)  # type: ignore[arg-type]
    return hint(value) if isinstance(hint, type) else value
