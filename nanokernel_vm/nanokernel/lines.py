# SPDX-License-Identifier: GPL-2.0-or-later
"""The nanokernel's interrupt controller for a partition that has none of its own.

Sixteen lines, masked at first.  A line delivers once, is then in service until the
partition ends it, and delivers again if it is still, or was meanwhile, raised.
"""

from nanokernel_vm.abi.layout import IRQ_LINES, IRQ_VECTOR_BASE


class InterruptLines:
    """State of all lines, as bit sets."""

    def __init__(self) -> None:
        self.level = 0
        self.pending = 0
        self.masked = (1 << IRQ_LINES) - 1
        self.in_service = 0

    @property
    def output(self) -> bool:
        """Whether a line wants to interrupt now."""
        return bool(self._deliverable())

    def set_line(self, line: int, level: bool) -> None:
        """Raise or lower a level-triggered line."""
        bit = 1 << line
        self.level = self.level | bit if level else self.level & ~bit

    def pulse(self, line: int) -> None:
        """Raise an edge-triggered line."""
        self.pending |= 1 << line

    def acknowledge(self) -> int:
        """Take the lowest line that interrupts; its vector."""
        deliverable = self._deliverable()
        bit = deliverable & -deliverable
        self.pending &= ~bit
        self.in_service |= bit
        return IRQ_VECTOR_BASE + bit.bit_length() - 1

    def mask(self, line: int) -> None:
        """Hold a line back."""
        self.masked |= 1 << line

    def unmask(self, line: int) -> None:
        """Let a line through."""
        self.masked &= ~(1 << line)

    def end(self, line: int) -> None:
        """End the service of a line."""
        self.in_service &= ~(1 << line)

    def state(self) -> dict[str, int]:
        """Everything that a snapshot must hold."""
        return dict(vars(self))

    def _deliverable(self) -> int:
        return (self.pending | self.level) & ~self.masked & ~self.in_service
