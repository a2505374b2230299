# SPDX-License-Identifier: GPL-2.0-or-later
"""Register sequences are from drivers/clocksource/i8253.c, arch/x86/kernel/tsc.c."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest

from nanokernel_vm.clock import TICKS_PER_SECOND
from nanokernel_vm.devices.pit import FREQUENCY, Pit8254, cycles, ticks_at

if TYPE_CHECKING:
    from tests.unit.devices.conftest import Line, ManualClock

LATCH_250HZ = (FREQUENCY + 125) // 250
CONTROL = 3


class Timer:
    """The timer with a processor that runs between accesses."""

    def __init__(self, line: Line, clock: ManualClock) -> None:
        self.line, self.clock = line, clock
        self.woken = 0
        self.pit = Pit8254(line, clock, self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def out(self, offset: int, *values: int) -> None:
        for value in values:
            self.pit.write(offset, 1, value)

    def count(self, offset: int) -> int:
        return self.pit.read(offset, 1) | self.pit.read(offset, 1) << 8

    def go(self, cycle: int) -> None:
        """Let the processor run to a cycle of the timer's clock."""
        while (due := self.pit.deadline()) is not None and due <= ticks_at(cycle):
            self.clock.ticks = max(self.clock.ticks, due)
            self.pit.expire(due)
        self.clock.ticks = max(self.clock.ticks, ticks_at(cycle))


@pytest.fixture
def timer(line: Line, clock: ManualClock) -> Timer:
    return Timer(line, clock)


def test_cycles_and_ticks_agree() -> None:
    assert cycles(TICKS_PER_SECOND) == FREQUENCY
    for cycle in (0, 1, 2, 335, FREQUENCY, 10**15 + 7):
        assert cycles(ticks_at(cycle)) == cycle
        assert cycle == 0 or cycles(ticks_at(cycle) - 1) == cycle - 1


def test_periodic_interrupts_never_drift(timer: Timer) -> None:
    # pit_set_periodic(), at some odd moment
    timer.clock.ticks = 12_345
    timer.out(CONTROL, 0x34)
    timer.out(0, LATCH_250HZ & 0xFF, LATCH_250HZ >> 8)
    loaded = cycles(12_345) + 1
    for n in range(1, 5001):
        due = timer.pit.deadline()
        assert due == ticks_at(loaded + n * LATCH_250HZ)
        timer.clock.ticks = due + n % 1000  # the machine may come late
        before = timer.line.rises
        timer.pit.expire(timer.clock.ticks)
        assert timer.line.rises == before + 1
    # 20 seconds: 5000 periods to the tick
    assert due == ticks_at(loaded + 5000 * LATCH_250HZ)


def test_missed_periods_are_one_interrupt(timer: Timer) -> None:
    timer.out(CONTROL, 0x34)
    timer.out(0, 0xE8, 0x03)
    timer.clock.ticks = ticks_at(10_500)
    before = timer.line.rises
    timer.pit.expire(timer.clock.ticks)
    assert timer.line.rises == before + 1
    assert timer.pit.deadline() == ticks_at(11_001)


def test_one_shot_fires_once(timer: Timer) -> None:
    # pit_set_oneshot(), pit_next_event()
    timer.out(CONTROL, 0x38)
    timer.out(0, 0xE8, 0x03)
    timer.go(1001)
    assert timer.line.rises == 1, "OUT went up with the control word"
    timer.go(1002)
    assert timer.line.rises == 2
    timer.go(1_000_000)
    assert timer.line.rises == 2
    timer.out(0, 100, 0)
    timer.go(1_000_102)
    assert timer.line.rises == 3


def test_a_new_count_takes_the_interrupt_back(timer: Timer) -> None:
    timer.out(CONTROL, 0x30)
    timer.out(0, 100, 0)
    timer.go(101)
    assert timer.line.level
    timer.out(0, 100)
    assert not timer.line.level, "the first byte stops mode 0"
    timer.go(500)
    assert timer.count(0) & 0xFF00 == 0
    timer.out(0, 0)
    timer.go(601)
    assert timer.line.level


def test_shutdown_stops_the_interrupts(timer: Timer) -> None:
    timer.out(CONTROL, 0x34)
    timer.out(0, 0xE8, 0x03)
    timer.go(5000)
    # pit_shutdown(): mode 0, count 0
    timer.out(CONTROL, 0x30)
    assert timer.pit.deadline() is None
    assert not timer.line.level
    timer.out(0, 0, 0)
    assert timer.pit.deadline() == ticks_at(5001 + 0x1_0000)


def test_interrupt_on_terminal_count(timer: Timer) -> None:
    timer.out(CONTROL, 0x30)
    timer.out(0, 100)
    assert timer.pit.deadline() is None, "half a count starts nothing"
    timer.out(0, 0)
    timer.go(100)
    assert not timer.line.level
    timer.go(101)
    assert timer.line.level
    assert timer.pit.deadline() is None


def test_closer_deadlines_wake_the_machine(timer: Timer) -> None:
    timer.out(CONTROL, 0x38)
    timer.out(0, 0xFF, 0xFF)
    assert timer.woken == 1
    timer.out(0, 0x10, 0x00)
    assert timer.woken == 2
    timer.out(0, 0xFF, 0xFF)
    assert timer.woken == 2


def test_quick_calibration_of_the_tsc(timer: Timer) -> None:
    """quick_pit_calibrate(): MSB changes of counter 2 against the clock."""
    timer.pit.set_gate(True)
    timer.out(CONTROL, 0xB0)
    timer.out(2, 0xFF, 0xFF)

    def read_msb() -> int:
        timer.clock.ticks += 40
        timer.pit.read(2, 1)
        timer.clock.ticks += 40
        return timer.pit.read(2, 1)

    def expect(msb: int) -> tuple[int, int]:
        """pit_expect_msb(): the time when it was last seen, and the doubt."""
        seen = before = timer.clock.ticks
        count = 0
        while read_msb() == msb:
            before, seen = seen, timer.clock.ticks
            count += 1
        assert count > 5
        return seen, timer.clock.ticks - before

    read_msb()
    first, doubt1 = expect(0xFF)
    for i in range(1, 100):
        last, doubt2 = expect(0xFF - i)
        if doubt1 + doubt2 < (last - first) >> 11:
            break
    assert i < 10
    measured = (last - first) * FREQUENCY // (i * 256)
    assert measured == pytest.approx(TICKS_PER_SECOND, rel=500e-6)


def test_long_calibration_of_the_tsc(timer: Timer) -> None:
    """pit_calibrate_tsc(): counter 2 in mode 0 for 10 ms, watched through OUT."""
    count = FREQUENCY // 100
    timer.pit.set_gate(True)
    timer.out(CONTROL, 0xB0)
    timer.out(2, count & 0xFF, count >> 8)
    start = timer.clock.ticks
    while not timer.pit.out():
        timer.clock.ticks += 60
    assert timer.clock.ticks - start == pytest.approx(TICKS_PER_SECOND / 100, rel=1e-4)


def test_gate_holds_mode_0(timer: Timer) -> None:
    timer.out(CONTROL, 0xB0)
    timer.out(2, 100, 0)
    timer.go(500)
    assert timer.count(2) == 100, "gate 2 is low from the start"
    timer.pit.set_gate(True)
    timer.go(541)
    assert timer.count(2) == 60
    timer.pit.set_gate(False)
    timer.go(1000)
    assert timer.count(2) == 60
    timer.pit.set_gate(True)
    timer.go(1060)
    assert not timer.pit.out()
    timer.go(1061)
    assert timer.pit.out()


def test_gate_restarts_modes_2_and_3(timer: Timer) -> None:
    timer.pit.set_gate(True)
    timer.out(CONTROL, 0xB4)
    timer.out(2, 100, 0)
    timer.go(31)
    assert timer.count(2) == 70
    timer.pit.set_gate(False)
    assert timer.pit.out()
    timer.go(60)
    timer.pit.set_gate(True)
    timer.go(61)
    assert timer.count(2) == 100


@pytest.mark.parametrize(
    ("mode", "levels"),
    [  # OUT from the cycle of the write on, count 4
        (0, "000001111111"),
        (2, "111101110111"),
        (3, "111001100110"),
        (4, "111110111111"),
    ],
)
def test_out_by_mode(timer: Timer, mode: int, levels: str) -> None:
    timer.pit.set_gate(True)
    timer.out(CONTROL, 0x90 | mode << 1)  # counter 2, low byte only
    timer.out(2, 4)
    seen = ""
    for cycle in range(len(levels)):
        timer.go(cycle)
        seen += "01"[timer.pit.out()]
    assert seen == levels


@pytest.mark.parametrize(("mode", "levels"), [(1, "110000111111"), (5, "111111011111")])
def test_modes_started_by_the_gate(timer: Timer, mode: int, levels: str) -> None:
    timer.out(CONTROL, 0x90 | mode << 1)
    timer.out(2, 4)
    seen = ""
    for cycle in range(len(levels)):
        timer.go(cycle)
        if cycle == 2:
            timer.pit.set_gate(True)
        seen += "01"[timer.pit.out()]
    assert seen == levels


def test_latch_holds_both_bytes(timer: Timer) -> None:
    # i8253_read()
    timer.out(CONTROL, 0x34)
    timer.out(0, 0x00, 0x10)
    timer.go(0x0F02)
    timer.out(CONTROL, 0x00)
    timer.go(0x0FF0)
    timer.out(CONTROL, 0x00)  # ignored: the first one was not read yet
    assert timer.count(0) == 0x1000 - 0x0F01
    assert timer.count(0) == 0x1000 - 0x0FEF, "then it shows the running count"


def test_read_back(timer: Timer) -> None:
    timer.out(CONTROL, 0x36)
    timer.out(CONTROL, 0xE2)  # status of counter 0
    assert timer.pit.read(0, 1) == 0xF6, "OUT, no count yet, both bytes, mode 3"
    timer.out(0, 0x10, 0x00)
    timer.go(2)
    timer.out(CONTROL, 0xC2)  # status and count
    assert timer.pit.read(0, 1) == 0xB6
    assert timer.count(0) == 14, "mode 3 counts by two"
    timer.go(5)
    timer.out(CONTROL, 0xD2)  # count alone
    timer.go(6)
    assert timer.count(0) == 8
    assert timer.count(0) == 6
    timer.out(CONTROL, 0xF2)  # nothing of counter 0
    timer.out(CONTROL, 0xCC)  # both of the others
    timer.go(7)
    assert timer.count(0) == 4
    timer.out(CONTROL, 0xEE)
    assert timer.pit.read(2, 1) & 0x40, "counter 2 has no count"


@pytest.mark.parametrize("counter", [0, 1, 2])
def test_read_back_selects_counters(timer: Timer, counter: int) -> None:
    timer.pit.set_gate(True)
    for n in range(3):
        timer.out(CONTROL, n << 6 | 0x30)
        timer.out(n, 0x00, 0x10 << n)
    timer.go(11)
    timer.out(CONTROL, 0xD0 | 2 << counter)
    timer.go(21)
    assert [timer.count(n) for n in range(3)] == [
        (0x1000 << n) - (10 if n == counter else 20) for n in range(3)
    ]


def test_new_count_waits_for_the_period(timer: Timer) -> None:
    timer.out(CONTROL, 0x34)
    timer.out(0, 100, 0)
    timer.go(51)
    timer.out(0, 10, 0)
    assert timer.pit.deadline() == ticks_at(101)
    timer.out(CONTROL, 0xE2)
    assert timer.pit.read(0, 1) & 0x40
    timer.go(101)
    assert timer.pit.deadline() == ticks_at(111)
    timer.out(CONTROL, 0xE2)
    assert not timer.pit.read(0, 1) & 0x40


@pytest.mark.parametrize(
    ("access", "written", "read"), [(1, 0x34, 0x34), (2, 0x12, 0x12)]
)
def test_single_byte_access(timer: Timer, access: int, written: int, read: int) -> None:
    timer.out(CONTROL, access << 4)
    timer.out(0, written)
    assert timer.pit.read(0, 1) == read
    timer.out(CONTROL, 0)
    assert timer.pit.read(0, 1) == read
    assert timer.pit.deadline() == ticks_at(1 + (written << 8 * (access - 1)))


def test_bcd_counts_in_tens(timer: Timer) -> None:
    timer.out(CONTROL, 0x31)
    timer.out(0, 0x00, 0x10)
    assert timer.pit.deadline() == ticks_at(1001)
    timer.go(2)
    assert timer.count(0) == 0x0999
    timer.out(CONTROL, 0x31)
    timer.out(0, 0, 0)
    assert timer.pit.deadline() == ticks_at(2 + 1 + 10_000)


def test_control_word_cannot_be_read(timer: Timer) -> None:
    assert timer.pit.read(CONTROL, 1) == 0xFF


def test_state_round_trip(timer: Timer, line: Line, clock: ManualClock) -> None:
    timer.out(CONTROL, 0x34)
    timer.out(0, 0xE8, 0x03)
    timer.go(2500)
    saved = pickle.loads(pickle.dumps(timer.pit.state()))
    timer.go(7000)
    other = Pit8254(line, clock)
    other.restore(saved)
    assert other.deadline() == ticks_at(3001)
    timer.pit.restore(saved)
    assert timer.pit.state() == other.state()
