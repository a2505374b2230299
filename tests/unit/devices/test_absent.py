# SPDX-License-Identifier: GPL-2.0-or-later
"""What Linux v6.1 does to find these chips, and to reset."""

import pytest

from nanokernel_vm.devices.absent import I8042, Floating, Pci, PortA, Post
from nanokernel_vm.devices.bus import PortBus


class Reset:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def reset() -> Reset:
    return Reset()


def _refuse(port: int, size: int, value: int | None) -> None:
    raise AssertionError(f"port {port:#x} is nobody's")


@pytest.fixture
def bus(reset: Reset) -> PortBus:
    bus = PortBus(_refuse)
    bus.map(0x60, Floating(1))
    bus.map(0x64, I8042(reset))
    bus.map(0x80, Post())
    bus.map(0x92, PortA(reset))
    bus.map(0xCF8, Pci(reset))
    return bus


def test_i8042_flush_gives_up(bus: PortBus) -> None:
    for _ in range(17):  # I8042_BUFFER_SIZE reads with the output buffer full: -EIO
        assert bus.read(0x64, 1) & 0x01
        assert bus.read(0x60, 1) == 0xFF


def test_kb_wait_does_not_wait_and_the_pulse_resets(bus: PortBus, reset: Reset) -> None:
    assert not bus.read(0x64, 1) & 0x02
    bus.write(0x64, 1, 0xAE)
    assert reset.count == 0
    bus.write(0x64, 1, 0xFE)
    assert reset.count == 1


def test_pci_is_not_found(bus: PortBus, reset: Reset) -> None:
    # pci_check_type1()
    bus.write(0xCFB, 1, 0x01)
    saved = bus.read(0xCF8, 4)
    bus.write(0xCF8, 4, 0x8000_0000)
    assert bus.read(0xCF8, 4) != 0x8000_0000
    bus.write(0xCF8, 4, saved)
    # pci_check_type2()
    for port in (0xCFB, 0xCF8, 0xCFA):
        bus.write(port, 1, 0)
    assert (bus.read(0xCF8, 1), bus.read(0xCFA, 1)) != (0, 0)
    # early_quirks(): the address of 0:0.4 has the reset's bit in its second byte
    bus.write(0xCF8, 4, 0x8000_0400)
    assert bus.read(0xCFC, 2) == 0xFFFF
    assert reset.count == 0


@pytest.mark.parametrize(
    ("port", "values", "count"),
    [  # native_machine_emergency_restart(), BOOT_CF9_SAFE: through 2, then 6 or 0xe
        (0xCF9, [0x02, 0x06], 1),
        (0xCF9, [0x02, 0x0E, 0x0E], 1),
        (0xCF9, [0x02, 0x00], 0),
        (0x92, [0x00, 0x01], 1),
        (0x92, [0x02], 0),
    ],
)
def test_reset_registers(
    bus: PortBus, reset: Reset, port: int, values: list[int], count: int
) -> None:
    for value in values:
        bus.write(port, 1, value)
    assert reset.count == count


def test_a20_is_always_open(bus: PortBus) -> None:
    bus.write(0x92, 1, 0)
    assert bus.read(0x92, 1) == 0x02


def test_post_code_is_kept(bus: PortBus) -> None:
    bus.write(0x80, 1, 0x5A)
    assert bus.read(0x80, 1) == 0x5A


def test_reset_control_reads_back(bus: PortBus) -> None:
    bus.write(0xCF9, 1, 0x02)
    assert bus.read(0xCF9, 1) == 0x02
