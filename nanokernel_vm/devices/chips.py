# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of all devices that a partition can be given: a row, and a file, each."""

from collections.abc import Mapping

from nanokernel_vm.devices import absent, cmos, pic, pit, portb, uart
from nanokernel_vm.devices.chip import Chip

#: By name, in the order in which they are put on a board.
CHIPS: Mapping[str, Chip] = {
    chip.name: chip
    for chip in (
        pic.CHIP,
        pit.CHIP,
        portb.CHIP,
        cmos.CHIP,
        uart.CHIP,
        *absent.CHIPS,
    )
}
