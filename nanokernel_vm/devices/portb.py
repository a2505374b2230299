# SPDX-License-Identifier: GPL-2.0-or-later
"""System control port B (0x61): timer 2's gate and output, the refresh toggle.

Reference: IBM PC/AT Technical Reference, "System board: port B".  Linux calibrates the
TSC through it (arch/x86/kernel/tsc.c: quick_pit_calibrate, pit_calibrate_tsc).  There
is no loudspeaker, parity or channel check: their enable bits are only kept.
"""

from collections.abc import Callable, Sequence

from nanokernel_vm.clock import TICKS_PER_SECOND, Clock
from nanokernel_vm.devices.bus import Device, reads, writes
from nanokernel_vm.devices.chip import Chip, Line, Slot, at
from nanokernel_vm.devices.pit import Pit8254

GATE = 0x01  # timer 2's gate
KEPT = 0x0F  # gate, loudspeaker, and two check enables
REFRESH = 0x10  # toggles with each refresh of dynamic RAM
OUT = 0x20  # timer 2's output

REFRESH_TICKS = TICKS_PER_SECOND * 15_085 // 1_000_000_000  # 15.085 us


class PortB(Device):
    """The port between the timer's second channel and the program.

    Args:
        gate: Called with the level of timer 2's gate.
        out: Returns the level of timer 2's output.
        clock: Virtual time, which the refresh follows.
    """

    SIZE = 1
    WIRING = ("_gate", "_out", "_clock")

    def __init__(
        self, gate: Callable[[bool], None], out: Callable[[], bool], clock: Clock
    ) -> None:
        super().__init__()
        self._gate, self._out, self._clock = gate, out, clock
        self._kept = 0

    @reads(0)
    def _read(self) -> int:
        refresh = REFRESH if self._clock.now() // REFRESH_TICKS & 1 else 0
        return self._kept | refresh | (OUT if self._out() else 0)

    @writes(0)
    def _write(self, value: int) -> None:
        self._kept = value & KEPT
        self._gate(bool(value & GATE))


def _make(slot: Slot, _: Line) -> Sequence[Device]:
    pit = slot.chip(Pit8254)
    return (PortB(pit.set_gate, pit.out, slot.clock),)


CHIP = Chip("portb", (at(0x61, 1),), _make)
