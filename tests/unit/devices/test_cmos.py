# SPDX-License-Identifier: GPL-2.0-or-later
"""Register sequences are from drivers/rtc/rtc-cmos.c and rtc-mc146818-lib.c (v6.1)."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from nanokernel_vm.clock import TICKS_PER_SECOND
from nanokernel_vm.devices.cmos import Cmos

if TYPE_CHECKING:
    from tests.unit.devices.conftest import Line, ManualClock

EPOCH = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
A, B, C, D = 10, 11, 12, 13
SECOND = TICKS_PER_SECOND


class Clockwork:
    """The chip behind its two ports."""

    def __init__(self, line: Line, clock: ManualClock) -> None:
        self.line, self.clock = line, clock
        self.cmos = Cmos(line, clock, EPOCH)

    def __getitem__(self, register: int) -> int:
        self.cmos.write(0, 1, register)
        return self.cmos.read(1, 1)

    def __setitem__(self, register: int, value: int) -> None:
        self.cmos.write(0, 1, register)
        self.cmos.write(1, 1, value)

    def time(self) -> str:
        """Read the registers as hex digits, as BCD is meant to be read."""
        return "{:02x}{:02x}-{:02x}-{:02x} {:02x}:{:02x}:{:02x} day {:x}".format(
            *(self[register] for register in (0x32, 9, 8, 7, 4, 2, 0, 6))
        )

    def set(self, *fields: int) -> None:
        """Do mc146818_set_time(): year, month, day, hour, minute, second in BCD."""
        control, select = self[B], self[A]
        self[B] = control | 0x80
        self[A] = select | 0x70
        for register, value in zip((9, 8, 7, 4, 2, 0), fields, strict=True):
            self[register] = value
        self[B] = control
        self[A] = select

    def go(self, ticks: int) -> None:
        end = self.clock.ticks + ticks
        while (due := self.cmos.deadline()) is not None and due <= end:
            self.clock.ticks = max(self.clock.ticks, due)
            self.cmos.expire(due)
        self.clock.ticks = end


@pytest.fixture
def rtc(line: Line, clock: ManualClock) -> Clockwork:
    return Clockwork(line, clock)


def test_time_follows_the_virtual_clock(rtc: Clockwork) -> None:
    assert rtc.time() == "2026-01-01 00:00:00 day 5"
    rtc.go(SECOND - 1)
    assert rtc.time() == "2026-01-01 00:00:00 day 5"
    rtc.go(1)
    assert rtc.time() == "2026-01-01 00:00:01 day 5"
    rtc.go(59 * 86_400 * SECOND)
    assert rtc.time() == "2026-03-01 00:00:01 day 1"


def test_power_on_registers(rtc: Clockwork) -> None:
    assert rtc[A] == 0x26
    assert rtc[B] == 0x02, "24 hours, BCD, as rtc_cmos wants it"
    assert rtc[C] == 0
    assert rtc[D] == 0x80, "battery is good"
    assert rtc[0x0F] == 0, "no shutdown code"
    assert rtc.cmos.read(0, 1) == 0xFF


def test_memory_keeps_what_is_written(rtc: Clockwork) -> None:
    registers = [0x0E, 0x0F, *(r for r in range(0x10, 0x80) if r != 0x32)]
    for register in registers:
        rtc[register] = register ^ 0xA5
    assert [rtc[register] for register in registers] == [r ^ 0xA5 for r in registers]
    assert rtc[0x8F] == 0x0F ^ 0xA5, "bit 7 of the index is the NMI's"
    assert rtc.time() == "2026-01-01 00:00:00 day 5"


def test_linux_sets_the_time(rtc: Clockwork) -> None:
    rtc.go(10 * SECOND)
    rtc.set(0x31, 0x12, 0x24, 0x23, 0x59, 0x58)
    assert rtc.time() == "2031-12-24 23:59:58 day 4"
    assert rtc[A] == 0x26
    rtc.go(3 * SECOND)
    assert rtc.time() == "2031-12-25 00:00:01 day 5"


def test_time_stands_still_while_set(rtc: Clockwork) -> None:
    rtc[B] = 0x82
    rtc.go(5 * SECOND)
    assert rtc.time() == "2026-01-01 00:00:00 day 5"
    assert not rtc[A] & 0x80
    rtc[B] = 0x02
    assert rtc.time() == "2026-01-01 00:00:00 day 5"


def test_setting_goes_on_until_set_is_cleared(rtc: Clockwork) -> None:
    rtc[B] = 0x82
    rtc[4] = 0x13
    rtc[B] = 0x82
    rtc[2] = 0x14
    rtc[B] = 0x02
    rtc[B] = 0x02
    assert rtc.time() == "2026-01-01 13:14:00 day 5"


def test_one_register_can_be_set_alone(rtc: Clockwork) -> None:
    rtc[4] = 0x13
    rtc[0x32] = 0x19
    assert rtc.time() == "1926-01-01 13:00:00 day 6"


def test_time_goes_on_after_the_last_year(rtc: Clockwork) -> None:
    rtc[0x32] = 0x99
    rtc.set(0x99, 0x12, 0x31, 0x23, 0x59, 0x59)
    assert rtc.time() == "9999-12-31 23:59:59 day 6"
    rtc.go(SECOND)
    assert rtc.time() == "0001-01-01 00:00:00 day 2"


def test_no_date_is_not_taken(rtc: Clockwork) -> None:
    rtc.set(0x26, 0x13, 0x01, 0x00, 0x00, 0x00)
    assert rtc.time() == "2026-01-01 00:00:00 day 5"


def test_binary_and_12_hours(rtc: Clockwork) -> None:
    rtc.go(13 * 3600 * SECOND)
    rtc[B] = 0x04
    assert rtc[4] == 0x81
    rtc[B] = 0x00
    assert rtc[4] == 0x81
    rtc[B] = 0x06
    assert rtc[4] == 13
    assert rtc[9] == 26
    rtc[B] = 0x04
    for byte, hour in ((12, 0), (1, 1), (0x8C, 12), (0x8B, 23)):
        rtc[4] = byte
        rtc[B] = 0x06
        assert rtc[4] == hour
        rtc[B] = 0x04
        assert rtc[4] == byte


def test_update_in_progress_is_seen_and_ends(rtc: Clockwork) -> None:
    rtc.clock.ticks = SECOND - SECOND * 2228 // 1_000_000 - 1
    assert not rtc[A] & 0x80
    rtc.clock.ticks += 1
    assert rtc[A] & 0x80
    rtc.clock.ticks = SECOND - 1
    assert rtc[A] & 0x80
    assert rtc[0] == 0
    rtc.clock.ticks = SECOND
    assert not rtc[A] & 0x80
    assert rtc[0] == 1


def test_update_interrupt_every_second(rtc: Clockwork, line: Line) -> None:
    rtc[B] = 0x12
    for n in range(1, 4):
        assert rtc.cmos.deadline() == n * SECOND
        rtc.go(SECOND - 1)
        assert not line.level
        rtc.go(1)
        assert line.level
        assert rtc.cmos.deadline() is None, "up until register C is read"
        assert rtc[C] & ~0x40 == 0x90, "active, update; perhaps periodic"
        assert not line.level
        assert rtc[C] == 0


def test_enabling_what_has_happened_interrupts_at_once(
    rtc: Clockwork, line: Line
) -> None:
    rtc.go(SECOND * 11 // 2)
    rtc[B] = 0x12
    assert line.level
    assert rtc[C] & 0x90 == 0x90
    assert not line.level
    assert rtc.cmos.deadline() == 6 * SECOND


def test_flags_come_without_interrupts_too(rtc: Clockwork, line: Line) -> None:
    rtc[5], rtc[3], rtc[1] = 0x00, 0x00, 0x02
    rtc.go(3 * SECOND)
    assert rtc[C] == 0x70
    assert rtc[C] == 0
    assert not line.level
    rtc.go(SECOND)
    assert rtc[C] == 0x50


@pytest.mark.parametrize(
    ("rate", "hertz"), [(6, 1024), (15, 2), (3, 8192), (1, 256), (2, 128), (8, 256)]
)
def test_periodic_rate(rtc: Clockwork, line: Line, rate: int, hertz: int) -> None:
    rtc[A] = 0x20 | rate
    rtc[B] = 0x42
    for n in range(1, 2 * hertz + 1):
        due = rtc.cmos.deadline()
        assert due == -(-n * SECOND // hertz)
        rtc.go(due - rtc.clock.ticks)
        assert rtc[C] & 0xC0 == 0xC0
    assert due == 2 * SECOND
    rtc[A] = 0x20
    assert rtc.cmos.deadline() is None


@pytest.mark.parametrize(
    ("alarm", "seconds"),
    [  # hour, minute, second; from 00:00:00 on
        ((0x00, 0x00, 0x05), 5),
        ((0x23, 0x59, 0x59), 86_399),
        ((0x00, 0x00, 0x00), 86_400),
        ((0xFF, 0xFF, 0xFF), 1),
        ((0xFF, 0xFF, 0x00), 60),
        ((0xFF, 0x30, 0x00), 1800),
        ((0xC0, 0xC0, 0x59), 59),
    ],
)
def test_alarm(
    rtc: Clockwork, line: Line, alarm: tuple[int, int, int], seconds: int
) -> None:
    # cmos_set_alarm()
    rtc[5], rtc[3], rtc[1] = alarm
    rtc[B] = 0x22
    assert rtc.cmos.deadline() == seconds * SECOND
    rtc.go(seconds * SECOND - 1)
    assert not line.level
    rtc.go(1)
    assert line.level
    assert rtc[C] & 0xA0 == 0xA0


@pytest.mark.parametrize("alarm", [(0x24, 0x00, 0x00), (0x23, 0x61, 0x00)])
def test_impossible_alarm_never_comes(
    rtc: Clockwork, alarm: tuple[int, int, int]
) -> None:
    rtc[5], rtc[3], rtc[1] = alarm
    rtc[B] = 0x22
    assert rtc.cmos.deadline() is None


def test_alarm_follows_when_the_time_is_set(rtc: Clockwork) -> None:
    rtc[5], rtc[3], rtc[1] = 0x12, 0x00, 0x00
    rtc[B] = 0x22
    rtc.go(SECOND // 2)
    rtc.set(0x26, 0x06, 0x01, 0x11, 0x59, 0x50)
    assert rtc.cmos.deadline() == 10 * SECOND


def test_a_passed_alarm_comes_again_the_next_day(rtc: Clockwork) -> None:
    rtc[5], rtc[3], rtc[1] = 0x00, 0x00, 0x05
    rtc[B] = 0x22
    rtc.go(5 * SECOND)
    assert rtc[C] & 0xA0 == 0xA0
    assert rtc.cmos.deadline() == 86_405 * SECOND


def test_set_masks_the_update_interrupt(rtc: Clockwork) -> None:
    rtc[B] = 0x12
    rtc[B] = 0x92
    assert rtc[B] == 0x82
    assert rtc.cmos.deadline() is None


def test_state_round_trip(rtc: Clockwork, line: Line, clock: ManualClock) -> None:
    rtc.set(0x30, 0x01, 0x01, 0x00, 0x00, 0x00)
    rtc[B] = 0x12
    saved = pickle.loads(pickle.dumps(rtc.cmos.state()))
    other = Clockwork(line, clock)
    other.cmos.restore(saved)
    assert other.cmos.deadline() == SECOND
    rtc[0x40] = 7
    assert other[0x40] == 0
    assert other.time() == "2030-01-01 00:00:00 day 3"
