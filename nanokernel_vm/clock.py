# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual time: one tick is one retired instruction byte.

A partition's clock advances by the length of every instruction that it retires, by a
fixed time for each access to a device and each delivery, and by a jump to the next
deadline when it is idle.  Nothing else moves it, so that a run is the same whatever the
host's clock, the debugger or the translator do.
"""

from typing import Protocol

TICKS_PER_SECOND = 400_000_000
TICKS_PER_MS = TICKS_PER_SECOND // 1000
# What is due later, in 182 years, never comes: no sum of a clock and a guest's wish
# leaves 64 bits, be it in nanoseconds or as a time stamp, nor what a thread can wait.
END = 1 << 61


class Clock(Protocol):
    """What a device may know of time."""

    def now(self) -> int:
        """Ticks since the machine was switched on; never goes back."""


def nanoseconds(ticks: int) -> int:
    """Convert ticks to virtual nanoseconds, rounding down."""
    return ticks * 5 // 2


def ticks(nanoseconds: int) -> int:
    """Convert virtual nanoseconds to ticks, rounding up."""
    return -(-nanoseconds * 2 // 5)
