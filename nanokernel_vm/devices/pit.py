# SPDX-License-Identifier: GPL-2.0-or-later
"""The 8254 interval timer: three counters on a 1,193,182 Hz clock.

Reference: Intel 82C54 datasheet (231244-006), "Mode definitions" and "Read/Write
operations".  All modes, gates, latches, read-back and BCD are done, with two liberties:
modes 1 and 5 start with their gate, not a cycle after it, and an odd count of mode 3
reads as if both its halves were equal.
"""

from collections.abc import Callable

from nanokernel_vm.clock import TICKS_PER_SECOND, Clock
from nanokernel_vm.devices.bus import reads, writes
from nanokernel_vm.devices.chip import Chip, at
from nanokernel_vm.devices.counter import Counter
from nanokernel_vm.devices.timed import TimedDevice, asleep

FREQUENCY = 1_193_182

COUNTER0, COUNTER1, COUNTER2, CONTROL = 0, 1, 2, 3

# Control word: bits 7-6 counter (3: read-back), 5-4 access, 3-1 mode, 0 BCD
READ_BACK = 3
READ_BACK_NO_COUNT = 0x20  # do not latch the count
READ_BACK_NO_STATUS = 0x10
LATCH = 0  # access


def cycles(ticks: int) -> int:
    """Return how many cycles of the timer's clock have passed at ``ticks``."""
    return ticks * FREQUENCY // TICKS_PER_SECOND


def ticks_at(cycle: int) -> int:
    """Return the first tick at which ``cycle`` cycles have passed."""
    return -(-cycle * TICKS_PER_SECOND // FREQUENCY)


class Pit8254(TimedDevice):
    """Three counters; the first one interrupts.

    Args:
        irq: Called with the level of counter 0's OUT, pulsed low where it ends.
        clock: Virtual time.
        wake: Called when the deadline has become earlier.
    """

    SIZE = 4
    WIRING = (*TimedDevice.WIRING, "_irq", "_clock")

    def __init__(
        self,
        irq: Callable[[bool], None],
        clock: Clock,
        wake: Callable[[], None] = asleep,
    ) -> None:
        super().__init__(wake)
        self._irq, self._clock = irq, clock
        self._counters = (Counter(), Counter(), Counter(gate=False))

    # The board's side

    def set_gate(self, level: bool) -> None:
        """Set the gate of counter 2; the others' are always high."""
        self._counters[2].set_gate(level, self._cycle())

    def out(self) -> bool:
        """Return the level of counter 2's OUT."""
        return self._counters[2].out(self._cycle())

    def expire(self, now: int) -> None:
        """Raise the interrupt that is due; those missed since are one with it."""
        if self._deadline is None or now < self._deadline:
            return
        # OUT is low for part of the period only: what counts is the edge
        self._irq(False)
        self._irq(True)
        self._expect_rise(cycles(now))

    def _expect_rise(self, cycle: int) -> None:
        rise = self._counters[0].next_rise(cycle)
        self._set_deadline(None if rise is None else ticks_at(rise))

    def _cycle(self) -> int:
        return cycles(self._clock.now())

    # The CPU's side

    @reads(COUNTER0)
    def _read0(self) -> int:
        return self._counters[0].read(self._cycle())

    @reads(COUNTER1)
    def _read1(self) -> int:
        return self._counters[1].read(self._cycle())

    @reads(COUNTER2)
    def _read2(self) -> int:
        return self._counters[2].read(self._cycle())

    @writes(COUNTER0)
    def _write0(self, value: int) -> None:
        cycle = self._cycle()
        self._counters[0].write(value, cycle)
        self._irq(self._counters[0].out(cycle))
        self._expect_rise(cycle)

    @writes(COUNTER1)
    def _write1(self, value: int) -> None:
        self._counters[1].write(value, self._cycle())

    @writes(COUNTER2)
    def _write2(self, value: int) -> None:
        self._counters[2].write(value, self._cycle())

    @writes(CONTROL)
    def _write_control(self, value: int) -> None:
        which, cycle = value >> 6, self._cycle()
        if which == READ_BACK:
            self._read_back(value, cycle)
        elif value >> 4 & 3 == LATCH:
            self._counters[which].latch(cycle)
        else:
            self._counters[which].program(value)
            if which == 0:
                self._irq(self._counters[0].out(cycle))
                self._expect_rise(cycle)

    def _read_back(self, value: int, cycle: int) -> None:
        for i, counter in enumerate(self._counters):
            if value & 2 << i and not value & READ_BACK_NO_COUNT:
                counter.latch(cycle)
            if value & 2 << i and not value & READ_BACK_NO_STATUS:
                counter.latch_status(cycle)


CHIP = Chip(
    "pit",
    (at(0x40, 4),),
    lambda slot, line: (Pit8254(line, slot.clock, slot.wake),),
    irq=0,
)
