# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine as the debugger's server wants it: partitions as inferiors.

Every method here runs in the server's thread; the machine itself runs in one worker
thread, except for a single step, which is short and done at once.  Between runs the
worker is idle, so that nothing here needs a lock.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from nanokernel_vm.cpu.delivery import address_space
from nanokernel_vm.cpu.registers import Registers
from nanokernel_vm.cpu.state import RBP, RSP
from nanokernel_vm.machine import End, Machine
from nanokernel_vm.monitor import Monitor
from nanokernel_vm.partition import Condition, Outcome, Partition
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
from stub.target import Action, BreakpointKind, Inferior, Thread

_TID = 1
_WATCHES = {
    BreakpointKind.WRITE: Watch.WRITE,
    BreakpointKind.READ: Watch.READ,
    BreakpointKind.ACCESS: Watch.ACCESS,
}
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
        self._watchpoints: dict[
            tuple[BreakpointKind, int, int], list[tuple[int, int]]
        ] = {}
        self.killed = False

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
        self._registers.write_all(data)

    def read_register(self, tid: int, number: int) -> bytes:
        """One register."""
        return self._registers.read(number)

    def write_register(self, tid: int, number: int, data: bytes) -> None:
        """Set one register."""
        self._registers.write(number, data)

    def read_memory(self, addr: int, length: int) -> bytes:
        """Read through the page tables, up to the first byte that is not mapped."""
        partition, pieces, got = self.partition, [], 0
        space = address_space(partition.engine.state, partition.window)
        length = min(length, _SPACE - addr)
        while got < length:
            page = space.page(addr + got)
            if page is None:
                break
            piece = partition.window.read(page.pa, min(page.left, length - got))
            pieces.append(piece)
            got += len(piece)
        return b"".join(pieces)

    def write_memory(self, addr: int, data: bytes) -> None:
        """Write through the page tables, read-only pages too, all or nothing."""
        partition, places, done = self.partition, [], 0
        space = address_space(partition.engine.state, partition.window)
        while done < len(data):
            page = space.page(addr + done) if addr + done < _SPACE else None
            if page is None:
                raise TargetError(Errno.EFAULT, f"{addr + done:#x} is not mapped")
            length = min(page.left, len(data) - done)
            places.append((page.pa, data[done : done + length]))
            done += length
        for pa, piece in places:
            partition.window.write(pa, piece)
        partition.engine.flush_translations()

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
        partition, ranges, done = self.partition, [], 0
        space = address_space(partition.engine.state, partition.window)
        while done < length:
            page = space.page(addr + done)
            if page is None:
                raise TargetError(Errno.EFAULT, f"{addr + done:#x} is not mapped")
            size = min(page.left, length - done)
            ranges.append((page.pa, size))
            done += size
        return ranges


class DebugMachine:
    """All partitions as inferiors; implements ``stub.target.Machine``.

    Args:
        machine: The machine.
        symbols: ELF files with symbols, by partition name.
        on_end: Called in the server's thread when a free run has ended by itself.
    """

    def __init__(
        self,
        machine: Machine,
        symbols: dict[str, Path],
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.machine = machine
        self._inferiors = [
            PartitionInferior(p, symbols.get(p.name)) for p in machine.partitions
        ]
        self._by_pid = {inferior.pid: inferior for inferior in self._inferiors}
        self._by_partition = {i.partition: i for i in self._inferiors}
        self._monitor = Monitor(machine)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="machine")
        self._free: Future[None] | None = None
        self._detached: set[int] = set()
        self._on_end = on_end
        self._last: StopReason = self._inferiors[0].stopped(Signal.NONE)

    description = property(lambda self: amd64.description())

    def inferiors(self) -> Sequence[Inferior]:
        """Every partition, by pid."""
        return self._inferiors

    # -- a client holds the machine ------------------------------------------

    def attach(self) -> StopReason:
        """Stop the free run; the reason is the last stop, or none in particular."""
        self._stop_free_run()
        self._detached.clear()
        if (
            isinstance(self._last, Stopped)
            and self._by_pid[self._last.thread.pid].alive
        ):
            inferior = self._by_pid[self._last.thread.pid]
        else:
            inferior = next((i for i in self._inferiors if i.alive), self._inferiors[0])
        return inferior.stopped(Signal.TRAP)

    def detach(self, pid: int | None = None) -> None:
        """Let one inferior, or the whole machine, run on unwatched."""
        gone = self._inferiors if pid is None else [self._by_pid[pid]]
        for inferior in gone:
            inferior.remove_all()
            self._detached.add(inferior.pid)
        if (
            pid is None
            or not {i.pid for i in self._inferiors if i.alive} - self._detached
        ):
            self.run_freely()

    def kill(self, pid: int) -> None:
        """End one partition; the others are not touched."""
        inferior = self._by_pid[pid]
        inferior.remove_all()
        inferior.killed = True
        inferior.partition.condition = Condition.SHUT_DOWN
        inferior.partition.failure = "killed by the debugger"

    def interrupt(self) -> None:
        """Stop a run soon."""
        self.machine.interrupt()

    def resume(self, actions: Sequence[Action]) -> "StopReason | Awaitable[StopReason]":
        """Run as vCont says: the first action that names a thread wins."""
        chosen: dict[PartitionInferior, Action] = {}
        for action in actions:
            for inferior in self._named(action.thread):
                chosen.setdefault(inferior, action)
        self.machine.arm()
        stepping = [(i, a) for i, a in chosen.items() if a.step]
        if len(chosen) == 1 and stepping:
            reason = self._step(*stepping[0])
            if reason is not None:
                self._last = reason
                return reason
        for inferior, action in chosen.items():
            self._prepare(inferior, action.step)
        running = [i.partition for i in chosen] + self._unwatched()
        signal = self._named(actions[0].thread)[0] if actions else self._inferiors[0]
        future = self._worker.submit(self._run, running, signal)
        return asyncio.wrap_future(future)

    def _named(self, thread: ThreadId) -> list[PartitionInferior]:
        everything = thread.pid == ALL
        return [
            i
            for i in self._inferiors
            if (everything or i.pid == thread.pid)
            and not i.killed
            and i.pid not in self._detached
        ]

    def _unwatched(self) -> list[Partition]:
        return [self._by_pid[pid].partition for pid in sorted(self._detached)]

    def _prepare(self, inferior: PartitionInferior, step: bool) -> None:
        partition = inferior.partition
        partition.ticker.passing = partition.engine.state.rip
        partition.ticker.steps = 2 if step else 0
        partition.engine.prepare(step)

    def _step(self, inferior: PartitionInferior, action: Action) -> StopReason | None:
        """Step at once; None if the instruction waits (HLT) or the range is long."""
        partition = inferior.partition
        for _ in range(10_000 if action.until else 1):
            if not partition.alive:
                return inferior.reason(Outcome.DEAD)
            self._prepare(inferior, step=True)
            outcome = partition.run(partition.clock + self.machine.quantum)
            partition.ticker.steps = 0
            if outcome is Outcome.QUANTUM:
                return None
            start, end = action.until or (0, 0)
            if (
                outcome is not Outcome.STEP
                or not start <= partition.engine.state.rip < end
            ):
                return inferior.reason(outcome)
        return inferior.stopped()

    def _run(
        self, running: Sequence[Partition], first: PartitionInferior
    ) -> StopReason:
        """In the machine's thread: until something that gdb must know of."""
        running = list(running)
        while True:
            result = self.machine.run(running)
            for partition in self.machine.partitions:
                partition.ticker.steps = 0
            if isinstance(result, End):
                self._last = first.stopped(
                    Signal.INT if result is End.INTERRUPTED else Signal.TRAP
                )
                return self._last
            partition, outcome = result
            if partition.pid in self._detached:
                running.remove(partition)
                continue
            self._last = self._by_partition[partition].reason(outcome)
            return self._last

    # -- nobody holds it -----------------------------------------------------

    def run_freely(self) -> None:
        """Let every partition run until somebody attaches."""
        self._stop_free_run()
        for inferior in self._inferiors:
            inferior.partition.ticker.steps = 0
            inferior.partition.ticker.passing = inferior.partition.engine.state.rip
            inferior.partition.engine.prepare(stepping=False)
        self.machine.arm()
        self._free = self._worker.submit(self._run_free)
        self._free.add_done_callback(lambda _: self._on_end())

    def _run_free(self) -> None:
        running = [p for p in self.machine.partitions if p.alive]
        while running:
            result = self.machine.run(running)
            if isinstance(result, End):
                return
            running.remove(result[0])

    def _stop_free_run(self) -> None:
        free, self._free = self._free, None
        if free is not None:
            if not free.done():
                self.machine.interrupt()
            free.result()

    def close(self) -> None:
        """Stop for good."""
        self._stop_free_run()
        self._worker.shutdown()

    # -- monitor -------------------------------------------------------------

    def monitor(self, pid: int, line: str) -> str:
        """Run one ``monitor`` command."""
        return self._monitor.run(self._by_pid[pid].partition, line)
