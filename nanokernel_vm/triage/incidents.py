# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel has said of its failures, cut out of its log.

Formats: arch/x86/kernel/dumpstack.c, traps.c, arch/x86/mm/fault.c, kernel/panic.c,
kernel/hung_task.c, kernel/watchdog.c, mm/oom_kill.c, lib/list_debug.c of Linux 6.1.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from nanokernel_vm.triage.report import Kind

_LINES_MAX = 400  # of one incident
_MESSAGE_MAX = 4  # lines of a warning's own

# The first that matches begins an incident.
_STARTS = [
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"kernel tried to execute (NX|user)", Kind.BAD_JUMP),
        (r"BUG: kernel NULL pointer dereference", Kind.NULL_POINTER),
        (r"BUG: unable to handle kernel NULL pointer", Kind.NULL_POINTER),
        (r"BUG: KASAN: \S*(double|invalid)-free", Kind.SLAB_CORRUPTION),
        (r"BUG: K\w+: \S*use-after-free", Kind.USE_AFTER_FREE),
        (r"BUG: (KASAN|KFENCE): ", Kind.BAD_POINTER),
        (r"BUG: unable to handle ", Kind.BAD_POINTER),
        (r"BUG: .*stack guard page was hit", Kind.STACK_OVERFLOW),
        (r"kernel stack overflow", Kind.STACK_OVERFLOW),
        (r"corrupted stack end detected", Kind.STACK_OVERFLOW),
        (r"stack-protector: Kernel stack is corrupted", Kind.STACK_CORRUPTION),
        (r"list_(add|del) (double add|corruption)", Kind.LIST_CORRUPTION),
        (r"^BUG \S+ \(.*\): ", Kind.SLAB_CORRUPTION),
        (r"refcount_t: .*use-after-free", Kind.USE_AFTER_FREE),
        (r"general protection fault", Kind.GENERAL_PROTECTION),
        (r"kernel BUG at ", Kind.BUG),
        (r"divide error: ", Kind.DIVIDE_ERROR),
        (r"double fault: ", Kind.DOUBLE_FAULT),
        (r"BUG: soft lockup", Kind.SOFT_LOCKUP),
        (r"detected hard LOCKUP", Kind.HARD_LOCKUP),
        (r"rcu: INFO: .*detected stalls?", Kind.RCU_STALL),
        (r"INFO: task .*:\d+ blocked for more than", Kind.HUNG_TASK),
        (r"BUG: (scheduling while atomic|sleeping function)", Kind.SCHEDULING),
        (r" invoked oom-killer: ", Kind.OUT_OF_MEMORY),
        (r"Kernel panic - not syncing: (System is deadlocked on|Out of) m",
         Kind.OUT_OF_MEMORY),
        (r"Kernel panic - not syncing: ", Kind.PANIC),
        (r"^WARNING: CPU: \d+ PID: \d+ at ", Kind.WARNING),
        (r"^[\w ,]+: [0-9a-f]{4} \[#\d+\]", Kind.OOPS),
    )
]  # fmt: skip
_PLACE = r"([\w.$]+)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[(\w+).*\])?"
# What a headline can do without: the kernel's exclamations and an oops' number.
_TEXT = re.compile(
    r"Kernel panic - not syncing: |watchdog: |BUG: |: [0-9a-f]{4} \[#\d+\].*"
    r"|rcu: INFO: |:$"
)
_WARNING = re.compile(r"WARNING: CPU: \d+ PID: \d+ (at \S+)")
_CUT = "[ cut here ]"
_FRAME = re.compile(rf"^\s+(\? )?{_PLACE}$")
_RIP = re.compile(rf"RIP: 0010:{_PLACE}")
_TASK = re.compile(r"PID: (\d+) Comm: (.*?) (?:Not tainted|Tainted:)")
_SHOWN = re.compile(r"^task:(.*?) +state:\S+ .*?\bpid:(\d+)")
_BLOCKED = re.compile(r"INFO: task (.*):(\d+) blocked for more than (\d+) seconds")
_REGISTER = re.compile(r"\b(R[A-Z0-9]{2}|CR2): ([0-9a-f]{16})\b")
_ADDRESS = re.compile(r"address:? (?:0x)?([0-9a-f]+)")
_END = re.compile(r"---\[ end (trace|Kernel panic)|^Out of memory: Kill")


@dataclass(slots=True)
class Incident:
    """One failure as the kernel tells it.

    Attributes:
        time: Nanoseconds of the kernel's clock.
        text: What it says first.
        pid: Of the task that failed; None: it does not say.
        address: What it could not access, or is thought not to have.
        registers: As it prints them, by name in capitals.
        frames: Functions, innermost first, those that it is sure of.
        lines: All that it says.
        panics: Whether it says that it will not go on.
    """

    kind: Kind
    time: int
    text: str
    pid: int | None = None
    comm: str = ""
    address: int | None = None
    registers: dict[str, int] = field(default_factory=dict)
    frames: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    panics: bool = False
    located: bool = False  # registers or a trace have been seen
    in_trace: bool = False

    @property
    def task(self) -> str:
        """Name and number of the task."""
        return f"{self.comm} ({self.pid})" if self.pid is not None else ""


def incidents(records: Iterable[tuple[int, str]]) -> list[Incident]:
    """Return all failures, in order.

    Args:
        records: Time in nanoseconds and text of each line of the log.
    """
    found: list[Incident] = []
    current: Incident | None = None
    said: list[str] | None = None  # by WARN(): its message comes before the place
    for time, line in records:
        kind = _started(line)
        if kind is not None and (current is None or current.located):
            current = Incident(kind, time, _headline(line, said))
            found.append(current)
        said = _message(line, said)
        if current is not None:
            _take(current, line)
            if _END.search(line) or len(current.lines) >= _LINES_MAX:
                current = None
    return found


def _message(line: str, said: list[str] | None) -> list[str] | None:
    """What has been said since the last cut, this line included; None: too much."""
    if _CUT in line:
        return []
    return [*said, line] if said is not None and len(said) < _MESSAGE_MAX else None


def _headline(line: str, said: list[str] | None) -> str:
    warning, blocked = _WARNING.match(line), _BLOCKED.search(line)
    if warning:
        return " ".join((*(said or ()), warning[1]))
    if blocked:
        return (
            f"task {blocked[1]} ({blocked[2]}) was blocked for {blocked[3]} s or more"
        )
    return _TEXT.sub("", line).strip()


def _started(line: str) -> Kind | None:
    if _END.search(line):
        return None
    return next((kind for start, kind in _STARTS if start.search(line)), None)


def _take(incident: Incident, line: str) -> None:
    """Learn what a line says."""
    incident.lines.append(line)
    incident.panics = incident.panics or "Kernel panic - not syncing" in line
    if blocked := _BLOCKED.search(line):
        incident.comm, incident.pid = blocked[1], int(blocked[2])
    elif (task := _TASK.search(line)) and incident.pid is None:
        incident.pid, incident.comm = int(task[1]), task[2]
    elif (shown := _SHOWN.match(line)) and incident.pid is None:
        incident.comm, incident.pid = shown[1], int(shown[2])
    if incident.address is None and (address := _ADDRESS.search(line)):
        incident.address = int(address[1], 16)
    if "</TASK>" in line or "Modules linked in" in line:
        incident.in_trace = False
    elif "Call Trace:" in line:
        incident.located = incident.in_trace = True
    _take_registers(incident, line)
    _take_frame(incident, line)


def _take_registers(incident: Incident, line: str) -> None:
    for name, value in _REGISTER.findall(line):
        incident.registers.setdefault(name, int(value, 16))  # the first are the fault's


def _take_frame(incident: Incident, line: str) -> None:
    rip = _RIP.search(line)
    if rip and (incident.in_trace or not incident.located):
        incident.located = True
        incident.frames.append(_name(rip[1], rip[2]))
    elif incident.in_trace and (frame := _FRAME.match(line)) and not frame[1]:
        incident.frames.append(_name(frame[2], frame[3]))


def _name(function: str, module: str | None) -> str:
    return f"{function} [{module}]" if module else function
