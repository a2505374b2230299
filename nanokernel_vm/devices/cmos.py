# SPDX-License-Identifier: GPL-2.0-or-later
"""The MC146818A clock and calendar, and its battery-backed memory.

Reference: Motorola MC146818A datasheet.  Time is virtual: what the guest set last, or
the epoch that the machine was given, plus the ticks since.  Done: BCD and binary, 12
and 24 hours, SET, update-in-progress, the alarm with its don't-care codes, and the
periodic, alarm and update-ended interrupts.  Not done: daylight saving, the square
wave, stopping the divider.

The flags in register C follow from the time too: each remembers when it was read last.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

from nanokernel_vm.clock import TICKS_PER_SECOND, Clock
from nanokernel_vm.devices.bus import reads, writes
from nanokernel_vm.devices.chip import Chip, at
from nanokernel_vm.devices.timed import TimedDevice, asleep

INDEX, DATA = 0, 1
INDEX_MASK = 0x7F  # bit 7 gates the NMI, of which there is none

SECOND, SECOND_ALARM, MINUTE, MINUTE_ALARM, HOUR, HOUR_ALARM = range(6)
WEEKDAY, DAY, MONTH, YEAR = range(6, 10)
A, B, C, D = range(10, 14)
SHUTDOWN = 0x0F  # what the BIOS does after a reset; memory to us
CENTURY = 0x32  # where a PC/AT keeps it
TIME = (SECOND, MINUTE, HOUR, WEEKDAY, DAY, MONTH, YEAR, CENTURY)

A_UPDATING = 0x80
A_RATE = 0x0F
A_DEFAULT = 0x26  # 32,768 Hz crystal, 1024 Hz periodic
B_SET, B_PERIODIC, B_ALARM, B_UPDATE, B_SQUARE_WAVE = 0x80, 0x40, 0x20, 0x10, 0x08
B_BINARY, B_24_HOURS = 0x04, 0x02
B_DEFAULT = B_24_HOURS
C_ACTIVE, C_PERIODIC, C_ALARM, C_UPDATE = 0x80, 0x40, 0x20, 0x10
C_FLAGS = C_PERIODIC | C_ALARM | C_UPDATE
D_VALID = 0x80
PM = 0x80  # in the hour, of a 12-hour clock
DONT_CARE = 0xC0  # an alarm byte from here on matches always

CRYSTAL = 32_768
DAY_SECONDS = 86_400
# Four digits of the year, of which Python counts from 1, then it starts again
_FIRST = datetime(1, 1, 1, tzinfo=UTC)
_FIRST_SECOND = int(_FIRST.timestamp())
_SPAN = (datetime(9999, 12, 31, tzinfo=UTC) - _FIRST).days * DAY_SECONDS + DAY_SECONDS
# With this crystal an update takes 1984 us and is announced 244 us before
UPDATE_TICKS = TICKS_PER_SECOND * 2228 // 1_000_000


class Cmos(TimedDevice):
    """Clock and memory behind an index and a data port.

    Args:
        irq: Called with the level of the interrupt output whenever it changes.
        clock: Virtual time.
        epoch: Seconds since 1970, UTC, at tick 0.
        wake: Called when the deadline has become earlier.
    """

    SIZE = 2
    WIRING = (*TimedDevice.WIRING, "_irq", "_clock")
    BATTERY = ("_epoch", "_memory")

    def __init__(
        self,
        irq: Callable[[bool], None],
        clock: Clock,
        epoch: int,
        wake: Callable[[], None] = asleep,
    ) -> None:
        super().__init__(wake)
        self._irq, self._clock = irq, clock
        self._line = False
        self._index = 0
        self._memory = bytearray(0x80)  # also the alarm, A, B, and time while SET is on
        self._memory[A], self._memory[B] = A_DEFAULT, B_DEFAULT
        self._epoch = epoch  # seconds since 1970 at tick 0, as the guest has it
        self._seen = clock.now()  # ticks up to which C's flags have been looked at
        self._flags = 0
        self._alarm = self._next_alarm()  # seconds since tick 0 of the next match
        self._plan()

    # The board's side

    def insert(self, battery: Mapping[str, Any]) -> None:
        """Go on with time and memory; interrupts are off (datasheet, "RESET")."""
        super().insert(battery)
        self._memory[B] &= ~(B_PERIODIC | B_ALARM | B_UPDATE | B_SQUARE_WAVE)
        self._alarm = self._next_alarm()
        self._plan()

    def expire(self, now: int) -> None:
        """Raise the interrupt that is due."""
        self._look(now)
        self._plan()

    # Time

    def _seconds(self) -> int:
        """Return the second that it is, since 1970."""
        return self._epoch + self._clock.now() // TICKS_PER_SECOND

    @property
    def _set(self) -> bool:
        return bool(self._memory[B] & B_SET)

    def _fields(self) -> dict[int, int]:
        """Return the time registers as the program sees them."""
        now = _FIRST + timedelta(seconds=(self._seconds() - _FIRST_SECOND) % _SPAN)
        fields = {
            SECOND: now.second,
            MINUTE: now.minute,
            WEEKDAY: now.isoweekday() % 7 + 1,
            DAY: now.day,
            MONTH: now.month,
            YEAR: now.year % 100,
        }
        encoded = {register: self._encode(value) for register, value in fields.items()}
        encoded[HOUR] = self._encode_hour(now.hour)
        encoded[CENTURY] = _to_bcd(now.year // 100)
        return encoded

    def _adopt(self, fields: dict[int, int]) -> None:
        """Make the time registers' contents the present time."""
        try:
            then = datetime(
                _from_bcd(fields[CENTURY]) * 100 + self._decode(fields[YEAR]),
                self._decode(fields[MONTH]),
                self._decode(fields[DAY]),
                self._decode_hour(fields[HOUR]),
                self._decode(fields[MINUTE]),
                self._decode(fields[SECOND]),
                tzinfo=UTC,
            )
        except ValueError:
            return  # no date: what the chip does is undefined, so it keeps its own
        self._epoch += int(then.timestamp()) - self._seconds()

    def _encode(self, value: int) -> int:
        return value if self._memory[B] & B_BINARY else _to_bcd(value)

    def _decode(self, byte: int) -> int:
        return byte if self._memory[B] & B_BINARY else _from_bcd(byte)

    def _encode_hour(self, hour: int) -> int:
        if self._memory[B] & B_24_HOURS:
            return self._encode(hour)
        return self._encode((hour + 11) % 12 + 1) | (PM if hour >= 12 else 0)

    def _decode_hour(self, byte: int) -> int:
        if self._memory[B] & B_24_HOURS:
            return self._decode(byte)
        return self._decode(byte & ~PM) % 12 + (12 if byte & PM else 0)

    # Interrupts

    def _look(self, now: int) -> None:
        """Set the flags of what has happened since the last look."""
        seen, self._seen = self._seen, now
        period = self._period(now)
        if period is not None and period != self._period(seen):
            self._flags |= C_PERIODIC
        if self._set:
            return
        if now // TICKS_PER_SECOND != seen // TICKS_PER_SECOND:
            self._flags |= C_UPDATE
        if self._alarm is not None and now // TICKS_PER_SECOND >= self._alarm:
            self._flags |= C_ALARM
            self._alarm = self._next_alarm()

    def _rate(self) -> int:
        """Return how many crystal cycles a period has; 0: no periodic interrupt."""
        rate = self._memory[A] & A_RATE
        # 1 and 2 give 256 and 128 Hz with this crystal, like 8 and 9
        return 1 << (rate + 7 if rate < 3 else rate) - 1 if rate else 0

    def _period(self, ticks: int) -> int | None:
        rate = self._rate()
        return ticks * CRYSTAL // (TICKS_PER_SECOND * rate) if rate else None

    def _next_alarm(self) -> int | None:
        """Return when the alarm matches next, in seconds since tick 0."""
        today, second = divmod(self._seconds(), DAY_SECONDS)
        times = list(self._alarm_times(second)) or list(self._alarm_times(-1))
        if not times:
            return None
        days = today + (times[0] <= second)
        return days * DAY_SECONDS + times[0] - self._epoch

    def _alarm_times(self, after: int) -> Iterator[int]:
        """Yield the first second of the day later than ``after`` that matches."""
        hours, minutes, seconds = (
            range(limit) if byte >= DONT_CARE else [decode(byte)]
            for byte, decode, limit in (
                (self._memory[HOUR_ALARM], self._decode_hour, 24),
                (self._memory[MINUTE_ALARM], self._decode, 60),
                (self._memory[SECOND_ALARM], self._decode, 60),
            )
        )
        for hour, minute, second in product(hours, minutes, seconds):
            time = hour * 3600 + minute * 60 + second
            if time > after and time < DAY_SECONDS:
                yield time
                return

    def _plan(self) -> None:
        """Bring the interrupt line and the deadline in step with the registers."""
        level = bool(self._flags & self._memory[B] & C_FLAGS)
        if level != self._line:
            self._line = level
            self._irq(level)
        # A line that is up has nothing to wait for
        self._set_deadline(None if level else min(self._events(), default=None))

    def _events(self) -> Iterator[int]:
        enabled, rate = self._memory[B], self._rate()
        if enabled & B_PERIODIC and rate:
            period = (self._period(self._seen) or 0) + 1
            yield -(-period * rate * TICKS_PER_SECOND // CRYSTAL)
        if enabled & B_UPDATE and not self._set:
            yield (self._seen // TICKS_PER_SECOND + 1) * TICKS_PER_SECOND
        if enabled & B_ALARM and not self._set and self._alarm is not None:
            yield self._alarm * TICKS_PER_SECOND

    # The program's side

    @reads(INDEX)
    def _read_index(self) -> int:
        return 0xFF  # write-only on a PC

    @writes(INDEX)
    def _write_index(self, value: int) -> None:
        self._index = value & INDEX_MASK

    @reads(DATA)
    def _read_data(self) -> int:
        match self._index:
            case 0x0A:
                return self._memory[A] | (A_UPDATING if self._updating() else 0)
            case 0x0C:
                return self._read_flags()
            case 0x0D:
                return D_VALID
            case register if register in TIME and not self._set:
                return self._fields()[register]
            case register:
                return self._memory[register]

    def _updating(self) -> bool:
        left = -self._clock.now() % TICKS_PER_SECOND
        return not self._set and 0 < left <= UPDATE_TICKS

    def _read_flags(self) -> int:
        self._look(self._clock.now())
        active = C_ACTIVE if self._flags & self._memory[B] & C_FLAGS else 0
        flags, self._flags = self._flags | active, 0
        self._plan()
        return flags

    @writes(DATA)
    def _write_data(self, value: int) -> None:
        self._look(self._clock.now())
        register = self._index
        if register == A:
            self._memory[A] = value & ~A_UPDATING
        elif register == B:
            self._write_b(value)
        elif register in TIME and not self._set:
            self._adopt(self._fields() | {register: value})
        elif register not in (C, D):
            self._memory[register] = value
        self._alarm = self._next_alarm()
        self._plan()

    def _write_b(self, value: int) -> None:
        """Take register B; while SET is on, time is what the program writes."""
        stops, goes = value & ~self._memory[B] & B_SET, self._memory[B] & ~value & B_SET
        if stops:
            for register, field in self._fields().items():
                self._memory[register] = field
            value &= ~B_UPDATE  # SET clears it (datasheet, "Register B")
        self._memory[B] = value
        if goes:
            self._adopt({register: self._memory[register] for register in TIME})


def _to_bcd(value: int) -> int:
    return value // 10 << 4 | value % 10


def _from_bcd(byte: int) -> int:
    return (byte >> 4) * 10 + (byte & 0xF)


CHIP = Chip(
    "cmos",
    (at(0x70, 2),),
    lambda slot, line: (Cmos(line, slot.clock, slot.epoch, slot.wake),),
    irq=8,
)
