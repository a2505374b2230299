# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine as the debugger's server wants it; implements ``stub.target.Machine``.

Every method here runs in the server's thread; the machine itself runs in one worker
thread, except for a single step, which is short and done at once.  Between runs the
worker runs at most what was detached, which nobody here looks at, so that nothing
needs a lock.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from nanokernel_vm.debug.inferior import PartitionInferior
from nanokernel_vm.machine import End, Machine
from nanokernel_vm.partition import Condition, Outcome, Partition
from stub import amd64
from stub.ids import ALL, ThreadId
from stub.stops import Signal, Stopped, StopReason
from stub.target import Action, Inferior

if TYPE_CHECKING:
    from nanokernel_vm.debug.monitor import Monitor


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
        self._symbols = symbols
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="machine")
        self._free: Future[None] | None = None
        self._detached: set[int] = set()
        self._on_end = on_end
        self.unattended = False  # whether every partition runs with nobody there
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
        else:
            self._run_unwatched()

    def kill(self, pid: int) -> None:
        """End one partition; the others are not touched."""
        self._stop_free_run()
        inferior = self._by_pid[pid]
        inferior.remove_all()
        inferior.killed = True
        inferior.partition.condition = Condition.SHUT_DOWN
        inferior.partition.failure = "killed by the debugger"
        self._run_unwatched()

    def interrupt(self) -> None:
        """Stop a client's run soon; what runs unwatched goes on."""
        if self._free is None:
            self.machine.interrupt()

    def resume(self, actions: Sequence[Action]) -> "StopReason | Awaitable[StopReason]":
        """Run as vCont says: the first action that names a thread wins."""
        chosen: dict[PartitionInferior, Action] = {}
        for action in actions:
            for inferior in self._named(action.thread):
                chosen.setdefault(inferior, action)
        self._stop_free_run()
        self.machine.arm()
        stepping = [(i, a) for i, a in chosen.items() if a.step]
        if len(chosen) == 1 and stepping:
            reason = self._step(*stepping[0])
            if reason is not None:
                self._last = reason
                self._run_unwatched()
                return reason
        for inferior, action in chosen.items():
            inferior.prepare(action.step)
        running = [i.partition for i in chosen] + self._unwatched()
        signal = self._named(actions[0].thread)[0] if actions else self._inferiors[0]
        future = self._worker.submit(self._run, running, signal)
        return self._finish(future)

    async def _finish(self, run: Future[StopReason]) -> StopReason:
        reason = await asyncio.wrap_future(run)
        self._run_unwatched()
        return reason

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

    def _step(self, inferior: PartitionInferior, action: Action) -> StopReason | None:
        """Step at once; None if the instruction waits (HLT) or the range is long."""
        partition = inferior.partition
        for _ in range(10_000 if action.until else 1):
            if not partition.alive:
                return inferior.reason(Outcome.DEAD)
            inferior.prepare(stepping=True)
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
        self._run_on(self._inferiors)

    def _run_unwatched(self) -> None:
        """Let what was detached go on while the client looks at the others."""
        if self._detached:
            self._run_on([i for i in self._inferiors if i.pid in self._detached])

    def _run_on(self, inferiors: Sequence[PartitionInferior]) -> None:
        self._stop_free_run()
        for inferior in inferiors:
            inferior.prepare(stepping=False)
        self.machine.arm()
        self.unattended = len(inferiors) == len(self._inferiors)
        running = [i.partition for i in inferiors if i.partition.alive]
        self._free = self._worker.submit(self._run_free, running)
        self._free.add_done_callback(lambda _: self._on_end())

    def _run_free(self, running: list[Partition]) -> None:
        while running:
            result = self.machine.run(running)
            if isinstance(result, End):
                return
            running.remove(result[0])

    @property
    def broken(self) -> bool:
        """Whether a free run has ended in an exception; ``close`` raises it."""
        free = self._free
        return free is not None and free.done() and free.exception() is not None

    def _stop_free_run(self) -> None:
        self.unattended = False
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

    @cached_property
    def _monitor(self) -> "Monitor":
        # Not at the top: drgn and all that asks it would be a quarter of nk's start.
        from nanokernel_vm.debug.monitor import Monitor

        return Monitor(self.machine, self._symbols, self._runs)

    def _runs(self, partition: Partition) -> bool:
        """Whether a partition runs now, unwatched."""
        running = self._free is not None and not self._free.done()
        return running and partition.pid in self._detached and partition.alive
