# SPDX-License-Identifier: GPL-2.0-or-later
"""Laws that hold for whatever a program does to the chips."""

import pickle
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanokernel_vm.clock import TICKS_PER_SECOND
from nanokernel_vm.devices.bus import Device, PortBus, reads, writes
from nanokernel_vm.devices.cmos import TIME, Cmos
from nanokernel_vm.devices.pic import COMMAND, DATA, PicPair
from nanokernel_vm.devices.pit import FREQUENCY, Pit8254, cycles, ticks_at
from nanokernel_vm.devices.timed import TimedDevice
from nanokernel_vm.devices.uart import Uart16550

BYTE = st.integers(0, 0xFF)
TICKS = st.integers(0, 10**15)
LINES = st.sets(st.integers(0, 7))


class ManualClock:
    def __init__(self) -> None:
        self.ticks = 0

    def now(self) -> int:
        return self.ticks


def ignore(_: object) -> None:
    """Hang on nothing."""


class Memory(Device):
    """A register that is a byte."""

    SIZE = 1

    def __init__(self) -> None:
        super().__init__()
        self.byte = 0

    @reads(0)
    def _read(self) -> int:
        return self.byte

    @writes(0)
    def _write(self, value: int) -> None:
        self.byte = value


@given(st.integers(0, 12), st.sampled_from([1, 2, 4]), st.integers(0, 2**32 - 1), LINES)
def test_wide_access_is_its_bytes(
    port: int, size: int, value: int, mapped: set[int]
) -> None:
    wide, narrow = PortBus(lambda *_: None), PortBus(lambda *_: None)
    for bus in (wide, narrow):
        for base in mapped:
            bus.map(base + 4, Memory())
    wide.write(port, size, value)
    for i in range(size):
        narrow.write(port + i, 1, value >> 8 * i & 0xFF)
    assert [wide.read(p, 1) for p in range(16)] == [
        narrow.read(p, 1) for p in range(16)
    ]
    parts = [narrow.read(port + i, 1) << 8 * i for i in range(size)]
    assert wide.read(port, size) == sum(parts)


def mask(lines: set[int]) -> int:
    return sum(1 << line for line in lines)


@given(LINES, LINES, LINES, st.integers(0, 7))
def test_pic_serves_the_first_in_order_above_all_in_service(
    requested: set[int], served: set[int], masked: set[int], lowest: int
) -> None:
    pics = PicPair()
    chip = pics.master
    for value in ((COMMAND, 0x13), (DATA, 0x40), (DATA, 0x01)):
        chip.write(value[0], 1, value[1])
    # Lowest first, so that each one may interrupt the one before
    order = [(lowest + 1 + i) % 8 for i in range(8)]
    chip.write(COMMAND, 1, 0xC0 | lowest)
    for line in sorted(served, key=order.index, reverse=True):
        chip.set_line(line, True)
        assert chip.acknowledge() == line
        chip.set_line(line, False)
    chip.write(DATA, 1, mask(masked))
    for line in requested:
        chip.set_line(line, True)
    expected = next(
        (line for line in order if line in served or line in requested - masked), None
    )
    if expected in served:
        expected = None
    assert pics.output == (expected is not None)
    if expected is not None:
        assert chip.acknowledge() == expected


@given(st.lists(st.tuples(st.sampled_from(["raise", "lower", "ack", "eoi"]), BYTE)))
def test_pic_loses_no_edge_and_invents_none(
    steps: list[tuple[str, int]],
) -> None:
    pics = PicPair()
    for chip, vector, icw3 in ((pics.master, 0x30, 4), (pics.slave, 0x38, 2)):
        for offset, value in ((COMMAND, 0x11), (DATA, vector), (DATA, icw3), (DATA, 1)):
            chip.write(offset, 1, value)
    wanted: set[int] = set()
    high: set[int] = set()
    for step, number in steps:
        irq = number % 16
        if step == "raise" and irq != 2:
            wanted |= {irq} - high
            high.add(irq)
            pics.set_line(irq, True)
        elif step == "lower" and irq != 2:
            wanted.discard(irq)
            high.discard(irq)
            pics.set_line(irq, False)
        elif step == "ack" and pics.output:
            irq = pics.acknowledge() - 0x30
            assert irq in wanted
            wanted.discard(irq)
        elif step == "eoi":
            pics.slave.write(COMMAND, 1, 0x20)
            pics.master.write(COMMAND, 1, 0x20)
    for _ in range(20):
        pics.slave.write(COMMAND, 1, 0x20)
        pics.master.write(COMMAND, 1, 0x20)
    while pics.output:
        wanted.remove(pics.acknowledge() - 0x30)
        pics.slave.write(COMMAND, 1, 0x20)
        pics.master.write(COMMAND, 1, 0x20)
    assert wanted == set()


@given(TICKS)
def test_first_tick_of_a_cycle_is_the_first(ticks: int) -> None:
    cycle = cycles(ticks)
    assert ticks_at(cycle) <= ticks < ticks_at(cycle + 1)


@given(TICKS, st.integers(2, 0xFFFF), st.lists(st.integers(0, 10**7), max_size=50))
def test_pit_keeps_its_grid_however_late_it_is_served(
    start: int, count: int, delays: list[int]
) -> None:
    clock = ManualClock()
    clock.ticks = start
    pit = Pit8254(ignore, clock)
    for offset, value in ((3, 0x34), (0, count & 0xFF), (0, count >> 8)):
        pit.write(offset, 1, value)
    loaded = cycles(start) + 1
    for delay in delays:
        due = pit.deadline()
        assert due is not None
        assert due > clock.ticks
        period, off_grid = divmod(cycles(due) - loaded, count)
        assert off_grid == 0
        assert due == ticks_at(loaded + period * count)
        clock.ticks = due + delay
        pit.expire(clock.ticks)


@given(TICKS, BYTE, BYTE, st.lists(st.integers(1, 10**5), min_size=2))
def test_pit_counts_down_with_time(
    start: int, low: int, high: int, steps: list[int]
) -> None:
    clock = ManualClock()
    clock.ticks = start
    pit = Pit8254(ignore, clock)
    for offset, value in ((3, 0x30), (0, low), (0, high)):
        pit.write(offset, 1, value)
    loaded = cycles(start) + 1
    for step in steps:
        clock.ticks += step
        pit.write(3, 1, 0x00)
        shown = pit.read(0, 1) | pit.read(0, 1) << 8
        passed = max(0, clock.ticks * FREQUENCY // TICKS_PER_SECOND - loaded)
        assert (shown + passed - (high << 8 | low)) % 0x1_0000 == 0


@given(st.binary(max_size=400), st.lists(st.integers(0, 2000), max_size=100))
def test_uart_delivers_every_byte_in_order(data: bytes, polls: list[int]) -> None:
    clock = ManualClock()
    uart = Uart16550(ignore, ignore, clock)
    for offset, value in ((3, 3), (2, 0x81), (1, 1), (4, 0x0B)):
        uart.write(offset, 1, value)
    for i in range(0, len(data), 7):
        uart.receive(data[i : i + 7])
    read = bytearray()

    def poll(limit: int) -> None:
        while limit > 0 and uart.read(5, 1) & 1:
            read.append(uart.read(0, 1))
            limit -= 1

    for count in polls:
        clock.ticks += 100_000
        while (due := uart.deadline()) is not None and due <= clock.ticks:
            uart.expire(clock.ticks)
        poll(count)
    while (due := uart.deadline()) is not None:
        clock.ticks = max(clock.ticks, due)
        uart.expire(clock.ticks)
        poll(1)
    poll(len(data))
    assert bytes(read) == data


@given(
    st.datetimes(datetime(1, 1, 1), datetime(9998, 12, 31)),
    st.sampled_from([0x00, 0x02, 0x04, 0x06]),
    st.integers(0, 10**6),
)
def test_cmos_keeps_any_date_in_any_format(
    moment: datetime, form: int, later: int
) -> None:
    """What one chip shows, another that is told so shows too, then and later."""
    epoch = int(
        (moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    )
    clock = ManualClock()
    first, second = Cmos(ignore, clock, epoch), Cmos(ignore, clock, 0)

    def read(chip: Cmos) -> list[int]:
        shown = []
        for register in TIME:
            chip.write(0, 1, register)
            shown.append(chip.read(1, 1))
        return shown

    def write(chip: Cmos, register: int, value: int) -> None:
        chip.write(0, 1, register)
        chip.write(1, 1, value)

    for chip in (first, second):
        write(chip, 11, form)
    write(second, 11, 0x80 | form)
    for register, value in zip(TIME, read(first), strict=True):
        write(second, register, value)
    write(second, 11, form)
    clock.ticks += later * TICKS_PER_SECOND
    assert read(second) == read(first)


def _pit(clock: ManualClock) -> TimedDevice:
    return Pit8254(ignore, clock)


def _uart(clock: ManualClock) -> TimedDevice:
    uart = Uart16550(ignore, ignore, clock)
    uart.receive(b"typed")
    return uart


def _cmos(clock: ManualClock) -> TimedDevice:
    return Cmos(ignore, clock, 1_767_225_600)


@pytest.mark.parametrize("make", [_pit, _uart, _cmos])
@given(steps=st.lists(st.tuples(st.integers(0, 7), BYTE, st.integers(0, 10**9))))
def test_no_program_breaks_a_chip_and_a_copy_goes_on_alike(
    make: Callable[[ManualClock], TimedDevice], steps: list[tuple[int, int, int]]
) -> None:
    """Any writes and reads at any time: bytes come back, deadlines lie ahead."""

    def step(
        device: TimedDevice, clock: ManualClock, offset: int, value: int, ticks: int
    ) -> tuple[int, int | None]:
        clock.ticks += ticks
        for _ in range(100):
            due = device.deadline()
            if due is None or due > clock.ticks:
                break
            device.expire(clock.ticks)
        else:
            raise AssertionError("its deadline never passes")
        device.write(offset % device.SIZE, 1, value)
        shown = device.read(offset % device.SIZE, 1)
        assert 0 <= shown <= 0xFF
        return shown, device.deadline()

    here, there = ManualClock(), ManualClock()
    device, copy = make(here), make(there)
    half = len(steps) // 2
    for offset, value, ticks in steps[:half]:
        step(device, here, offset, value, ticks)
    copy.restore(pickle.loads(pickle.dumps(device.state())))
    there.ticks = here.ticks
    for offset, value, ticks in steps[half:]:
        seen = step(device, here, offset, value, ticks)
        assert step(copy, there, offset, value, ticks) == seen
    assert copy.state() == device.state()
