# SPDX-License-Identifier: GPL-2.0-or-later
"""The hypercall table: what a guest may ask of the nanokernel.

Numbers, arguments and errors are declared in ``nanokernel_vm.abi.layout``.
"""

from collections.abc import Callable
from typing import Protocol

from nanokernel_vm.abi.frame import FRAME_REVISION
from nanokernel_vm.abi.layout import (
    GATE_DPL,
    GATE_IST,
    GATE_TYPE,
    IRQ_LINES,
    Error,
    Hypercall,
    IrqLine,
)
from nanokernel_vm.clock import nanoseconds, ticks
from nanokernel_vm.cpu.delivery import Gate
from nanokernel_vm.nanokernel.frames import Frames
from nanokernel_vm.nanokernel.lines import InterruptLines

KERNEL_CS = 0x10  # the guest's __KERNEL_CS (arch/x86/include/asm/segment.h)
_PANIC_LENGTH = 4096
_PAGE = 4096


class Caller(Protocol):
    """The partition that called."""

    def now(self) -> int:
        """Its clock, in ticks."""

    def read_virtual(self, va: int, length: int) -> bytes | None:
        """Its memory; None where unmapped."""

    def shut_down(self, restart: bool) -> None:
        """End it after the current instruction."""

    def reschedule(self) -> None:
        """Look at its deadlines and lines again soon."""


class Guest:
    """What the nanokernel keeps for one guest: handlers, lines, timer.

    Args:
        caller: Its partition.
        epoch: Seconds since 1970 at which the machine was switched on.
    """

    def __init__(self, caller: Caller, epoch: int) -> None:
        self._caller = caller
        self._epoch = epoch
        self.gates: dict[int, Gate] = {}
        self.syscall: tuple[int, int] | None = None
        self.lines = InterruptLines()
        self.timer: int | None = None
        self.panic = ""
        self.panicked: int | None = None  # when, in ticks
        self.frames: Frames | None = None  # plain ones
        self._table: dict[int, Callable[[int, int, int], int]] = {
            Hypercall.SET_GATE: self._set_gate,
            Hypercall.SET_SYSCALL: self._set_syscall,
            Hypercall.MASK_IRQ: self._on_line(self.lines.mask),
            Hypercall.UNMASK_IRQ: self._on_line(self.lines.unmask),
            Hypercall.END_IRQ: self._on_line(self.lines.end),
            Hypercall.SET_TIMER: self._set_timer,
            Hypercall.READ_CLOCK: lambda *_: nanoseconds(caller.now()),
            Hypercall.READ_WALL_CLOCK: self._wall_clock,
            Hypercall.SHUT_DOWN: lambda *_: self._end(restart=False),
            Hypercall.RESTART: lambda *_: self._end(restart=True),
            Hypercall.REPORT_PANIC: self._report_panic,
            Hypercall.USE_FRAMES: self._use_frames,
        }

    def call(self, function: int, a: int, b: int, c: int) -> int:
        """Carry out one hypercall; the value for rax."""
        handler = self._table.get(function)
        return Error.ENOSYS if handler is None else handler(a, b, c)

    def state(self) -> dict[str, object]:
        """A copy of everything that a snapshot must hold."""
        return {
            "gates": dict(self.gates),
            "syscall": self.syscall,
            "lines": self.lines.state(),
            "timer": self.timer,
            "panic": self.panic,
            "frames": self.frames.state() if self.frames is not None else None,
        }

    def deadline(self) -> int | None:
        """When the timer is due, in ticks."""
        return self.timer

    def expire(self, now: int) -> None:
        """The timer is due."""
        if self.timer is not None and now >= self.timer:
            self.timer = None
            self.lines.pulse(IrqLine.TIMER)
            self._caller.reschedule()

    def _set_gate(self, vector: int, handler: int, word: int) -> int:
        kind = GATE_TYPE.of(word)
        if vector > 0xFF or kind not in (0xE, 0xF):
            return Error.EINVAL
        self.gates[vector] = Gate(
            handler, KERNEL_CS, kind == 0xF, GATE_DPL.of(word), GATE_IST.of(word)
        )
        return 0

    def _set_syscall(self, entry: int, mask: int, _: int) -> int:
        self.syscall = entry, mask
        return 0

    def _on_line(self, change: Callable[[int], None]) -> Callable[[int, int, int], int]:
        def call(line: int, _b: int, _c: int) -> int:
            if line >= IRQ_LINES:
                return Error.EINVAL
            change(line)
            self._caller.reschedule()
            return 0

        return call

    def _set_timer(self, delay: int, _b: int, _c: int) -> int:
        self.timer = self._caller.now() + ticks(delay) if delay else None
        self._caller.reschedule()
        return 0

    def _wall_clock(self, _a: int, _b: int, _c: int) -> int:
        return self._epoch * 1_000_000_000 + nanoseconds(self._caller.now())

    def _end(self, restart: bool) -> int:
        self._caller.shut_down(restart)
        return 0

    def _report_panic(self, addr: int, length: int, _: int) -> int:
        if length > _PANIC_LENGTH:
            return Error.EINVAL
        text = self._caller.read_virtual(addr, length)
        if text is None:
            return Error.EFAULT
        self.panic = text.decode(errors="replace").rstrip()
        self.panicked = self._caller.now()
        return 0

    def _use_frames(self, revision: int, stack_size: int, _: int) -> int:
        power_of_two = stack_size & stack_size - 1 == 0
        if revision != FRAME_REVISION or stack_size < _PAGE or not power_of_two:
            return Error.EINVAL
        self.frames = Frames(self._caller, stack_size)
        return 0
