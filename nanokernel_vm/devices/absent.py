# SPDX-License-Identifier: GPL-2.0-or-later
"""What a PC kernel pokes at and does not find, and the three ways to reset.

Each answers so that Linux gives up at once: i8042_flush finds its output buffer never
empty (drivers/input/serio/i8042.c), pci_check_type1 reads back what it did not write
(arch/x86/pci/direct.c), and nothing waits for either.
"""

from collections.abc import Callable

from nanokernel_vm.devices.bus import Device, reads, writes
from nanokernel_vm.devices.chip import Chip, at


class Post(Device):
    """The port of power-on self-test codes (0x80), which Linux uses as a delay.

    Attributes:
        code: Last byte written.
    """

    SIZE = 1

    def __init__(self) -> None:
        super().__init__()
        self.code = 0

    @reads(0)
    def _read(self) -> int:
        return self.code

    @writes(0)
    def _write(self, value: int) -> None:
        self.code = value


class Floating(Device):
    """Ports that belong to a partition with no chip behind them.

    Args:
        size: How many.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.SIZE = size


class I8042(Device):
    """A keyboard controller's status and command port (0x64), and of it the reset only.

    Its data port, 0x60, floats: Linux reads it until the status says empty, at most as
    often as the controller could have bytes.

    Args:
        reset: Called when the program pulses the reset line.
    """

    SIZE = 1
    WIRING = ("_reset",)
    # All ones, as if absent, but for "input buffer full" (bit 1), which kb_wait() would
    # wait for at length before it resets
    NO_CONTROLLER = 0xFD
    PULSE_RESET = 0xFE

    def __init__(self, reset: Callable[[], None]) -> None:
        super().__init__()
        self._reset = reset

    @reads(0)
    def _read_status(self) -> int:
        return self.NO_CONTROLLER

    @writes(0)
    def _write_command(self, value: int) -> None:
        if value == self.PULSE_RESET:
            self._reset()


class Pci(Device):
    """PCI configuration ports (0xcf8-0xcff) without a bus; the reset control register.

    Reference: PCI Local Bus 2.1, 3.7.4.1; Intel PIIX (290550-002), reset control at
    0xcf9, which a byte access reaches and a wider one does not.

    Args:
        reset: Called when the program asks for a reset of the processor.
    """

    SIZE = 8
    WIRING = ("_reset",)
    RESET_CONTROL = 1
    RESET_CPU = 0x04  # its rising edge resets

    def __init__(self, reset: Callable[[], None]) -> None:
        super().__init__()
        self._reset = reset
        self._control = 0

    def read(self, offset: int, size: int) -> int:
        """Read configuration space: nothing answers."""
        return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Write an address or configuration space: nobody listens."""

    @reads(RESET_CONTROL)
    def _read_control(self) -> int:
        return self._control

    @writes(RESET_CONTROL)
    def _write_control(self, value: int) -> None:
        rises = value & ~self._control & self.RESET_CPU
        self._control = value
        if rises:
            self._reset()


class PortA(Device):
    """System control port A (0x92): the fast reset, and the A20 gate, always open.

    Reference: IBM PS/2 Technical Reference, "System control port A".

    Args:
        reset: Called when the program asks for a reset of the processor.
    """

    SIZE = 1
    WIRING = ("_reset",)
    FAST_RESET, A20 = 0x01, 0x02

    def __init__(self, reset: Callable[[], None]) -> None:
        super().__init__()
        self._reset = reset
        self._kept = 0

    @reads(0)
    def _read(self) -> int:
        return self._kept | self.A20

    @writes(0)
    def _write(self, value: int) -> None:
        rises = value & ~self._kept & self.FAST_RESET
        self._kept = value
        if rises:
            self._reset()


CHIPS = (
    # Data port, and status port with the reset command; no keyboard controller
    Chip(
        "i8042",
        (at(0x60, 1), at(0x64, 1)),
        lambda slot, _: (Floating(1), I8042(slot.reset)),
    ),
    # Configuration ports and the reset control register; no PCI bus
    Chip("pci", (at(0xCF8, 8),), lambda slot, _: (Pci(slot.reset),)),
    # Power-on self-test codes
    Chip("post", (at(0x80, 1),), lambda slot, _: (Post(),)),
    # System control port A: the fast reset
    Chip("reset", (at(0x92, 1),), lambda slot, _: (PortA(slot.reset),)),
)
