# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine must offer to be debugged: small protocols, structural typing.

An inferior is a partition: its pid is the partition's number and its tids are
the partition's CPUs, both from 1.  Addresses are virtual addresses of the
inferior unless said otherwise, sizes are bytes.  Everything but ``Machine.interrupt``
is called while the inferior is stopped, by the server's thread or one it waits for.
"""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, runtime_checkable

from stub.ids import ThreadId
from stub.stops import StopReason


@dataclass(frozen=True, slots=True)
class Thread:
    """One row of qXfer:threads."""

    tid: int
    name: str
    core: int
    extra: str = ""


class BreakpointKind(IntEnum):
    """The digit after Z and z."""

    SOFTWARE = 0
    HARDWARE = 1
    WRITE = 2
    READ = 3
    ACCESS = 4


class Inferior(Protocol):
    """One partition: registers, memory, threads."""

    @property
    def pid(self) -> int:
        """Partition number, from 1."""

    @property
    def name(self) -> str:
        """Partition name, one word."""

    @property
    def exec_file(self) -> str | None:
        """Absolute path, on the server's host, of the ELF with its symbols."""

    @property
    def alive(self) -> bool:
        """Whether the partition can still be resumed (not killed, not off)."""

    def threads(self) -> Sequence[Thread]:
        """All CPUs of the partition."""

    def read_registers(self, tid: int) -> bytes:
        """All registers in the order and size of the target description."""

    def write_registers(self, tid: int, data: bytes) -> None:
        """Set as many registers, in that order, as ``data`` covers, or none."""

    def read_register(self, tid: int, number: int) -> bytes:
        """One register; raises TargetError for a number that does not exist."""

    def write_register(self, tid: int, number: int, data: bytes) -> None:
        """Set one register; raises TargetError if it does not exist or is fixed."""

    def read_memory(self, addr: int, length: int) -> bytes:
        """Read up to ``length`` bytes; shorter, even empty, where mapping ends."""

    def past_hole(self, addr: int) -> int:
        """Where memory may begin again behind ``addr``, which is not mapped.

        One short look: there may be another hole.  ``1 << 64`` if nothing follows.
        """

    def write_memory(self, addr: int, data: bytes) -> None:
        """Write all of ``data`` or, raising TargetError, none of it."""


@dataclass(frozen=True, slots=True)
class Region:
    """Mapped virtual memory, ``start`` to ``end`` (exclusive), and who may do what."""

    start: int
    end: int
    writable: bool = True
    executable: bool = True


@runtime_checkable
class SupportsRegions(Protocol):
    """What is mapped, for a core file of everything."""

    def regions(self) -> Sequence[Region]:
        """All of it, by growing address; what two regions share is in one only."""


@runtime_checkable
class SupportsBreakpoints(Protocol):
    """Breakpoints and watchpoints that leave guest memory untouched."""

    def insert_breakpoint(self, kind: BreakpointKind, addr: int, length: int) -> None:
        """Insert one; inserting it again changes nothing.

        ``length`` is gdb's "kind" for breakpoints, the size for watchpoints.
        Raises TargetError if it cannot be placed (a watch on unmapped memory).
        """

    def remove_breakpoint(self, kind: BreakpointKind, addr: int, length: int) -> None:
        """Remove one; removing what is not there changes nothing."""


@dataclass(frozen=True, slots=True)
class Action:
    """Resume ``thread`` (pid or tid may be ALL), one instruction or freely.

    Attributes:
        until: For a step: keep stepping while pc is in ``[start, end)`` (vCont;r).
    """

    thread: ThreadId
    step: bool = False
    until: tuple[int, int] | None = None


class Machine(Protocol):
    """All partitions, and the one way to let them run."""

    @property
    def description(self) -> str:
        """target.xml, the same for every inferior."""

    def inferiors(self) -> Sequence[Inferior]:
        """Every partition, by pid; the list only ever changes between stops."""

    def resume(self, actions: Sequence[Action]) -> "StopReason | Awaitable[StopReason]":
        """Let the named threads run; all others stay frozen.

        The first action that names a thread wins (vCont's rule).  A short, bounded run
        (a single step) may return its reason at once; otherwise the awaitable
        ends when something stops, and then everything is stopped again.
        """

    def interrupt(self) -> None:
        """Stop a run soon with SIGINT; does nothing if nothing runs."""

    def attach(self, pid: int | None = None) -> StopReason:
        """Stop one inferior, or (None) all that live, for the client.

        The reason is that of the one that stopped for a reason, else of the first.
        """

    def held(self) -> Sequence[Inferior]:
        """Those that the client holds, by pid; the others run on, unwatched.

        One that has ended is among them until a run has told the client of its end.
        """

    def detach(self, pid: int | None = None) -> None:
        """The client leaves one inferior, or (None) all: it runs on, unwatched.

        Its breakpoints are dropped.
        """

    def kill(self, pid: int) -> None:
        """End one partition for good; the others are not touched."""


@runtime_checkable
class SupportsStart(Protocol):
    """A machine whose partitions can be switched on (again)."""

    def start(self, pid: int) -> StopReason:
        """Switch one on for the client, which holds it from its first instruction."""


@runtime_checkable
class SupportsMonitor(Protocol):
    """The ``monitor`` command of gdb (qRcmd)."""

    def monitor(self, pid: int, line: str, *, read_only: bool = False) -> str:
        """Run one command with inferior ``pid`` current; the text ends in a newline.

        It may take seconds, and is called in a thread of its own, while nothing else
        is asked of the machine.  A wrong command, and one that changes something
        where ``read_only``, is answered with text that tells what to do, not raised.
        """
