# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of all devices that a partition can be given: ports and interrupt lines."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chip:
    """What a kind of device takes.

    Attributes:
        ports: Its port ranges; those of a movable one count from its ``port``.
        irq: Its interrupt line; None if it has none.
        movable: The description gives ``port`` and ``irq``, and may repeat the chip.
    """

    ports: tuple[range, ...]
    irq: int | None = None
    movable: bool = False


def at(first: int, size: int) -> range:
    """Return ``size`` ports from ``first`` on."""
    return range(first, first + size)


CHIPS: Mapping[str, Chip] = {
    # Two 8259A and their edge/level register
    "pic": Chip((at(0x20, 2), at(0xA0, 2), at(0x4D0, 2))),
    # 8254 timer; its third counter is behind port B
    "pit": Chip((at(0x40, 4),), irq=0),
    # System control port B
    "portb": Chip((at(0x61, 1),)),
    # MC146818 clock and memory
    "cmos": Chip((at(0x70, 2),), irq=8),
    # 16550A; COM1 is port 0x3f8 and irq 4, COM2 is port 0x2f8 and irq 3
    "uart": Chip((at(0, 8),), movable=True),
    # Data port, and status port with the reset command; no keyboard controller
    "i8042": Chip((at(0x60, 1), at(0x64, 1))),
    # Configuration ports and the reset control register; no PCI bus
    "pci": Chip((at(0xCF8, 8),)),
    # Power-on self-test codes
    "post": Chip((at(0x80, 1),)),
    # System control port A: the fast reset
    "reset": Chip((at(0x92, 1),)),
}
