# SPDX-License-Identifier: GPL-2.0-or-later
"""Why an inferior stopped, as values; ``encode`` turns one into a T, W or X reply.

gdb manual, "Stop Reply Packets".  Nothing here knows a machine.
"""

from collections.abc import Set
from dataclasses import dataclass, field
from enum import Enum

from stub.ids import ThreadId


class Signal:
    """Signal numbers of gdb's own table (include/gdb/signals.def), not a host's."""

    NONE = 0
    INT = 2
    ILL = 4
    TRAP = 5
    KILL = 9
    SEGV = 11


class Watch(Enum):
    """Kinds of data watchpoint; the value is the key of the stop reply."""

    WRITE = "watch"
    READ = "rwatch"
    ACCESS = "awatch"


@dataclass(frozen=True, slots=True)
class Stopped:
    """A thread stopped and can be resumed.

    Attributes:
        thread: The thread that stopped, both parts given.
        signal: A number of ``Signal``.
        registers: Expedited registers: gdb register number to raw target bytes.
    """

    thread: ThreadId
    signal: int = Signal.TRAP
    registers: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AtBreakpoint(Stopped):
    """The next instruction carries a breakpoint; the pc is its address."""

    hardware: bool = False


@dataclass(frozen=True, slots=True)
class AtWatchpoint(Stopped):
    """The last instruction touched watched memory.

    Attributes:
        kind: What the watchpoint watches for.
        addr: Virtual address that was touched.
    """

    kind: Watch = Watch.WRITE
    addr: int = 0


@dataclass(frozen=True, slots=True)
class Restarted(Stopped):
    """The partition was booted again from ``path`` (an ``exec`` event)."""

    path: str = ""


@dataclass(frozen=True, slots=True)
class LibrariesChanged(Stopped):
    """The set of loaded kernel modules changed (a ``library`` event)."""


@dataclass(frozen=True, slots=True)
class Exited:
    """A partition is gone for good: it powered off with ``status``."""

    pid: int
    status: int = 0


@dataclass(frozen=True, slots=True)
class Killed:
    """A partition is gone for good: ended from outside with ``signal``."""

    pid: int
    signal: int = Signal.KILL


StopReason = Stopped | Exited | Killed


def pid_of(reason: StopReason) -> int:
    """The process that ``reason`` is about."""
    return reason.thread.pid if isinstance(reason, Stopped) else reason.pid


def encode(reason: StopReason, features: Set[str]) -> bytes:
    """Write a stop reply in the words a client with ``features`` understands."""
    if isinstance(reason, Stopped):
        return _stopped(reason, features)
    letter, number = (
        ("W", reason.status) if isinstance(reason, Exited) else ("X", reason.signal)
    )
    process = f";process:{reason.pid:x}" if "multiprocess" in features else ""
    return f"{letter}{number & 0xFF:02x}{process}".encode()


def _stopped(reason: Stopped, features: Set[str]) -> bytes:
    thread = reason.thread
    name = str(thread) if "multiprocess" in features else thread.plain()
    registers = "".join(f"{n:x}:{v.hex()};" for n, v in reason.registers.items())
    # The thread comes first: gdb needs it to know whose registers follow.
    return (
        f"T{reason.signal:02x}thread:{name};{_event(reason, features)}{registers}"
    ).encode()


def _event(reason: Stopped, features: Set[str]) -> str:
    match reason:
        case AtBreakpoint(hardware=hardware):
            word = "hwbreak" if hardware else "swbreak"
            return f"{word}:;" if word in features else ""
        case AtWatchpoint(kind=kind, addr=addr):
            return f"{kind.value}:{addr:x};"
        case Restarted(path=path) if "exec-events" in features:
            return f"exec:{path.encode().hex()};"
        case LibrariesChanged():
            return "library:;"
    return ""
