# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING

from nanokernel_vm.devices.portb import REFRESH_TICKS, PortB

if TYPE_CHECKING:
    from tests.unit.devices.conftest import Line, ManualClock


def test_gate_and_output(clock: ManualClock, line: Line) -> None:
    out = False
    port = PortB(line, lambda: out, clock)
    # quick_pit_calibrate(): gate on, loudspeaker off
    port.write(0, 1, port.read(0, 1) & ~0x02 | 0x01)
    assert line.level
    assert port.read(0, 1) == 0x01
    out = True
    assert port.read(0, 1) == 0x21
    port.write(0, 1, 0xFE)
    assert not line.level
    assert port.read(0, 1) == 0x2E, "status bits cannot be written"


def test_refresh_toggles_with_time(clock: ManualClock, line: Line) -> None:
    port = PortB(line, lambda: False, clock)
    seen = []
    for clock.ticks in range(0, 6 * REFRESH_TICKS, REFRESH_TICKS):
        seen.append(port.read(0, 1) >> 4)
    assert seen == [0, 1, 0, 1, 0, 1]
    assert port.state() == {"_kept": 0}
