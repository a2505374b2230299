# SPDX-License-Identifier: GPL-2.0-or-later
"""All partitions on one RAM, and the scheduler that gives each its turn.

One CPU's time is dealt out in quanta of virtual time, on a fixed grid of each
partition's own clock: host and guest in turn, an idle one yielding at once.  When all
are idle, the machine sleeps until the next deadline or, with ``warp``, is there at
once.  Nothing that a partition sees depends on the time that this takes outside.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum

from nanokernel_vm.board import Board
from nanokernel_vm.clock import TICKS_PER_MS, TICKS_PER_SECOND
from nanokernel_vm.config import MachineConfig, OnReboot
from nanokernel_vm.errors import LoadError
from nanokernel_vm.memory import Ram
from nanokernel_vm.partition import Condition, Outcome, Partition

_MAIL, _BACKLOG = 4, 1 << 16  # pieces and bytes typed that may wait to be received
_MAX_DEBT = (
    0.25  # seconds by which the machine may be late before it gives up catching up
)


_LOG = logging.getLogger(__name__)

# What a reset takes: a kernel that does nothing else leaves the others their turns
RESET = 100 * TICKS_PER_MS


class End(Enum):
    """Why ``Machine.run`` returned without a stop of one partition."""

    INTERRUPTED = "interrupted"
    REACHED = "reached"
    STILL = "nothing runs"


class Machine:
    """The emulated PC.

    Args:
        config: What is on it; its images are loaded at once.
        warp: Skip idle time instead of sleeping through it.

    Attributes:
        goal: Whether ``run`` has come to where it was to go.
        tells_restart: Whether ``run`` returns when a partition has begun anew.
    """

    def __init__(self, config: MachineConfig, warp: bool = False) -> None:
        self.config = config
        self.ram = Ram(config.ram_size)
        self.boards: list[Board] = [
            Board(p, self.ram, config) for p in config.partitions
        ]
        self.partitions = [board.partition for board in self.boards]
        self.warp = warp
        self.goal: Callable[[], bool] = lambda: False
        self.tells_restart: Callable[[Partition], bool] = lambda _: False
        self.quantum = config.quantum_ms * TICKS_PER_MS
        self._mail: deque[tuple[Board, bytes]] = deque()
        self._wake = threading.Event()
        self._interrupted = False
        self._turn = 0
        self._elapsed = 0  # ticks dealt out, by which real time is kept
        self._anchor: float | None = None

    def board(self, name: str) -> Board | None:
        """The board of the partition called ``name``."""
        return next((b for b in self.boards if b.partition.name == name), None)

    # -- from other threads --------------------------------------------------

    def interrupt(self) -> None:
        """End ``run`` soon."""
        self._interrupted = True
        for partition in self.partitions:
            partition.engine.interrupt()
        self._wake.set()

    def type(self, board: Board, data: bytes) -> None:
        """Type ``data`` at a partition's console."""
        self._mail.append((board, data))
        self._wake.set()

    def listens(self, board: Board) -> bool:
        """Whether what is typed would be taken soon; who types should wait for it."""
        pending = len(self._mail) + len(board.partition.life.inputs)
        return pending < _MAIL and board.console_backlog < _BACKLOG

    # -- in the machine's thread ---------------------------------------------

    def arm(self) -> None:
        """Forget an interrupt that came when nothing ran; call before ``run``."""
        self._interrupted = False
        for partition in self.partitions:
            partition.ticker.interrupt = 0

    def run(self, running: Sequence[Partition]) -> tuple[Partition, Outcome] | End:
        """Run ``running`` until one stops or dies, or the goal is reached."""
        self._anchor = None
        while True:
            for partition in self._in_turn(running):
                self._deliver_mail()
                if partition.alive:
                    until = (partition.clock // self.quantum + 1) * self.quantum
                    outcome = self._take_turn(partition, until)
                    if outcome is Outcome.INTERRUPT:
                        partition.ticker.interrupt = 0
                        outcome = Outcome.QUANTUM if not self._interrupted else outcome
                    if outcome is not Outcome.QUANTUM:
                        return self._stopped(partition, outcome)
            self._elapsed += self.quantum
            if self._interrupted:
                return End.INTERRUPTED
            if self.goal():
                return End.REACHED
            alive = [p for p in running if p.alive]
            if not alive:
                return End.STILL
            if all(p.condition is Condition.IDLE for p in alive):
                self._sleep(alive)

    def advance(self, partition: Partition, until: int) -> Outcome:
        """Run one; switch it on again if it has reset itself and is to be restarted."""
        outcome = partition.run(until)
        restarts = self._board_of(partition).config.on_reboot is OnReboot.RESTART
        if outcome is Outcome.DEAD and restarts and partition.restart_wanted:
            _LOG.warning("partition %s resets itself and starts again", partition.name)
            self._power_on(partition)
            if partition.alive:
                partition.rest(RESET)
            return Outcome.RESTARTED
        return outcome

    def power_on(self, partition: Partition) -> None:
        """Switch one on (again), whatever its condition; between runs.

        Time has gone on while it was off: where it has in the machine.
        """
        if not partition.alive:
            partition.ticker.clock = max(p.clock for p in self.partitions)
        self._power_on(partition)

    def _power_on(self, partition: Partition) -> None:
        try:
            self._board_of(partition).power_on()
        except LoadError as error:
            partition.fail(f"it cannot be started again: {error}")

    def _board_of(self, partition: Partition) -> Board:
        return next(b for b in self.boards if b.partition is partition)

    def _take_turn(self, partition: Partition, until: int) -> Outcome:
        """Advance one over restarts that nobody asked to be told of."""
        while True:
            outcome = self.advance(partition, until)
            if outcome is not Outcome.RESTARTED or self.tells_restart(partition):
                return outcome

    def _in_turn(self, running: Sequence[Partition]) -> Sequence[Partition]:
        """This round's order: a round that a stop cut short is finished first."""
        late = [p for p in running if p.pid >= self._turn]
        self._turn = 0
        return late

    def _stopped(
        self, partition: Partition, outcome: Outcome
    ) -> tuple[Partition, Outcome] | End:
        self._turn = partition.pid
        if outcome is Outcome.INTERRUPT:
            self._interrupted = False
            return End.INTERRUPTED
        return partition, outcome

    def _deliver_mail(self) -> None:
        while self._mail:
            board, data = self._mail.popleft()
            if board.console_input is not None:
                board.partition.type(board.console_input, data)

    def _sleep(self, idle: Sequence[Partition]) -> None:
        """All are idle: let their clocks go on to the round of the next deadline."""
        distances = [d - p.clock for p in idle if (d := p.deadline()) is not None]
        ticks = min(distances, default=None)
        if not self.warp:
            ticks = self._wait(ticks)
        elif ticks is None:
            ticks = self._wait(None)
        rounds = max(ticks, 0) // self.quantum
        self._elapsed += rounds * self.quantum
        for partition in idle:
            partition.ticker.clock += rounds * self.quantum

    def _wait(self, ticks: int | None) -> int:
        """Sleep ``ticks`` of virtual time or until woken; how long it was, in ticks."""
        now = time.monotonic()
        if self._anchor is None or now - self._due() > _MAX_DEBT:
            self._anchor = now - self._elapsed / TICKS_PER_SECOND
        self._wake.clear()
        if self._mail or self._interrupted:
            return 0
        timeout = None
        if ticks is not None:
            timeout = self._due() + ticks / TICKS_PER_SECOND - now
            if timeout <= 0:
                return ticks
        if not self._wake.wait(timeout) and ticks is not None:
            return ticks
        waited = int((time.monotonic() - now) * TICKS_PER_SECOND)
        return waited if ticks is None else min(waited, ticks)

    def _due(self) -> float:
        """The real time at which the present moment is due."""
        return (self._anchor or 0.0) + self._elapsed / TICKS_PER_SECOND
