# SPDX-License-Identifier: GPL-2.0-or-later
"""A 16550A serial port.

Reference: National Semiconductor PC16550D datasheet (1995), section 8.  Done: both
FIFOs, the interrupts with their priorities and the receive timeout, loopback, modem
lines, scratch.  Sending takes no time, so the transmitter is always empty.  Receiving
takes the time that the divisor and 10 bits a character say.  Not done: parity, framing
and break errors, which a perfect line does not have.

The far end is a cable with CTS, DSR and DCD on, which heeds RTS and a full FIFO: what
``receive`` is given waits on the wire until the program can have it.
"""

from collections.abc import Callable

from nanokernel_vm.clock import TICKS_PER_SECOND, Clock
from nanokernel_vm.devices.bus import reads, writes
from nanokernel_vm.devices.chip import Chip, at
from nanokernel_vm.devices.timed import TimedDevice, asleep

RBR = THR = DLL = 0  # receive, transmit; divisor, low byte
IER = DLM = 1  # interrupt enable; divisor, high byte
IIR = FCR = 2  # interrupt identification; FIFO control
LCR, MCR, LSR, MSR, SCR = 3, 4, 5, 6, 7

IER_RECEIVED, IER_EMPTY, IER_LINE, IER_MODEM = 1, 2, 4, 8
IER_ALL = 0x0F

IIR_NONE, IIR_MODEM, IIR_EMPTY, IIR_RECEIVED, IIR_LINE, IIR_TIMEOUT = 1, 0, 2, 4, 6, 12
IIR_FIFOS = 0xC0  # FIFOs are enabled

FCR_ENABLE, FCR_CLEAR_RECEIVER = 0x01, 0x02
TRIGGERS = (1, 4, 8, 14)  # by FCR bits 7-6

LCR_DLAB = 0x80  # offsets 0 and 1 are the divisor

MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP = 1, 2, 4, 8, 16
MCR_ALL = 0x1F

LSR_READY, LSR_OVERRUN = 0x01, 0x02
LSR_EMPTY = 0x60  # THRE and TEMT

MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 0x10, 0x20, 0x40, 0x80
MSR_CABLE = MSR_CTS | MSR_DSR | MSR_DCD
# What loopback connects: each output to an input
LOOP = ((MCR_RTS, MSR_CTS), (MCR_DTR, MSR_DSR), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD))

FIFO_SIZE = 16
BITS = 10  # of a character: start, 8 data, stop
BAUD_BASE = 115_200  # with divisor 1
TIMEOUT_CHARACTERS = 4


class Uart16550(TimedDevice):
    """A serial port with a program at one end and a host at the other.

    Args:
        transmit: Called with each byte that the program sends.
        irq: Called with the new level whenever the interrupt line changes.
        clock: Virtual time.
        wake: Called when the deadline has become earlier.
    """

    SIZE = 8
    WIRING = (*TimedDevice.WIRING, "_transmit", "_irq", "_clock")

    def __init__(
        self,
        transmit: Callable[[int], None],
        irq: Callable[[bool], None],
        clock: Clock,
        wake: Callable[[], None] = asleep,
    ) -> None:
        super().__init__(wake)
        self._transmit, self._irq, self._clock = transmit, irq, clock
        self._line = False  # level of the interrupt output
        self._wire = bytearray()  # not yet received
        self._received = bytearray()  # the receive FIFO, or the one holding register
        self._fifo = False
        self._trigger = 1
        self._divisor = 12
        self._ier = self._lcr = self._mcr = self._scr = 0
        self._overrun = self._empty_pending = self._timed_out = False
        self._msr = MSR_CABLE
        self._arrival: int | None = None  # of the next character on the wire
        self._timeout: int | None = None  # of characters below the trigger

    # The host's side

    def receive(self, data: bytes) -> None:
        """Put ``data`` on the wire towards the program."""
        self._wire.extend(data)
        self._update()

    def backlog(self) -> int:
        """Return how many bytes are on the wire; from any thread."""
        return len(self._wire)

    def expire(self, now: int) -> None:
        """Let what is due by ``now`` happen."""
        if self._arrival is not None and now >= self._arrival:
            self._arrival = None
            self._accept(self._wire.pop(0))
        elif self._timeout is not None and now >= self._timeout:
            self._timeout = None
            self._timed_out = bool(self._received)
        self._update()

    @property
    def _capacity(self) -> int:
        return FIFO_SIZE if self._fifo else 1

    @property
    def _loop(self) -> bool:
        return bool(self._mcr & MCR_LOOP)

    def _character_ticks(self) -> int:
        divisor = self._divisor or 0x1_0000
        return TICKS_PER_SECOND * BITS * divisor // BAUD_BASE

    def _accept(self, byte: int) -> None:
        """Take a character into the receiver; a full one loses it."""
        if len(self._received) < self._capacity:
            self._received.append(byte)
        else:
            self._overrun = True
        self._restart_timeout()

    def _restart_timeout(self) -> None:
        self._timed_out = False
        wait = TIMEOUT_CHARACTERS * self._character_ticks()
        needed = self._fifo and self._received
        self._timeout = self._clock.now() + wait if needed else None

    def _update(self) -> None:
        """Bring the wire, the deadline and the interrupt in step with the registers."""
        ready = self._wire and self._mcr & MCR_RTS and not self._loop
        if not ready or len(self._received) >= self._capacity:
            self._arrival = None
        elif self._arrival is None:
            self._arrival = self._clock.now() + self._character_ticks()
        due = [t for t in (self._arrival, self._timeout) if t is not None]
        self._set_deadline(min(due, default=None))
        # On a PC, OUT2 enables the line's driver; loopback takes OUT2 off the pin
        driven = self._mcr & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2
        level = bool(driven and self._cause() != IIR_NONE)
        if level != self._line:
            self._line = level
            self._irq(level)

    def _cause(self) -> int:
        """Return the enabled interrupt of highest priority, as IIR shows it."""
        enabled = self._ier
        if enabled & IER_LINE and self._overrun:
            return IIR_LINE
        if enabled & IER_RECEIVED and len(self._received) >= self._needed:
            return IIR_RECEIVED
        if enabled & IER_RECEIVED and self._timed_out:
            return IIR_TIMEOUT
        if enabled & IER_EMPTY and self._empty_pending:
            return IIR_EMPTY
        return IIR_MODEM if enabled & IER_MODEM and self._msr & 0x0F else IIR_NONE

    @property
    def _needed(self) -> int:
        return self._trigger if self._fifo else 1

    # The program's side

    @reads(RBR)
    def _read_rbr(self) -> int:
        if self._lcr & LCR_DLAB:
            return self._divisor & 0xFF
        byte = self._received.pop(0) if self._received else 0
        self._restart_timeout()
        self._update()
        return byte

    @writes(THR)
    def _write_thr(self, value: int) -> None:
        if self._lcr & LCR_DLAB:
            self._divisor = self._divisor & 0xFF00 | value
            return
        if self._loop:
            self._accept(value)
        else:
            self._transmit(value)
        self._empty_pending = True
        if self._ier or self._loop:  # printk's polling needs no more
            self._update()

    @reads(IER)
    def _read_ier(self) -> int:
        return self._divisor >> 8 if self._lcr & LCR_DLAB else self._ier

    @writes(IER)
    def _write_ier(self, value: int) -> None:
        if self._lcr & LCR_DLAB:
            self._divisor = self._divisor & 0xFF | value << 8
            return
        # Enabled over an empty transmitter, the interrupt comes at once
        if value & ~self._ier & IER_EMPTY:
            self._empty_pending = True
        self._ier = value & IER_ALL
        self._update()

    @reads(IIR)
    def _read_iir(self) -> int:
        cause = self._cause()
        if cause == IIR_EMPTY:
            self._empty_pending = False
            self._update()
        return cause | (IIR_FIFOS if self._fifo else 0)

    @writes(FCR)
    def _write_fcr(self, value: int) -> None:
        enable = bool(value & FCR_ENABLE)
        if enable != self._fifo or value & FCR_CLEAR_RECEIVER:
            self._received.clear()
            self._timed_out, self._timeout = False, None
        self._fifo = enable
        if enable:
            self._trigger = TRIGGERS[value >> 6]
        self._update()

    @reads(LCR)
    def _read_lcr(self) -> int:
        return self._lcr

    @writes(LCR)
    def _write_lcr(self, value: int) -> None:
        self._lcr = value

    @reads(MCR)
    def _read_mcr(self) -> int:
        return self._mcr

    @writes(MCR)
    def _write_mcr(self, value: int) -> None:
        self._mcr = value & MCR_ALL
        self._set_modem_lines()
        self._update()

    def _set_modem_lines(self) -> None:
        new = MSR_CABLE
        if self._loop:
            new = sum(line for out, line in LOOP if self._mcr & out)
        changed = (new ^ self._msr) & 0xF0
        if new & MSR_RI:
            changed &= ~MSR_RI  # only its end counts
        self._msr = new | self._msr & 0x0F | changed >> 4

    @reads(LSR)
    def _read_lsr(self) -> int:
        ready = LSR_READY if self._received else 0
        if not self._overrun:
            return LSR_EMPTY | ready
        self._overrun = False
        self._update()
        return LSR_EMPTY | ready | LSR_OVERRUN

    @reads(MSR)
    def _read_msr(self) -> int:
        msr = self._msr
        self._msr &= 0xF0
        self._update()
        return msr

    @reads(SCR)
    def _read_scr(self) -> int:
        return self._scr

    @writes(SCR)
    def _write_scr(self, value: int) -> None:
        self._scr = value


# COM1 is port 0x3f8 and irq 4, COM2 is port 0x2f8 and irq 3
CHIP = Chip(
    "uart",
    (at(0, 8),),
    lambda slot, line: (Uart16550(slot.transmit, line, slot.clock, slot.wake),),
    movable=True,
)
