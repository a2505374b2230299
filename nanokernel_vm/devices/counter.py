# SPDX-License-Identifier: GPL-2.0-or-later
"""One counter of the 8254 (82C54 datasheet, "Mode definitions").

A counter does not count.  It remembers at which cycle of its clock it was loaded, and
what it shows at any later time follows from that, in integers, without drift.
"""

from dataclasses import dataclass

# Access, of the control word and the status
LSB, MSB, BOTH = 1, 2, 3

STATUS_OUT = 0x80
STATUS_NULL_COUNT = 0x40  # the count written is not in use yet


@dataclass(slots=True)
class Counter:
    """One counter; every method is told the present ``cycle``.

    Attributes:
        origin: Cycle at which the counting element held ``count``; None: not counting.
        held: Cycles counted when the gate stopped it; None: it is running.
        reload: Cycle at which a periodic mode takes a new count, and the count.
    """

    mode: int = 0
    access: int = BOTH
    bcd: bool = False
    gate: bool = True
    count: int = 0x1_0000
    origin: int | None = None
    held: int | None = None
    reload: tuple[int, int] | None = None
    null_count: bool = True
    low_byte: int | None = None
    high_next: bool = False
    latched: list[int] | None = None  # bytes still to be read
    status: int | None = None

    # What it is doing

    @property
    def periodic(self) -> bool:
        """Modes 2 and 3 start again by themselves."""
        return self.mode in (2, 3)

    def elapsed(self, cycle: int) -> int | None:
        """Return the cycles counted since the load; None if not counting."""
        self._take_reload(cycle)
        if self.origin is None:
            return None
        return max(0, cycle - self.origin) if self.held is None else self.held

    def value(self, cycle: int) -> int:
        """Return the counting element, as it is read."""
        n = self.elapsed(cycle) or 0
        if self.mode == 2:
            left = self.count - n % self.count
        elif self.mode == 3:
            left = self.count - 2 * n % self.count & ~1
        else:
            left = self.count - n
        if self.bcd:
            return int(str(left % 10_000), 16)
        return left & 0xFFFF

    def out(self, cycle: int) -> bool:
        """Return the level of OUT."""
        n = self.elapsed(cycle)
        match self.mode:
            case 0:
                return n is not None and n >= self.count
            case 1:
                return n is None or n >= self.count
            case 2:
                return n is None or not self.gate or n % self.count != self.count - 1
            case 3:
                half = (self.count + 1) // 2
                return n is None or not self.gate or n % self.count < half
            case _:
                return n != self.count

    def next_rise(self, cycle: int) -> int | None:
        """Return the first cycle after ``cycle`` at which OUT goes up."""
        n = self.elapsed(cycle)
        if n is None or self.origin is None or self.held is not None:
            return None
        if self.periodic:
            return self.origin + (n // self.count + 1) * self.count
        rise = self.origin + self.count + (1 if self.mode >= 4 else 0)
        return rise if rise > cycle else None

    # What it is told

    def program(self, control: int) -> None:
        """Take a control word: the counter stops until it gets a count."""
        self.access = control >> 4 & 3
        mode = control >> 1 & 7
        self.mode = mode & 3 if mode > 5 else mode
        self.bcd = bool(control & 1)
        self.origin = self.held = self.reload = None
        self.low_byte = self.latched = self.status = None
        self.high_next = False
        self.null_count = True

    def write(self, value: int, cycle: int) -> None:
        """Take a byte of the count."""
        if self.access == BOTH and self.low_byte is None:
            self.low_byte = value
            self.null_count = True
            if self.mode == 0:  # the first byte stops it
                self.origin = None
            return
        word = value << 8 | (self.low_byte or 0) if self.access != LSB else value
        self.low_byte = None
        self._load(self._decoded(word), cycle)

    def _decoded(self, word: int) -> int:
        if not self.bcd:
            return word or 0x1_0000
        return sum((word >> 4 * i & 0xF) * 10**i for i in range(4)) or 10_000

    def _load(self, count: int, cycle: int) -> None:
        self.null_count = False
        if self.periodic and self.origin is not None:
            # A new count waits for the end of the running period
            self.reload = (self.next_rise(cycle) or cycle + 1, count)
        elif self.mode in (1, 5):
            self.count = count  # until the gate rises
        else:
            self.count = count
            # The next cycle loads, the one after it counts; yet we read the new count
            # at once: a program that fast exists on no real bus.
            self._start(cycle + 1)

    def _start(self, cycle: int) -> None:
        self.origin = cycle
        self.held = None if self.gate else 0

    def _take_reload(self, cycle: int) -> None:
        if self.reload is not None and cycle >= self.reload[0] and self.held is None:
            self.origin, self.count = self.reload
            self.reload = None

    def set_gate(self, gate: bool, cycle: int) -> None:
        """Set the level of GATE."""
        rises, falls = gate and not self.gate, self.gate and not gate
        if falls and self.mode not in (1, 5):
            self.held = self.elapsed(cycle)
        self.gate = gate
        if rises and self.mode in (1, 5):
            self._start(cycle)
        elif rises and self.origin is not None:
            held = 0 if self.periodic else self.held or 0
            self.origin, self.held = cycle + 1 - held, None

    # How it is read

    def read(self, cycle: int) -> int:
        """Return the latched status, the next latched byte or the running count's."""
        if self.status is not None:
            status, self.status = self.status, None
            return status
        if self.latched is not None:
            byte = self.latched.pop(0)
            self.latched = self.latched or None
            return byte
        low, high = self._bytes(cycle)
        if self.access != BOTH:
            return high if self.access == MSB else low
        self.high_next = not self.high_next
        return low if self.high_next else high

    def latch(self, cycle: int) -> None:
        """Keep the count to be read; a count latched and unread stays."""
        if self.latched is None:
            low, high = self._bytes(cycle)
            self.latched = {LSB: [low], MSB: [high]}.get(self.access, [low, high])

    def latch_status(self, cycle: int) -> None:
        """Keep the status to be read; a status latched and unread stays."""
        if self.status is None:
            null = STATUS_NULL_COUNT if self.null_count or self.reload else 0
            out = STATUS_OUT if self.out(cycle) else 0
            self.status = out | null | self.access << 4 | self.mode << 1 | self.bcd

    def _bytes(self, cycle: int) -> tuple[int, int]:
        value = self.value(cycle)
        return value & 0xFF, value >> 8
