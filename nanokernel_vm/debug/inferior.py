# SPDX-License-Identifier: GPL-2.0-or-later
"""One partition as gdb sees it: registers, memory through its page tables, stops.

Used by the server's thread, and only while the machine stands still.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from nanokernel_vm.cpu.engine import NEVER
from nanokernel_vm.cpu.paging import CR4_LA57, NO_EXECUTE, WRITABLE, past_hole
from nanokernel_vm.cpu.registers import Registers
from nanokernel_vm.cpu.state import RBP, RSP
from nanokernel_vm.cpu.watch import Access, Watch, pages
from nanokernel_vm.debug.sight import Sight
from nanokernel_vm.partition import Condition, Outcome, Partition
from stub import amd64, stops
from stub.errors import Errno, TargetError
from stub.ids import ThreadId
from stub.stops import (
    AtBreakpoint,
    AtWatchpoint,
    Exited,
    Restarted,
    Signal,
    Stopped,
    StopReason,
)
from stub.target import BreakpointKind, Region, Thread

_TID = 1
_WATCHES = {
    BreakpointKind.WRITE: (stops.Watch.WRITE, Access.WRITE),
    BreakpointKind.READ: (stops.Watch.READ, Access.READ),
    BreakpointKind.ACCESS: (stops.Watch.ACCESS, Access.READ | Access.WRITE),
}
WATCH_MAX = 1 << 20  # bytes: each TLB fill looks at every watched page
_HALF, _HALF_57 = 1 << 47, 1 << 56  # of canonical addresses (SDM vol. 1, 3.3.7.1)
_SPACE = 1 << 64
_EXPEDITED = (amd64.BY_NAME["rbp"], amd64.BY_NAME["rsp"], amd64.BY_NAME["rip"])


class PartitionInferior:
    """One partition as gdb sees it.

    Args:
        partition: The partition.
        exec_file: ELF file with its symbols, if there is one.
    """

    def __init__(self, partition: Partition, exec_file: Path | None) -> None:
        self.partition = partition
        self._exec_file = exec_file
        self._registers = Registers(partition.engine, partition.pid)
        self._breakpoints: set[tuple[BreakpointKind, int]] = set()
        self._watchpoints: dict[tuple[BreakpointKind, int, int], None] = {}
        self._came_to: int | None = None  # the pc, if it has been set since

    @property
    def pid(self) -> int:
        """Partition number, from 1."""
        return self.partition.pid

    @property
    def name(self) -> str:
        """Partition name."""
        return self.partition.name

    @property
    def exec_file(self) -> str | None:
        """Absolute path of the ELF file with its symbols."""
        return os.fspath(self._exec_file) if self._exec_file else None

    @property
    def alive(self) -> bool:
        """Whether there is still something to look at: all but what was ended."""
        return self.partition.condition is not Condition.SHUT_DOWN

    def threads(self) -> Sequence[Thread]:
        """The partition's one CPU."""
        partition = self.partition
        extra = partition.condition.value
        if partition.failure:
            extra += f": {partition.failure}"
        return (Thread(_TID, f"{partition.name}/cpu0", partition.pid - 1, extra),)

    def read_registers(self, tid: int) -> bytes:
        """All registers."""
        return self._registers.read_all()

    def write_registers(self, tid: int, data: bytes) -> None:
        """Set many registers."""
        self._moving(lambda: self._registers.write_all(data))

    def read_register(self, tid: int, number: int) -> bytes:
        """One register."""
        return self._registers.read(number)

    def write_register(self, tid: int, number: int, data: bytes) -> None:
        """Set one register."""
        self._moving(lambda: self._registers.write(number, data))

    def _moving(self, change: Callable[[], None]) -> None:
        if self._came_to is None:
            self._came_to = self.partition.engine.state.rip
        change()

    def prepare(self, stepping: bool) -> None:
        """Get ready to run: past a breakpoint here, unless the pc was set to it.

        A pc that is back where it was, as after a call of a function, was not set.
        """
        partition, engine = self.partition, self.partition.engine
        rip = engine.state.rip
        moved = self._came_to not in (None, rip)
        partition.ticker.passing = NEVER if moved else rip
        partition.ticker.steps = 2 if stepping else 0
        self._came_to = None
        self._watch()
        engine.prepare(stepping)

    def read_memory(self, addr: int, length: int) -> bytes:
        """Read through the page tables, up to the first byte that is not mapped."""
        partition = self.partition
        pieces = Sight(partition).pieces(addr, length)
        return b"".join(partition.window.read(pa, size) for pa, size in pieces)

    def past_hole(self, addr: int) -> int:
        """Where the next page-table entry begins, of the level that has none here."""
        space = Sight(self.partition).space_of(addr)
        return past_hole(space, self.partition.window.base, addr)

    def regions(self) -> Sequence[Region]:
        """What the page tables map."""
        return [
            Region(va, va + size, bool(flags & WRITABLE), not flags & NO_EXECUTE)
            for va, size, flags in Sight(self.partition).mapped()
        ]

    def write_memory(self, addr: int, data: bytes) -> None:
        """Write through the page tables, read-only pages too, all or nothing."""
        partition, done = self.partition, 0
        watched = partition.ticker.watched
        for pa, size in self._physical(addr, len(data)):
            partition.window.write(pa, data[done : done + size])
            done += size
        partition.ticker.watched = watched  # as it was: the client knows what it wrote

    def insert_breakpoint(self, kind: BreakpointKind, addr: int, length: int) -> None:
        """Insert a breakpoint at a virtual address, or a watch on what is there."""
        self._check(kind, addr, length)
        if kind not in _WATCHES:
            self._breakpoints.add((kind, addr))
            self.partition.engine.insert_breakpoint(addr)
        else:
            self._watchpoints[kind, addr, length] = None

    def remove_breakpoint(self, kind: BreakpointKind, addr: int, length: int) -> None:
        """Remove what ``insert_breakpoint`` inserted."""
        if kind in _WATCHES:
            self._watchpoints.pop((kind, addr, length), None)
            return
        self._breakpoints.discard((kind, addr))
        if not any(place == addr for _, place in self._breakpoints):
            self.partition.engine.remove_breakpoint(addr)

    def _check(self, kind: BreakpointKind, addr: int, length: int) -> None:
        """Refuse what no instruction can ever be at, or can ever access."""
        size = length if kind in _WATCHES else 1
        if size < 1:
            raise TargetError(Errno.EINVAL, f"{size} bytes cannot be watched")
        if size > WATCH_MAX:
            raise TargetError(
                Errno.EINVAL, f"{size} bytes are more than {WATCH_MAX}, the most"
            )
        half = _HALF_57 if self.partition.engine.state.cr[4] & CR4_LA57 else _HALF
        for va in (addr, addr + size - 1):
            if not (0 <= va < half or _SPACE - half <= va < _SPACE):
                raise TargetError(Errno.EINVAL, f"{va:#x} is not canonical")

    def _watch(self) -> None:
        """Let the engine watch what is inserted, at the places where it is now."""
        sight = Sight(self.partition)

        def place(va: int) -> int | None:
            page = sight.page(va)
            return None if page is None else page.pa

        self.partition.engine.watch(
            [
                Watch(addr, length, _WATCHES[kind][1], tuple(map(place, of)))
                for kind, addr, length in self._watchpoints
                for of in [pages(addr, length)]
            ]
        )

    def remove_all(self) -> None:
        """Remove every breakpoint and watchpoint."""
        for kind, addr in tuple(self._breakpoints):
            self.remove_breakpoint(kind, addr, 1)
        for kind, addr, length in tuple(self._watchpoints):
            self.remove_breakpoint(kind, addr, length)
        self.partition.engine.forget_breakpoints()

    def stopped(self, signal: int = Signal.TRAP) -> Stopped:
        """A plain stop here."""
        return Stopped(self._thread, signal, self._expedited())

    def restarted(self) -> Stopped:
        """It has been switched on again, and stands at its first instruction."""
        if self.exec_file is None:
            return self.stopped()
        return Restarted(self._thread, Signal.TRAP, self._expedited(), self.exec_file)

    def reason(self, outcome: Outcome) -> StopReason:
        """What gdb shall be told of ``outcome``."""
        match outcome:
            case Outcome.BREAKPOINT:
                hardware = (
                    BreakpointKind.SOFTWARE,
                    self.partition.engine.state.rip,
                ) not in self._breakpoints
                return AtBreakpoint(
                    self._thread, Signal.TRAP, self._expedited(), hardware
                )
            case Outcome.WATCH:
                return self._watch_reason()
            case Outcome.RESTARTED:
                return self.restarted()
            case Outcome.DEAD if self.partition.condition is Condition.SHUT_DOWN:
                return Exited(self.pid)
            case Outcome.DEAD:
                return self.stopped(Signal.SEGV)
        return self.stopped()

    def _watch_reason(self) -> StopReason:
        """By what was inserted: so gdb knows it."""
        watch = self.partition.engine.touched
        if watch is None:
            return self.stopped()
        kind = next(
            reported for reported, kinds in _WATCHES.values() if kinds == watch.kinds
        )
        return AtWatchpoint(
            self._thread, Signal.TRAP, self._expedited(), kind, watch.begin
        )

    @property
    def _thread(self) -> ThreadId:
        return ThreadId(self.pid, _TID)

    def _expedited(self) -> dict[int, bytes]:
        state = self.partition.engine.state
        values = (state.regs[RBP], state.regs[RSP], state.rip)
        return {
            register.number: value.to_bytes(8, "little")
            for register, value in zip(_EXPEDITED, values, strict=True)
        }

    def _physical(self, addr: int, length: int) -> list[tuple[int, int]]:
        pieces = list(Sight(self.partition).pieces(addr, length))
        end = addr + sum(size for _, size in pieces)
        if end < addr + length:
            raise TargetError(Errno.EFAULT, f"{end:#x} is not mapped")
        return pieces
