# SPDX-License-Identifier: GPL-2.0-or-later
import logging
import pickle

import pytest

from nanokernel_vm.devices.bus import Device, PortBus, reads, writes
from nanokernel_vm.errors import BusError


class Latches(Device):
    """Two bytes to write and read; a third, undecoded port."""

    SIZE = 3
    WIRING = ("told",)

    def __init__(self) -> None:
        super().__init__()
        self.told = print
        self.bytes = [0x11, 0x22]

    @reads(0)
    def _read0(self) -> int:
        return self.bytes[0]

    @reads(1)
    def _read1(self) -> int:
        return self.bytes[1]

    @writes(0)
    def _write0(self, value: int) -> None:
        self.bytes[0] = value

    @writes(1)
    def _write1(self, value: int) -> None:
        self.bytes[1] = value


class Ordered(Latches):
    """Adds a register to what it inherits."""

    @reads(2)
    def _read2(self) -> int:
        return 0x33


class Wide(Device):
    """Sees the size of an access."""

    SIZE = 4

    def read(self, offset: int, size: int) -> int:
        return offset << 4 | size

    def write(self, offset: int, size: int, value: int) -> None:
        self.written = (offset, size, value)


Access = tuple[int, int, int | None]


@pytest.fixture
def unclaimed() -> list[Access]:
    return []


@pytest.fixture
def bus(unclaimed: list[Access]) -> PortBus:
    return PortBus(lambda *access: unclaimed.append(access))


def test_wide_accesses_are_bytes_low_first(bus: PortBus) -> None:
    latches = Latches()
    bus.map(0x100, latches)
    assert bus.read(0x100, 2) == 0x2211
    bus.write(0x100, 2, 0xBEEF)
    assert latches.bytes == [0xEF, 0xBE]
    assert bus.read(0x100, 4) == 0xFFFF_BEEF


def test_what_a_device_does_not_decode_floats(
    bus: PortBus, unclaimed: list[Access], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    bus.map(0x100, Latches())
    for _ in range(3):
        assert bus.read(0x102, 1) == 0xFF
        bus.write(0x102, 1, 5)
    assert unclaimed == []
    assert [r.getMessage() for r in caplog.records] == [
        "Latches: read at +0x2 floats",
        "Latches: write at +0x2 floats",
    ]


def test_ports_of_nobody_read_ones_and_are_reported(
    bus: PortBus, unclaimed: list[Access]
) -> None:
    assert [bus.read(0x200, size) for size in (1, 2, 4)] == [0xFF, 0xFFFF, 0xFFFF_FFFF]
    bus.write(0x300, 4, 7)
    assert unclaimed == [
        (0x200, 1, None),
        (0x200, 2, None),
        (0x200, 4, None),
        (0x300, 4, 7),
    ]


def test_an_access_may_reach_two_devices_and_nobody(
    bus: PortBus, unclaimed: list[Access]
) -> None:
    first, second = Latches(), Latches()
    bus.map(0x100, first)
    bus.map(0x103, second)
    assert bus.read(0x102, 4) == 0xFF22_11FF
    bus.write(0xFF, 2, 0xAB00)
    assert first.bytes[0] == 0xAB
    assert unclaimed == [(0xFF, 1, 0)]


def test_ports_wrap_at_64k(bus: PortBus) -> None:
    bus.map(0xFFFD, Ordered())
    assert bus.read(0xFFFF, 2) == 0xFF33


def test_a_device_that_wants_wide_accesses_gets_them_whole(bus: PortBus) -> None:
    wide = Wide()
    bus.map(0x80, wide)
    assert bus.read(0x80, 4) == 0x04
    assert bus.read(0x82, 2) == 0x22
    bus.write(0x80, 4, 0x1234_5678)
    assert wide.written == (0, 4, 0x1234_5678)


def test_registers_are_inherited() -> None:
    assert Ordered().read(0, 4) == 0xFF33_2211
    assert Latches().read(2, 1) == 0xFF


class Nothing(Device):
    SIZE = 0


@pytest.mark.parametrize(
    ("base", "device", "message"),
    [
        (0x102, Wide(), "Wide: port 0x102 belongs to Latches already"),
        (0xFE, Wide(), "Wide: port 0x100 belongs to Latches already"),
        (0x200, Nothing(), "Nothing at 0x200 has no ports"),
        (0xFFFD, Wide(), "Wide: ports 0xfffd-0x10000 are not within 0x0-0xffff"),
        (-1, Wide(), "Wide: ports -0x1-0x2 are not within 0x0-0xffff"),
    ],
)
def test_a_device_that_does_not_fit_is_refused(
    bus: PortBus, base: int, device: Device, message: str
) -> None:
    bus.map(0x100, Latches())
    with pytest.raises(BusError, match=message):
        bus.map(base, device)
    assert bus.read(0x100, 2) == 0x2211


def test_state_is_a_copy_without_wiring() -> None:
    latches = Latches()
    saved = pickle.loads(pickle.dumps(latches.state()))
    latches.write(0, 2, 0xBEEF)
    assert saved == {"bytes": [0x11, 0x22]}
    latches.restore(saved)
    latches.write(0, 1, 0x99)
    assert saved == {"bytes": [0x11, 0x22]}
    assert latches.bytes == [0x99, 0x22]
    assert latches.told is print
