# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kind of device says of itself, and what a board offers it.

Each file of a device ends with its row, ``CHIP``; ``chips.CHIPS`` lists them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from nanokernel_vm.clock import Clock
from nanokernel_vm.devices.bus import Device

_Kind = TypeVar("_Kind", bound=Device)

Line = Callable[[bool], None]


class Controller(Protocol):
    """An interrupt controller."""

    @property
    def output(self) -> bool:
        """Whether it interrupts the processor."""

    def acknowledge(self) -> int:
        """Take the interrupt; its vector."""

    def set_line(self, irq: int, level: bool) -> None:
        """Raise or lower a line."""


class Slot(Protocol):
    """What a board offers a chip."""

    @property
    def clock(self) -> Clock:
        """Virtual time."""

    @property
    def epoch(self) -> int:
        """Seconds since 1970, UTC, at tick 0."""

    def wake(self) -> None:
        """A deadline has become earlier."""

    def reset(self) -> None:
        """Pull the processor's reset line."""

    def transmit(self, byte: int) -> None:
        """Send a byte out of the machine."""

    def interrupt_by(self, controller: Controller) -> None:
        """Let ``controller`` serve the lines of all chips."""

    def chip(self, kind: type[_Kind]) -> _Kind:
        """The one of a kind that is on the board already."""


@dataclass(frozen=True, slots=True)
class Chip:
    """A kind of device.

    Attributes:
        name: What a machine's description calls it.
        ports: Its port ranges; those of a movable one count from its ``port``.
        make: A new one, as after power-on: what is on its board, its interrupt line,
            to a device for each port range.
        irq: Its interrupt line; None if it has none.
        movable: The description gives ``port`` and ``irq``, and may repeat the chip.
        controls: What is written to it may let an interrupt in.
    """

    name: str
    ports: tuple[range, ...]
    make: Callable[[Slot, Line], Sequence[Device]]
    irq: int | None = None
    movable: bool = False
    controls: bool = False


def at(first: int, size: int) -> range:
    """Return ``size`` ports from ``first`` on."""
    return range(first, first + size)
