# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine without a processor, for what is tested above it.

An "instruction" is one byte long and does nothing but let rip go on by one, or
to ``jumps[rip]``, and touch the byte at ``touches[rip]``, if there are such.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field

from stub import amd64
from stub.errors import Errno, TargetError
from stub.ids import ALL, ThreadId
from stub.stops import (
    AtBreakpoint,
    AtWatchpoint,
    Exited,
    Signal,
    Stopped,
    StopReason,
    Watch,
)
from stub.target import Action, BreakpointKind, Inferior, Region, Thread

_RIP = amd64.BY_NAME["rip"]
_EXPEDITED = [amd64.BY_NAME[name] for name in ("rip", "rsp", "rbp")]
_WATCH = {
    BreakpointKind.WRITE: Watch.WRITE,
    BreakpointKind.READ: Watch.READ,
    BreakpointKind.ACCESS: Watch.ACCESS,
}


@dataclass
class FakeInferior:
    """One partition with one CPU and some stretches of memory."""

    pid: int
    name: str = "fake"
    exec_file: str | None = None
    memory: dict[int, bytearray] = field(default_factory=dict)
    touches: dict[int, int] = field(default_factory=dict)
    jumps: dict[int, int] = field(default_factory=dict)
    alive: bool = True
    last_instruction: int | None = None  # the partition powers off there

    def __post_init__(self) -> None:
        """Give every register a recognizable value."""
        self.registers = bytearray(amd64.SIZE)
        self.breakpoints: set[tuple[BreakpointKind, int, int]] = set()
        self.set("part", self.pid)

    def get(self, name: str) -> int:
        row = amd64.BY_NAME[name]
        raw = self.registers[row.offset : row.offset + row.size]
        return int.from_bytes(raw, "little")

    def set(self, name: str, value: int) -> None:
        row = amd64.BY_NAME[name]
        raw = value.to_bytes(row.size, "little")
        self.registers[row.offset : row.offset + row.size] = raw

    def threads(self) -> Sequence[Thread]:
        return (Thread(1, f"{self.name}/cpu0", self.pid - 1, "running"),)

    def read_registers(self, tid: int) -> bytes:
        return bytes(self.registers)

    def write_registers(self, tid: int, data: bytes) -> None:
        self.registers[: len(data)] = data[: amd64.SIZE]

    def _row(self, number: int) -> amd64.Register:
        if number >= len(amd64.REGISTERS):
            raise TargetError(Errno.EINVAL, f"no register {number:#x}")
        return amd64.REGISTERS[number]

    def read_register(self, tid: int, number: int) -> bytes:
        row = self._row(number)
        return bytes(self.registers[row.offset : row.offset + row.size])

    def write_register(self, tid: int, number: int, data: bytes) -> None:
        row = self._row(number)
        if len(data) != row.size:
            raise TargetError(Errno.EINVAL, f"{row.name} has {row.size} bytes")
        self.registers[row.offset : row.offset + row.size] = data

    def _stretch(self, addr: int) -> tuple[int, bytearray]:
        for base, data in self.memory.items():
            if base <= addr < base + len(data):
                return addr - base, data
        return 0, bytearray()

    def read_memory(self, addr: int, length: int) -> bytes:
        offset, data = self._stretch(addr)
        return bytes(data[offset : offset + length])

    def past_hole(self, addr: int) -> int:
        return min((base for base in self.memory if base > addr), default=1 << 64)

    def regions(self) -> Sequence[Region]:
        return [Region(a, a + len(data)) for a, data in sorted(self.memory.items())]

    def write_memory(self, addr: int, data: bytes) -> None:
        offset, stretch = self._stretch(addr)
        if offset + len(data) > len(stretch):
            raise TargetError(Errno.EFAULT, f"{addr:#x} is not mapped")
        stretch[offset : offset + len(data)] = data

    def insert_breakpoint(self, kind: BreakpointKind, addr: int, length: int) -> None:
        if not self.read_memory(addr, 1):
            raise TargetError(Errno.EFAULT, f"{addr:#x} is not mapped")
        self.breakpoints.add((kind, addr, length))

    def remove_breakpoint(self, kind: BreakpointKind, addr: int, length: int) -> None:
        self.breakpoints.discard((kind, addr, length))

    def stopped(self, signal: int = Signal.TRAP) -> Stopped:
        return Stopped(self.thread, signal, self.expedited())

    @property
    def thread(self) -> ThreadId:
        return ThreadId(self.pid, 1)

    def expedited(self) -> dict[int, bytes]:
        return {row.number: self.read_register(1, row.number) for row in _EXPEDITED}

    def execute(self) -> StopReason | None:
        """Run one instruction; tell if something worth a stop happened."""
        rip = self.get("rip")
        if rip == self.last_instruction:
            self.alive = False
            return Exited(self.pid)
        following = self.jumps.get(rip, (rip + 1) % (1 << 64))
        self.set("rip", following)
        touched = self.touches.get(rip)
        for kind, addr, length in self.breakpoints:
            if kind in _WATCH and touched in range(addr, addr + length):
                return AtWatchpoint(
                    self.thread, Signal.TRAP, self.expedited(), _WATCH[kind], addr
                )
            if kind not in _WATCH and addr == following:
                hardware = kind is BreakpointKind.HARDWARE
                return AtBreakpoint(
                    self.thread, Signal.TRAP, self.expedited(), hardware
                )
        return None


class FakeMachine:
    """Several fake inferiors, and a log of what was asked of the machine."""

    description = amd64.description()

    def __init__(self, *inferiors: FakeInferior) -> None:
        self.all = inferiors
        self.log: list[str] = []
        self._held: set[int] = set()
        self._interrupted = asyncio.Event()

    def inferiors(self) -> Sequence[Inferior]:
        return self.all

    def inferior(self, pid: int) -> FakeInferior:
        return next(i for i in self.all if i.pid == pid)

    def attach(self, pid: int | None = None) -> StopReason:
        self.log.append("attach" if pid is None else f"attach {pid}")
        taken = [i for i in self.all if i.alive and pid in (None, i.pid)]
        self._held |= {inferior.pid for inferior in taken}
        return taken[0].stopped() if taken else Exited(self.all[0].pid)

    def held(self) -> Sequence[Inferior]:
        return [i for i in self.all if i.pid in self._held and i.alive]

    def detach(self, pid: int | None = None) -> None:
        self.log.append(f"detach {pid}")
        for inferior in self.all:
            if pid in (None, inferior.pid):
                inferior.breakpoints.clear()
                self._held.discard(inferior.pid)

    def kill(self, pid: int) -> None:
        self.log.append(f"kill {pid}")
        self.inferior(pid).alive = False

    def start(self, pid: int) -> StopReason:
        self.log.append(f"start {pid}")
        inferior = self.inferior(pid)
        inferior.alive = True
        self._held.add(pid)
        return inferior.stopped()

    def interrupt(self) -> None:
        self.log.append("interrupt")
        self._interrupted.set()

    def resume(self, actions: Sequence[Action]) -> StopReason | Awaitable[StopReason]:
        names = (f"{'s' if a.step else 'c'}:{a.thread}" for a in actions)
        self.log.append(f"resume {' '.join(names)}")
        chosen = [
            (i, a) for i in self.all if i.alive for a in (_named(i, actions),) if a
        ]
        if len(chosen) == 1 and chosen[0][1].step:
            return _step(*chosen[0])
        return self._run([inferior for inferior, _ in chosen])

    async def _run(self, running: list[FakeInferior]) -> StopReason:
        self._interrupted.clear()
        while not self._interrupted.is_set():
            for inferior in running:
                for _ in range(100):
                    reason = inferior.execute()
                    if reason is not None:
                        return reason
            await asyncio.sleep(0)
        return running[0].stopped(Signal.INT)


class MonitoredMachine(FakeMachine):
    """One that has a ``monitor`` command: it echoes."""

    def monitor(self, pid: int, line: str, *, read_only: bool = False) -> str:
        return f"{pid}: {line}\n" if line else ""


def _named(inferior: FakeInferior, actions: Sequence[Action]) -> Action | None:
    for action in actions:
        if action.thread.pid in (ALL, inferior.pid):
            return action
    return None


def _step(inferior: FakeInferior, action: Action) -> StopReason:
    start, end = action.until or (0, 0)
    while True:
        reason = inferior.execute()
        if reason is not None or not start <= inferior.get("rip") < end:
            return reason or inferior.stopped()


def two_partitions() -> MonitoredMachine:
    """Return a host and a guest, with a page at 0x1000 and one at the very top."""
    host, guest = FakeInferior(1, "host"), FakeInferior(2, "guest")
    for inferior in (host, guest):
        page = bytes(range(256)) * 16
        inferior.memory[0x1000] = bytearray(page)
        inferior.memory[0xFFFF_FFFF_FFFF_F000] = bytearray(page)
        inferior.set("rip", 0x1000)
        inferior.set("rsp", 0x2000)
    return MonitoredMachine(host, guest)
