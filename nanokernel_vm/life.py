# SPDX-License-Identifier: GPL-2.0-or-later
"""A partition's life: all that begins anew each time that it is switched on.

What outlasts it is elsewhere: the clock, logs, the console, what a debugger has set.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from nanokernel_vm.clock import TICKS_PER_MS

TLB_GRID = 20 * TICKS_PER_MS


class Condition(Enum):
    """Where a partition's life stands."""

    RUNNING = "running"
    IDLE = "idle"
    SHUT_DOWN = "shut down"
    FAILED = "failed"


ALIVE = (Condition.RUNNING, Condition.IDLE)


class Wish(Enum):
    """What a partition has asked for, which ends this life."""

    SHUT_DOWN = "shut down"
    RESTART = "restart"


@dataclass(slots=True)
class Life:
    """From one power-on to the next.

    Attributes:
        condition: Where it stands.
        failure: Why it has ended, in words; empty: it has not, or as it wished.
        inputs: What arrives at which device when, in ticks: the earliest first.
        poll: When an interrupt is tried again, in ticks.
        wish: How it ends at the next eligible entry, or has ended.
        refused: Where a port was used without the right.
        doomed: Why it fails before its next jump.
        masked: Since when every turn has ended with IF clear, in ticks.
        entered_at: The clock when a handler was entered last.
        fruitless: Deliveries since then with no instruction between them.
        forget: When all cached translations of addresses go, in ticks.
        rests: Until when it is idle whatever comes, in ticks.
    """

    condition: Condition = Condition.RUNNING
    failure: str = ""
    inputs: deque[tuple[int, Callable[[bytes], None], bytes]] = field(
        default_factory=deque
    )
    poll: int | None = None
    wish: Wish | None = None
    refused: int | None = None
    doomed: str = ""
    masked: int | None = None
    entered_at: int = 0
    fruitless: int = 0
    forget: int = TLB_GRID
    rests: int | None = None

    @classmethod
    def at(cls, now: int) -> "Life":
        """One that begins at ``now`` ticks."""
        return cls(entered_at=now, forget=next_flush(now))

    @property
    def alive(self) -> bool:
        """Whether it can still run."""
        return self.condition in ALIVE

    @property
    def is_ending(self) -> bool:
        """Whether something ends or interrupts it before any deadline."""
        return self.wish is not None or self.refused is not None or bool(self.doomed)

    def fail(self, why: str) -> bool:
        """End it by a fault; whether it had not ended before."""
        return self._become(Condition.FAILED, why)

    def end(self, why: str = "") -> bool:
        """End it as it wished; whether it had not ended before."""
        return self._become(Condition.SHUT_DOWN, why)

    def _become(self, condition: Condition, why: str) -> bool:
        if not self.alive:
            return False
        self.condition, self.failure = condition, why
        return True

    def plain(self) -> dict[str, object]:
        """What the run to come depends on, as plain data."""
        return {
            "condition": self.condition,
            "failure": self.failure,
            "inputs": [(time, data) for time, _, data in self.inputs],
            "poll": self.poll,
            "wish": self.wish,
            "refused": self.refused,
            "doomed": self.doomed,
            "forget": self.forget,
            "rests": self.rests,
        }


def next_flush(now: int) -> int:
    """The next moment of the grid on which the TLB is flushed."""
    return (now // TLB_GRID + 1) * TLB_GRID
