# SPDX-License-Identifier: GPL-2.0-or-later
"""The pair of 8259A interrupt controllers of a PC/AT, with the edge/level register.

Reference: Intel 8259A datasheet (231468-003); "Operation command words" for OCW1-3.
Done: 8086 mode, edge and level requests, fixed and rotated priority, all EOI commands,
automatic EOI, special mask, poll, the default IR7.  Not done, and stored without
effect: MCS-80 vectors, buffered mode, special fully nested mode.

As in the datasheet, a request that goes away before it is acknowledged is forgotten,
in edge mode too.
"""

from collections.abc import Callable, Sequence
from typing import Any

from nanokernel_vm.devices.bus import Device, reads, writes
from nanokernel_vm.devices.chip import Chip, Line, Slot, at

COMMAND, DATA = 0, 1  # A0

ICW1 = 0x10  # command byte: this bit starts the initialisation
ICW1_ICW4 = 0x01  # ICW4 will follow
ICW1_SINGLE = 0x02  # no cascade: ICW3 will not follow
ICW1_LEVEL = 0x08  # all inputs are level triggered
ICW4_AUTO_EOI = 0x02

OCW3 = 0x08  # command byte: OCW3, else OCW2
OCW3_READ_ISR = 0x01
OCW3_READ = 0x02  # bit 0 is valid
OCW3_POLL = 0x04
OCW3_SPECIAL_MASK = 0x20
OCW3_SET_SPECIAL_MASK = 0x40  # bit 5 is valid

OCW2_EOI = 0x20
OCW2_SPECIFIC = 0x40  # bits 0-2 are valid
OCW2_ROTATE = 0x80

POLL_PENDING = 0x80  # in the byte that a poll reads
DEFAULT_IR = 7  # acknowledged when no request is left
CASCADE = 2  # the master's input that the slave drives

# ELCR: the timer, keyboard, cascade, clock and FPU lines are always edge triggered
ELCR_MASTER, ELCR_SLAVE = 0xF8, 0xDE


class Pic8259(Device):
    """One 8259A: eight request lines in, one interrupt line out.

    Args:
        irq: Called with the level of INT whenever it changes.
    """

    SIZE = 2
    WIRING = ("_irq",)

    def __init__(self, irq: Callable[[bool], None]) -> None:
        super().__init__()
        self._irq = irq
        self.output = False
        self.lines = 0
        self.irr = self.isr = self.imr = 0
        self.elcr = 0
        self.vector_base = 0
        self._all_level = False
        self._expected: list[str] = []  # initialisation words still to come
        self._lowest = 7
        self._auto_eoi = self._rotate_on_auto_eoi = False
        self._special_mask = self._read_isr = self._poll = False

    # The board's side

    def set_line(self, line: int, level: bool) -> None:
        """Set the level of a request input, 0-7."""
        bit = 1 << line
        if level and not self.lines & bit:
            self.lines |= bit
            self.irr |= bit
            self._update()
        elif not level and self.lines & bit:
            self.lines &= ~bit
            self.irr &= ~bit
            self._update()

    def set_level_triggered(self, mask: int) -> None:
        """Take the ELCR's bits: which inputs request for as long as they are high."""
        self.elcr = mask
        self.irr |= self._level_requests
        self._update()

    def acknowledge(self) -> int:
        """Answer INTA: put the highest request in service and return its number."""
        line = self._pending()
        if line is None:
            return DEFAULT_IR
        # INT falls between two requests, which is an edge to a master
        self._drive(False)
        self._serve(line)
        self._update()
        return line

    def _serve(self, line: int) -> None:
        bit = 1 << line
        self.irr &= ~bit
        self.irr |= self._level_requests
        if not self._auto_eoi:
            self.isr |= bit
        elif self._rotate_on_auto_eoi:
            self._lowest = line

    @property
    def _level_requests(self) -> int:
        return self.lines & (0xFF if self._all_level else self.elcr)

    def _pending(self) -> int | None:
        """Return the request that may interrupt now."""
        request = self._first(self.irr & ~self.imr)
        served = self._first(self._blocking)
        if request is None or (
            served is not None and self._rank(served) <= self._rank(request)
        ):
            return None
        return request

    @property
    def _blocking(self) -> int:
        return self.isr & ~self.imr if self._special_mask else self.isr

    def _rank(self, line: int) -> int:
        """Return 0 for the line of highest priority, 7 for that of lowest."""
        return line - self._lowest - 1 & 7

    def _first(self, lines: int) -> int | None:
        """Return the line of highest priority in a bit set."""
        if not lines:
            return None
        top = self._lowest + 1 & 7
        turned = (lines | lines << 8) >> top
        return (turned & -turned).bit_length() - 1 + top & 7

    def _update(self) -> None:
        self._drive(self._pending() is not None)

    def _drive(self, level: bool) -> None:
        if level != self.output:
            self.output = level
            self._irq(level)

    # The CPU's side

    @reads(COMMAND)
    def _read_command(self) -> int:
        if self._poll:
            return self._answer_poll()
        return self.isr if self._read_isr else self.irr

    @reads(DATA)
    def _read_data(self) -> int:
        return self._answer_poll() if self._poll else self.imr

    def _answer_poll(self) -> int:
        self._poll = False
        pending = self._pending()
        return 0 if pending is None else POLL_PENDING | self.acknowledge()

    @writes(COMMAND)
    def _write_command(self, value: int) -> None:
        if value & ICW1:
            self._initialise(value)
        elif value & OCW3:
            self._write_ocw3(value)
        else:
            self._write_ocw2(value)
        self._update()

    @writes(DATA)
    def _write_data(self, value: int) -> None:
        match self._expected.pop(0) if self._expected else "ocw1":
            case "icw2":
                self.vector_base = value & 0xF8
            case "icw4":
                self._auto_eoi = bool(value & ICW4_AUTO_EOI)
            case "ocw1":
                self.imr = value
        self._update()

    def _initialise(self, icw1: int) -> None:
        words = {"icw2": True, "icw3": not icw1 & ICW1_SINGLE, "icw4": icw1 & ICW1_ICW4}
        self._expected = [word for word, follows in words.items() if follows]
        self._all_level = bool(icw1 & ICW1_LEVEL)
        # The edge sense is reset: a line that is high must fall before it counts again
        self.irr = self._level_requests
        self.isr = self.imr = 0
        self._lowest = 7
        self._auto_eoi = self._rotate_on_auto_eoi = False
        self._special_mask = self._read_isr = self._poll = False

    def _write_ocw2(self, value: int) -> None:
        rotate = bool(value & OCW2_ROTATE)
        line: int | None = value & 7
        if not value & OCW2_EOI:
            if not value & OCW2_SPECIFIC:
                self._rotate_on_auto_eoi = rotate
            elif rotate:
                self._lowest = value & 7
            return
        if not value & OCW2_SPECIFIC:
            line = self._first(self._blocking)
        if line is not None:
            self.isr &= ~(1 << line)
            self._lowest = line if rotate else self._lowest

    def _write_ocw3(self, value: int) -> None:
        self._poll = bool(value & OCW3_POLL)
        if value & OCW3_READ:
            self._read_isr = bool(value & OCW3_READ_ISR)
        if value & OCW3_SET_SPECIAL_MASK:
            self._special_mask = bool(value & OCW3_SPECIAL_MASK)


class Elcr(Device):
    """The edge/level control registers (ports 0x4d0 and 0x4d1) of the pair."""

    SIZE = 2
    WIRING = ("_master", "_slave")

    def __init__(self, master: Pic8259, slave: Pic8259) -> None:
        super().__init__()
        self._master, self._slave = master, slave

    @reads(0)
    def _read_master(self) -> int:
        return self._master.elcr

    @reads(1)
    def _read_slave(self) -> int:
        return self._slave.elcr

    @writes(0)
    def _write_master(self, value: int) -> None:
        self._master.set_level_triggered(value & ELCR_MASTER)

    @writes(1)
    def _write_slave(self, value: int) -> None:
        self._slave.set_level_triggered(value & ELCR_SLAVE)


class PicPair:
    """Two 8259A in cascade: sixteen lines in, one to the CPU.

    Args:
        intr: Called with the level of INTR whenever it changes.

    Attributes:
        master: Lines 0-7, and the CPU's INTR.
        slave: Lines 8-15, on the master's input 2.
        elcr: Edge or level, for both.
    """

    def __init__(self, intr: Callable[[bool], None] = lambda level: None) -> None:
        self.master = Pic8259(intr)
        self.slave = Pic8259(lambda level: self.master.set_line(CASCADE, level))
        self.elcr = Elcr(self.master, self.slave)

    @property
    def output(self) -> bool:
        """Level of INTR: whether an interrupt waits for the CPU."""
        return self.master.output

    def set_line(self, irq: int, level: bool) -> None:
        """Set the level of interrupt line 0-15 (2 is the cascade's own)."""
        chip = self.slave if irq & 8 else self.master
        chip.set_line(irq & 7, level)

    def acknowledge(self) -> int:
        """Answer the CPU's INTA cycle with a vector: 7's or 15's if none is left."""
        line = self.master.acknowledge()
        if line == CASCADE:
            return self.slave.vector_base | self.slave.acknowledge()
        return self.master.vector_base | line

    def state(self) -> dict[str, Any]:
        """Return a copy of everything that a snapshot must hold."""
        return {"master": self.master.state(), "slave": self.slave.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what ``state()`` returned."""
        self.master.restore(state["master"])
        self.slave.restore(state["slave"])


def _make(slot: Slot, _: Line) -> Sequence[Device]:
    pair = PicPair()
    slot.interrupt_by(pair)
    return pair.master, pair.slave, pair.elcr


CHIP = Chip("pic", (at(0x20, 2), at(0xA0, 2), at(0x4D0, 2)), _make, controls=True)
