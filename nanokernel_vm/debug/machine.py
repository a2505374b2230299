# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine as the debugger's server wants it; implements ``stub.target.Machine``.

Every method here runs in the server's thread, or in that of a ``monitor`` command,
for which the server waits; the machine itself runs in one worker thread, except for a
single step, which is short and done at once.  Between runs the worker runs at most what
no client holds, which nobody here looks at, so that nothing needs a lock.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from nanokernel_vm.debug.inferior import PartitionInferior
from nanokernel_vm.machine import End, Machine
from nanokernel_vm.partition import Condition, Outcome, Partition
from stub import amd64
from stub.errors import Errno, TargetError
from stub.ids import ALL, ThreadId
from stub.stops import Exited, Killed, Signal, Stopped, StopReason
from stub.target import Action, Inferior

if TYPE_CHECKING:
    from nanokernel_vm.debug.monitor import Monitor

LOG = logging.getLogger(__name__)

_STEPS = 500  # of a range that are taken at once: a few milliseconds


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
        self._held: set[int] = set()
        machine.tells_restart = lambda p: p.pid in self._held
        # What the client is to be told yet of what it holds
        self._news: dict[int, Callable[[], StopReason]] = {}
        self._on_end = on_end
        self.unattended = False  # whether every partition runs with nobody there

    description = property(lambda self: amd64.description())

    def inferiors(self) -> Sequence[Inferior]:
        """Every partition, by pid."""
        return self._inferiors

    def held(self) -> Sequence[Inferior]:
        """Those that a client holds."""
        return self._holding()

    def _holding(self) -> list[PartitionInferior]:
        return [i for i in self._inferiors if i.pid in self._held]

    # -- a client holds the machine ------------------------------------------

    def attach(self, pid: int | None = None) -> StopReason:
        """Stop one or all; the reason is what one has failed of, or none in particular.

        Nothing else that happened is left of a run that nobody was watching.
        """
        self._stop_free_run()
        taken = [i for i in self._inferiors if i.alive and pid in (None, i.pid)]
        self._held.update(i.pid for i in taken)
        self._run_unheld()
        failed = [i for i in taken if i.partition.condition is Condition.FAILED]
        if failed:
            return failed[0].reason(Outcome.DEAD)
        return taken[0].stopped() if taken else Exited(self._inferiors[0].pid)

    def detach(self, pid: int | None = None) -> None:
        """Let one inferior, or the whole machine, run on unwatched."""
        for inferior in self._holding():
            if pid in (None, inferior.pid):
                inferior.remove_all()
                self._held.discard(inferior.pid)
        for left in self._news.keys() - self._held:
            del self._news[left]
        self._run_unheld()

    def kill(self, pid: int) -> None:
        """End one partition; the others are not touched."""
        self._stop_free_run()
        self._end(self._by_pid[pid])
        self._held.discard(pid)
        self._run_unheld()

    def end(self, partition: Partition) -> None:
        """End one at the word of ``monitor``; who holds it learns that by a stop."""
        self._stop_free_run()
        inferior = self._by_partition[partition]
        if inferior.alive:
            self._end(inferior)
            self._tell(inferior, lambda: Killed(inferior.pid))
        self._run_unheld()

    def power_off(self, partition: Partition) -> None:
        """Switch one off at the word of ``monitor``, as if it had done so itself."""
        self._stop_free_run()
        inferior = self._by_partition[partition]
        if inferior.alive:
            partition.life.condition = Condition.SHUT_DOWN
            partition.life.failure = "switched off by the debugger"
            self._tell(inferior, lambda: Exited(inferior.pid))
        self._run_unheld()

    def power_on(self, partition: Partition) -> None:
        """Switch one on, again if it is on, at the word of ``monitor``."""
        self._stop_free_run()
        self.machine.power_on(partition)
        inferior = self._by_partition[partition]
        self._tell(inferior, inferior.restarted)
        self._run_unheld()

    def start(self, pid: int) -> StopReason:
        """Switch one on, again if it is on, and hold it at its first instruction."""
        self._stop_free_run()
        inferior = self._by_pid[pid]
        self.machine.power_on(inferior.partition)
        self._held.add(pid)
        self._news.pop(pid, None)
        self._run_unheld()
        return inferior.stopped()

    def _tell(
        self, inferior: PartitionInferior, news: Callable[[], StopReason]
    ) -> None:
        if inferior.pid in self._held:
            self._news[inferior.pid] = news

    def _end(self, inferior: PartitionInferior) -> None:
        inferior.remove_all()
        inferior.partition.life.condition = Condition.SHUT_DOWN
        inferior.partition.life.failure = "killed by the debugger"
        left = [i.name for i in self._inferiors if i.partition.alive]
        LOG.warning(
            "%s was ended by a debugger: %s",
            inferior.name,
            f"there is still {', '.join(left)}"
            if left
            else "it was the last partition",
        )

    def interrupt(self) -> None:
        """Stop a client's run soon; what runs unwatched goes on."""
        if self._free is None:
            self.machine.interrupt()

    def resume(self, actions: Sequence[Action]) -> "StopReason | Awaitable[StopReason]":
        """Run as vCont says: the first action that names a thread wins."""
        if self._news:
            return self._told(self._news.pop(next(iter(self._news)))())
        chosen: dict[PartitionInferior, Action] = {}
        for action in actions:
            for inferior in self._named(action.thread):
                chosen.setdefault(inferior, action)
        if not chosen:
            raise TargetError(Errno.ESRCH, "what is to run has ended")
        self._stop_free_run()
        self.machine.arm()
        stepping = [(i, a) for i, a in chosen.items() if a.step]
        if len(chosen) == 1 and stepping:
            reason = self._step(*stepping[0])
            if reason is not None:
                self._run_unheld()
                return self._told(reason)
        for inferior, action in chosen.items():
            inferior.prepare(action.step)
        running = [i.partition for i in chosen] + self._unwatched()
        signal = self._named(actions[0].thread) or list(chosen)
        future = self._worker.submit(self._run, running, signal[0])
        return self._finish(future)

    async def _finish(self, run: Future[StopReason]) -> StopReason:
        reason = await asyncio.wrap_future(run)
        self._run_unheld()
        return self._told(reason)

    def _told(self, reason: StopReason) -> StopReason:
        """Let go of what the client now knows to have ended."""
        if not isinstance(reason, Stopped):
            self._held.discard(reason.pid)
            self._by_pid[reason.pid].remove_all()  # it may be switched on again
        return reason

    def _named(self, thread: ThreadId) -> list[PartitionInferior]:
        return [i for i in self._holding() if thread.pid in (ALL, i.pid)]

    def _unwatched(self) -> list[Partition]:
        return [i.partition for i in self._inferiors if i.pid not in self._held]

    def _step(self, inferior: PartitionInferior, action: Action) -> StopReason | None:
        """Step at once; None if the instruction waits (HLT) or the range is long."""
        partition = inferior.partition
        for _ in range(_STEPS if action.until else 1):
            if not partition.alive:
                return inferior.reason(Outcome.DEAD)
            inferior.prepare(stepping=True)
            until = partition.clock + self.machine.quantum
            outcome = self.machine.advance(partition, until)
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
                return first.stopped(
                    Signal.INT if result is End.INTERRUPTED else Signal.TRAP
                )
            partition, outcome = result
            if partition.pid not in self._held:
                running.remove(partition)
                continue
            return self._by_partition[partition].reason(outcome)

    # -- nobody holds it -----------------------------------------------------

    def run_freely(self) -> None:
        """Let every partition run until somebody attaches."""
        self._run_unheld()

    def _run_unheld(self) -> None:
        """Let go on what no client holds; with no client at all, to the very end."""
        self._stop_free_run()
        going = [
            i for i in self._inferiors if i.pid not in self._held and i.partition.alive
        ]
        if self._held and not going:
            return
        for inferior in going:
            inferior.prepare(stepping=False)
        self.machine.arm()
        self.unattended = not self._held
        self._free = self._worker.submit(self._run_free, [i.partition for i in going])
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

    def monitor(self, pid: int, line: str, *, read_only: bool = False) -> str:
        """Run one ``monitor`` command."""
        return self._monitor.run(self._by_pid[pid].partition, line, read_only=read_only)

    @cached_property
    def _monitor(self) -> "Monitor":
        # Not at the top: drgn and all that asks it would be a quarter of nk's start.
        from nanokernel_vm.debug.monitor import Monitor

        return Monitor(self.machine, self._symbols, self)

    def runs(self, partition: Partition) -> bool:
        """Whether a partition runs now, unwatched."""
        running = self._free is not None and not self._free.done()
        return running and partition.pid not in self._held and partition.alive
