# SPDX-License-Identifier: GPL-2.0-or-later
"""One partition as gdb sees it: registers, memory through its page tables, stops.

Used by the server's thread, and only while the machine stands still.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from nanokernel_vm.cpu.engine import NEVER
from nanokernel_vm.cpu.registers import Registers
from nanokernel_vm.cpu.state import RBP, RSP
from nanokernel_vm.debug.sight import Sight
from nanokernel_vm.partition import Condition, Outcome, Partition
from stub import amd64
from stub.errors import Errno, TargetError
from stub.ids import ThreadId
from stub.stops import (
    AtBreakpoint,
    AtWatchpoint,
    Exited,
    Signal,
    Stopped,
    StopReason,
    Watch,
)
from stub.target import BreakpointKind, Thread

_TID = 1
_WATCHES = {
    BreakpointKind.WRITE: Watch.WRITE,
    BreakpointKind.READ: Watch.READ,
    BreakpointKind.ACCESS: Watch.ACCESS,
}
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
        self._watchpoints: dict[
            tuple[BreakpointKind, int, int], list[tuple[int, int]]
        ] = {}
        self.killed = False
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
        return not self.killed and self.partition.condition is not Condition.SHUT_DOWN

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
        engine.prepare(stepping)

    def read_memory(self, addr: int, length: int) -> bytes:
        """Read through the page tables, up to the first byte that is not mapped."""
        partition = self.partition
        pieces = Sight(partition).pieces(addr, length)
        return b"".join(partition.window.read(pa, size) for pa, size in pieces)

    def write_memory(self, addr: int, data: bytes) -> None:
        """Write through the page tables, read-only pages too, all or nothing."""
        partition, done = self.partition, 0
        places = self._physical(addr, len(data))
        for pa, size in places:
            partition.window.write(pa, data[done : done + size])
            done += size

    def insert_breakpoint(self, kind: BreakpointKind, addr: int, length: int) -> None:
        """Insert a breakpoint at a virtual address, or a watch on the memory there."""
        if kind not in _WATCHES:
            self._breakpoints.add((kind, addr))
            self.partition.engine.insert_breakpoint(addr)
            return
        if (kind, addr, length) in self._watchpoints:
            return
        ranges = self._physical(addr, length)
        self._watchpoints[kind, addr, length] = ranges
        for pa, size in ranges:
            self.partition.engine.insert_watchpoint(
                kind != BreakpointKind.WRITE, kind != BreakpointKind.READ, pa, size
            )

    def remove_breakpoint(self, kind: BreakpointKind, addr: int, length: int) -> None:
        """Remove what ``insert_breakpoint`` inserted."""
        engine = self.partition.engine
        if kind not in _WATCHES:
            self._breakpoints.discard((kind, addr))
            if not any(place == addr for _, place in self._breakpoints):
                engine.remove_breakpoint(addr)
            return
        for pa, size in self._watchpoints.pop((kind, addr, length), []):
            engine.remove_watchpoint(
                kind != BreakpointKind.WRITE, kind != BreakpointKind.READ, pa, size
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
            case Outcome.DEAD if self.partition.condition is Condition.SHUT_DOWN:
                return Exited(self.pid)
            case Outcome.DEAD:
                return self.stopped(Signal.SEGV)
        return self.stopped()

    def _watch_reason(self) -> StopReason:
        ticker = self.partition.ticker
        for (kind, addr, _), ranges in self._watchpoints.items():
            if any(pa <= ticker.address < pa + size for pa, size in ranges) or any(
                ticker.address <= pa < ticker.address + 8 for pa, _ in ranges
            ):
                return AtWatchpoint(
                    self._thread, Signal.TRAP, self._expedited(), _WATCHES[kind], addr
                )
        return self.stopped()

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
