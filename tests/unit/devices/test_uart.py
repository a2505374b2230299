# SPDX-License-Identifier: GPL-2.0-or-later
"""Register sequences are from drivers/tty/serial/8250/8250_port.c (v6.1)."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest

from nanokernel_vm.clock import TICKS_PER_SECOND
from nanokernel_vm.devices.uart import (
    DLL,
    DLM,
    FCR,
    IER,
    IIR,
    LCR,
    LSR,
    MCR,
    MSR,
    RBR,
    SCR,
    THR,
    Uart16550,
)

if TYPE_CHECKING:
    from tests.unit.devices.conftest import Line, ManualClock

CHARACTER = TICKS_PER_SECOND * 10 // 115_200


class Port:
    """A serial port, the cable's other end, and Linux's driver."""

    def __init__(self, line: Line, clock: ManualClock) -> None:
        self.line, self.clock = line, clock
        self.sent = bytearray()
        self.woken = 0
        self.uart = Uart16550(self.sent.append, line, clock, self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def out(self, *pairs: tuple[int, int]) -> None:
        for offset, value in pairs:
            self.uart.write(offset, 1, value)

    def in_(self, offset: int) -> int:
        return self.uart.read(offset, 1)

    def open(self) -> None:
        """Do serial8250_do_startup() and set_termios() for 115200 8n1."""
        self.out((FCR, 1), (FCR, 7), (FCR, 0), (LCR, 3), (IER, 0), (MCR, 0x0B))
        self.out((LCR, 0x83), (DLL, 1), (DLM, 0), (LCR, 3), (FCR, 0x81), (IER, 0x05))

    def go(self, ticks: int) -> None:
        end = self.clock.ticks + ticks
        while (due := self.uart.deadline()) is not None and due <= end:
            self.clock.ticks = max(self.clock.ticks, due)
            self.uart.expire(due)
        self.clock.ticks = end

    def drain(self) -> bytes:
        data = bytearray()
        while self.in_(LSR) & 1:
            data.append(self.in_(RBR))
        return bytes(data)


@pytest.fixture
def port(line: Line, clock: ManualClock) -> Port:
    return Port(line, clock)


def test_autoconfig_finds_a_16550a(port: Port) -> None:
    port.out((IER, 0))
    assert port.in_(IER) & 0x0F == 0
    port.out((IER, 0x0F))
    assert port.in_(IER) & 0x0F == 0x0F
    port.out((IER, 0))
    port.out((MCR, 0x1A))  # loopback: RTS to CTS, OUT2 to DCD
    assert port.in_(MSR) & 0xF0 == 0x90
    port.out((MCR, 0), (LCR, 0xBF), (FCR, 0), (LCR, 0), (FCR, 1))
    assert port.in_(IIR) >> 6 == 3
    # autoconfig_16550a(): no EFR at offset 2, be DLAB what it may; no UUE in IER
    for lcr in (0x80, 0xBF):
        port.out((LCR, lcr))
        assert port.in_(FCR) != 0
    port.out((LCR, 0), (IER, 0x40))
    assert port.in_(IER) == 0
    for value in (0x55, 0xAA):
        port.out((SCR, value))
        assert port.in_(SCR) == value


def test_size_fifo_counts_16(port: Port) -> None:
    port.out((LCR, 0), (FCR, 7), (MCR, 0x10), (LCR, 0x80))
    port.out((DLL, 1), (DLM, 0), (LCR, 3))
    port.out(*[(THR, count) for count in range(256)])
    assert port.in_(LSR) & 2, "overrun"
    assert not port.in_(LSR) & 2, "told once"
    assert port.drain() == bytes(range(16))
    assert port.sent == b""


def test_divisor_hides_behind_dlab(port: Port) -> None:
    port.out((LCR, 0x80), (DLL, 0x34), (DLM, 0x12))
    assert (port.in_(DLL), port.in_(DLM), port.in_(LCR)) == (0x34, 0x12, 0x80)
    port.out((LCR, 3), (THR, 0x41), (IER, 1))
    assert port.sent == b"A"
    assert port.in_(IER) == 1
    port.out((LCR, 0x80))
    assert (port.in_(DLL), port.in_(DLM)) == (0x34, 0x12)


def test_polled_output_never_waits(port: Port) -> None:
    for byte in b"hello\r\n":
        assert port.in_(LSR) & 0x60 == 0x60
        port.out((THR, byte))
    assert port.sent == b"hello\r\n"


def test_transmitter_interrupt_comes_when_enabled_and_goes_when_read(
    port: Port, line: Line
) -> None:
    # serial8250_do_startup()'s test for UART_BUG_THRE and UART_BUG_TXEN
    port.open()
    for _ in range(2):
        port.out((IER, 2))
        assert line.level
        assert port.in_(IIR) & 0x0F == 2
        assert not line.level
        assert port.in_(IIR) & 0x0F == 1
        port.out((IER, 0))


def test_transmitter_interrupt_returns_after_each_byte(port: Port, line: Line) -> None:
    port.open()
    port.out((IER, 2))
    port.in_(IIR)
    port.out((THR, 0x41))
    assert line.level
    assert port.in_(IIR) & 0x0F == 2
    port.out((IER, 2))
    assert not line.level, "it was enabled already"
    port.out((IER, 0), (THR, 0x42))
    assert not line.level


def test_reading_iir_for_another_cause_keeps_the_transmitter_pending(
    port: Port,
) -> None:
    port.open()
    port.out((FCR, 1), (IER, 3))
    port.uart.receive(b"x")
    port.go(CHARACTER)
    assert port.in_(IIR) & 0x0F == 4
    assert port.in_(RBR) == ord("x")
    assert port.in_(IIR) & 0x0F == 2


def test_trigger_level_and_timeout(port: Port, line: Line) -> None:
    port.open()  # trigger at 8
    port.uart.receive(b"0123456789")
    port.go(7 * CHARACTER)
    assert not line.level
    port.go(CHARACTER)
    assert line.level
    assert port.in_(IIR) == 0xC4
    assert [port.in_(RBR) for _ in range(2)] == [*b"01"]
    assert not line.level, "below the trigger"
    port.go(2 * CHARACTER)
    assert line.level, "the last two came"
    port.in_(RBR)
    assert not line.level
    port.go(4 * CHARACTER - 1)
    assert not line.level
    port.go(1)
    assert line.level
    assert port.in_(IIR) == 0xCC
    port.in_(RBR)
    assert port.in_(IIR) == 0xC1, "a read starts the timeout again"
    port.go(4 * CHARACTER)
    assert port.in_(IIR) == 0xCC
    assert port.drain() == b"456789"
    assert port.uart.deadline() is None


@pytest.mark.parametrize(
    ("fcr", "trigger"), [(0x01, 1), (0x41, 4), (0x81, 8), (0xC1, 14)]
)
def test_trigger_levels(port: Port, line: Line, fcr: int, trigger: int) -> None:
    port.open()
    port.out((FCR, fcr))
    port.uart.receive(bytes(16))
    port.go((trigger - 1) * CHARACTER)
    assert not line.level
    port.go(CHARACTER)
    assert line.level
    assert port.in_(IIR) == 0xC4


def test_characters_take_the_time_that_the_divisor_says(port: Port) -> None:
    port.open()
    port.out((LCR, 0x83), (DLL, 12), (LCR, 3))  # 9600 baud
    port.uart.receive(b"x")
    character = TICKS_PER_SECOND * 10 // 9600
    assert port.uart.deadline() == character
    port.go(character)
    assert port.uart.deadline() == 5 * character, "then the timeout"
    port.drain()
    port.out((LCR, 0x83), (DLL, 0), (LCR, 3))  # 0 divides by 65536
    port.uart.receive(b"x")
    assert (
        port.uart.deadline() == port.clock.ticks + TICKS_PER_SECOND * 655_360 // 115_200
    )


def test_switching_the_fifos_empties_them(port: Port) -> None:
    port.open()
    for fcr in (0x00, 0x01):
        port.uart.receive(b"x")
        port.go(CHARACTER)
        port.out((FCR, fcr))
        assert not port.in_(LSR) & 1
    port.uart.receive(b"x")
    port.go(CHARACTER)
    port.out((FCR, 0x01))
    assert port.in_(LSR) & 1, "nothing was switched or cleared"


def test_without_fifos_each_character_interrupts(port: Port, line: Line) -> None:
    port.open()
    port.out((FCR, 0))
    port.uart.receive(b"ab")
    for byte in b"ab":
        port.go(3 * CHARACTER)
        assert line.level
        assert port.in_(IIR) == 4
        assert port.in_(RBR) == byte
        assert not line.level


def test_nothing_is_lost_however_much_is_typed(port: Port, line: Line) -> None:
    port.open()
    data = bytes(range(256)) * 20
    port.uart.receive(data)
    read = bytearray()
    while port.uart.deadline() is not None or line.level:
        port.go(50 * CHARACTER)  # a slow reader: the wire waits for it
        read += port.drain()
    assert bytes(read) == data
    assert port.clock.ticks >= len(data) * CHARACTER


def test_the_wire_waits_for_rts(port: Port) -> None:
    port.uart.receive(b"early")
    assert port.uart.deadline() is None
    port.open()
    assert port.woken == 1
    port.go(20 * CHARACTER)
    assert port.drain() == b"early"


def test_clearing_the_fifo_drops_what_was_received_only(port: Port) -> None:
    port.open()
    port.uart.receive(bytes(20))
    port.go(100 * CHARACTER)
    port.out((FCR, 0x83))
    assert not port.in_(LSR) & 1
    port.go(100 * CHARACTER)
    assert port.drain() == bytes(4)


def test_reading_an_empty_receiver_gives_0(port: Port) -> None:
    port.open()
    assert port.in_(RBR) == 0
    assert port.uart.deadline() is None


def test_out2_gates_the_interrupt(port: Port, line: Line) -> None:
    port.open()
    port.out((MCR, 0x03), (IER, 2))
    assert not line.level
    assert port.in_(IIR) & 0x0F == 2
    port.out((IER, 0), (IER, 2), (MCR, 0x0B))
    assert line.level
    port.out((MCR, 0x1B))
    assert not line.level, "loopback takes OUT2 off the pin"


def test_line_status_interrupt_goes_when_read(port: Port, line: Line) -> None:
    port.out((MCR, 0x10), (FCR, 0), (THR, 1), (THR, 2), (MCR, 0x0B), (IER, 4))
    assert line.level
    assert port.in_(IIR) & 0x0F == 6
    port.in_(LSR)
    assert not line.level


def test_modem_interrupt_goes_when_read(port: Port, line: Line) -> None:
    port.out((MCR, 0x10), (MCR, 0x0B), (IER, 8))
    assert line.level
    assert port.in_(IIR) & 0x0F == 0
    port.in_(MSR)
    assert not line.level


def test_disabled_causes_do_not_show(port: Port) -> None:
    port.out((MCR, 0x10), (FCR, 0), (THR, 1), (THR, 2))
    for ier, iir in ((0, 1), (8, 0), (2, 2), (1, 4), (4, 6)):
        port.out((IER, ier))
        assert port.in_(IIR) & 0x0F == iir


def test_overrun_interrupts_first(port: Port, line: Line) -> None:
    port.out((MCR, 0x10), (FCR, 0), (IER, 5), (THR, 1), (THR, 2))
    assert port.in_(IIR) & 0x0F == 6
    assert port.in_(LSR) & 2
    assert port.in_(IIR) & 0x0F == 4
    assert port.in_(RBR) == 1


@pytest.mark.parametrize(
    ("mcr", "msr"),
    [
        (0x10, 0x0B),
        (0x11, 0x29),
        (0x12, 0x1A),
        (0x14, 0x4B),
        (0x18, 0x83),
        (0x1F, 0xF0),
    ],
)
def test_loopback_modem_lines(port: Port, mcr: int, msr: int) -> None:
    assert port.in_(MSR) == 0xB0, "CTS, DSR and DCD of the cable"
    port.out((MCR, mcr), (IER, 8))
    assert port.in_(MSR) == msr
    assert port.in_(MSR) == msr & 0xF0, "changes are told once"


def test_end_of_ring_is_a_change_its_start_is_not(port: Port) -> None:
    port.out((MCR, 0x10))
    port.in_(MSR)
    port.out((MCR, 0x14))
    assert port.in_(MSR) == 0x40
    port.out((MCR, 0x10))
    assert port.in_(MSR) == 0x04


def test_modem_interrupt_has_the_last_priority(port: Port) -> None:
    port.out((MCR, 0x10), (IER, 8))
    assert port.in_(IIR) & 0x0F == 0
    port.in_(MSR)
    assert port.in_(IIR) & 0x0F == 1


def test_state_round_trip(port: Port, line: Line, clock: ManualClock) -> None:
    port.open()
    port.uart.receive(b"0123456789")
    port.go(5 * CHARACTER)
    saved = pickle.loads(pickle.dumps(port.uart.state()))
    port.go(50 * CHARACTER)
    port.drain()
    port.uart.restore(saved)
    clock.ticks = 5 * CHARACTER
    port.go(5 * CHARACTER)
    assert port.drain() == b"0123456789"
