# SPDX-License-Identifier: GPL-2.0-or-later
"""Why an inferior stopped, as values; ``encode`` turns one into a T, W or X reply.

gdb manual, "Stop Reply Packets".  Nothing here knows a machine.
"""

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
