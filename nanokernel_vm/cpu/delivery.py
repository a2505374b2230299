# SPDX-License-Identifier: GPL-2.0-or-later
"""Delivery of interrupts, exceptions and system calls in 64-bit mode.

Intel SDM vol. 3, 6.14 "Exception and Interrupt Handling in 64-bit Mode", 6.15, and
vol. 2, SYSCALL.  Works on a saved State and on RAM; knows no engine.  What the hardware
does with a broken IDT or stack is done: #DF, then a triple fault, which is a value.

The frame, growing down from a stack aligned to 16 (SDM figure 6-9)::

    ss | rsp | rflags | cs | rip | error code (some vectors)   <- rsp
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from nanokernel_vm.cpu import state as s
from nanokernel_vm.cpu.paging import WRITABLE, AddressSpace
from nanokernel_vm.cpu.state import State
from nanokernel_vm.memory import Window

DB, BP, UD, DF, TS, NP, STACK, GP, PF = 1, 3, 6, 8, 10, 11, 12, 13, 14
WITH_ERROR_CODE = frozenset((DF, TS, NP, STACK, GP, PF, 17, 21, 29, 30))
CONTRIBUTORY = frozenset((0, TS, NP, STACK, GP))

_GATE_TYPES = (14, 15)
_TSS_RSP0, _TSS_IST1 = 4, 36
_WORD = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Gate:
    """A handler: from the IDT in memory, or registered with the nanokernel.

    Attributes:
        handler: Virtual address.
        selector: Code segment in the GDT.
        trap: Whether interrupts stay as they are (a trap gate).
        dpl: Least privilege that may enter by INT n.
        ist: Interrupt stack, 1 to 7; 0: none.
    """

    handler: int
    selector: int
    trap: bool
    dpl: int
    ist: int


@dataclass(frozen=True, slots=True)
class TripleFault:
    """A fault that had no way to be delivered; the partition is dead.

    Attributes:
        vectors: The vectors tried, in order.
        why: What the last one failed on.
    """

    vectors: tuple[int, ...]
    why: str


class _Undeliverable(Exception):
    """A fault during delivery: vector, error code, and the reason in words."""

    def __init__(self, vector: int, error_code: int, why: str) -> None:
        super().__init__(why)
        self.vector, self.error_code = vector, error_code


def decode_gate(low: int, high: int) -> Gate | None:
    """Decode the two words of an IDT entry (SDM figure 6-8); None if not usable."""
    kind = low >> 40 & 0xF
    if not low >> 47 & 1 or kind not in _GATE_TYPES:
        return None
    handler = low & 0xFFFF | low >> 32 & 0xFFFF_0000 | (high & 0xFFFF_FFFF) << 32
    return Gate(handler, low >> 16 & 0xFFFF, kind == 15, low >> 45 & 3, low >> 32 & 7)


class Delivery:
    """Delivers to one processor.

    Args:
        window: Memory of the partition.
        registered: Look-up of handlers that the partition registered with the
            nanokernel; None: its IDT in memory is used.
    """

    def __init__(
        self, window: Window, registered: Callable[[int], Gate | None] | None = None
    ) -> None:
        self._window = window
        self._registered = registered

    def deliver(
        self, cpu: State, vector: int, error_code: int = 0, software: bool = False
    ) -> TripleFault | Gate:
        """Enter the handler of ``vector``; rip is what the frame shall return to.

        Args:
            cpu: Changed in place.
            vector: 0 to 255.
            error_code: Pushed for the vectors that have one.
            software: INT n: the gate's privilege is checked.
        """
        tried = [vector]
        while True:
            try:
                return self._enter(cpu, vector, error_code, software)
            except _Undeliverable as fault:
                if vector == DF:
                    return TripleFault(tuple(tried), str(fault))
                doubled = (vector in CONTRIBUTORY and fault.vector in CONTRIBUTORY) or (
                    vector == PF and fault.vector in CONTRIBUTORY | {PF}
                )
                vector, error_code, software = (
                    (DF, 0, False)
                    if doubled
                    else (fault.vector, fault.error_code, False)
                )
                tried.append(vector)
                if len(tried) > 8:
                    return TripleFault(tuple(tried), str(fault))

    def gate(self, cpu: State, vector: int) -> Gate | None:
        """The gate of ``vector`` as it stands now; None if there is none."""
        if self._registered is not None:
            return self._registered(vector)
        if vector * 16 + 15 > cpu.idt.limit:
            return None
        raw = self._read(cpu, cpu.idt.base + vector * 16, 16)
        return None if raw is None else decode_gate(*struct.unpack("<QQ", raw))

    def _enter(self, cpu: State, vector: int, error_code: int, software: bool) -> Gate:
        external = 0 if software else 1
        gate = self.gate(cpu, vector)
        if gate is None:
            raise _Undeliverable(GP, vector * 8 + 2 + external, f"no gate {vector:#x}")
        if software and gate.dpl < cpu.cpl:
            raise _Undeliverable(GP, vector * 8 + 2, f"gate {vector:#x} is privileged")
        code = self._descriptor(cpu, gate.selector)
        cpl = code >> 45 & 3
        rsp = self._stack(cpu, gate, cpl)
        frame = [
            *((error_code,) if vector in WITH_ERROR_CODE else ()),
            cpu.rip,
            cpu.segs[s.CS].selector,
            cpu.rflags,
            cpu.regs[s.RSP],
            cpu.segs[s.SS].selector,
        ]
        rsp = (rsp & ~0xF) - 8 * len(frame) & _WORD
        self._push(cpu, rsp, frame)
        enter_code_segment(cpu, gate.selector & ~3 | cpl, code >> 32, cpl)
        cpu.regs[s.RSP] = rsp
        cpu.rip = gate.handler
        cleared = s.TF | s.NT | s.RF | s.VM | (0 if gate.trap else s.IF)
        cpu.rflags &= ~cleared
        return gate

    def _stack(self, cpu: State, gate: Gate, cpl: int) -> int:
        if gate.ist:
            return self._tss_word(cpu, _TSS_IST1 + 8 * (gate.ist - 1))
        if cpl < cpu.cpl:
            return self._tss_word(cpu, _TSS_RSP0)
        return cpu.regs[s.RSP]

    def _tss_word(self, cpu: State, offset: int) -> int:
        raw = self._read(cpu, cpu.tr.base + offset, 8)
        if raw is None:
            raise _Undeliverable(
                TS, cpu.tr.selector & ~7, f"no TSS at {cpu.tr.base:#x}"
            )
        return int.from_bytes(raw, "little")

    def _descriptor(self, cpu: State, selector: int) -> int:
        raw = self._read(cpu, cpu.gdt.base + (selector & ~7), 8)
        code = int.from_bytes(raw, "little") if raw else 0
        if not code >> 47 & 1 or not code >> 53 & 1:
            raise _Undeliverable(
                GP, selector & ~7, f"code segment {selector:#x} unusable"
            )
        return code

    def _push(self, cpu: State, rsp: int, frame: list[int]) -> None:
        space = address_space(cpu, self._window)
        data = struct.pack(f"<{len(frame)}Q", *frame)
        while data:
            page = space.page(rsp)
            if page is None or not page.flags & WRITABLE:
                cpu.cr[2] = rsp
                raise _Undeliverable(
                    PF, 2 | (page is not None), f"no stack at {rsp:#x}"
                )
            self._window.write(page.pa, data[: page.left])
            rsp, data = rsp + page.left & _WORD, data[page.left :]

    def _read(self, cpu: State, va: int, length: int) -> bytes | None:
        return read_virtual(address_space(cpu, self._window), self._window, va, length)


def address_space(cpu: State, window: Window) -> AddressSpace:
    """The page tables that ``cpu`` uses now."""
    return AddressSpace(window, cpu.cr[0], cpu.cr[3], cpu.cr[4])


def read_virtual(
    space: AddressSpace, window: Window, va: int, length: int
) -> bytes | None:
    """Read ``length`` bytes at a virtual address; None if any is unmapped."""
    data = b""
    while len(data) < length:
        page = space.page(va + len(data))
        if page is None:
            return None
        data += window.read(page.pa, min(page.left, length - len(data)))
    return data


def enter_code_segment(cpu: State, selector: int, flags: int, cpl: int) -> None:
    """Load CS of a 64-bit code segment and, if the privilege changes, a null SS."""
    code = cpu.segs[s.CS]
    if cpl != cpu.cpl:
        stack = cpu.segs[s.SS]
        stack.selector, stack.base, stack.limit = cpl, 0, 0
        stack.flags = cpl << 13
    code.selector, code.base, code.limit, code.flags = selector, 0, 0xFFFF_FFFF, flags
    cleared = s.HF_CPL | s.HF_INHIBIT_IRQ | s.HF_ADDSEG
    cpu.hflags = cpu.hflags & ~cleared | cpl | s.HF_CS64 | s.HF_CS32 | s.HF_SS32


_KERNEL_CODE = 0x00A0_9B00  # present, DPL 0, execute/read, accessed, 64-bit
_KERNEL_DATA = 0x00C0_9300  # present, DPL 0, read/write, accessed, 32-bit


def system_call(cpu: State, entry: int, mask: int) -> None:
    """Do what SYSCALL does after it has been decoded, rip being behind it.

    Args:
        cpu: Changed in place.
        entry: Virtual address to enter (IA32_LSTAR, or the registered handler).
        mask: RFLAGS bits to clear (IA32_FMASK).
    """
    cpu.regs[s.RCX] = cpu.rip
    cpu.regs[s.R11] = cpu.rflags & ~s.RF
    selector = cpu.star >> 32 & 0xFFFC
    enter_code_segment(cpu, selector, _KERNEL_CODE, 0)
    stack = cpu.segs[s.SS]
    stack.selector, stack.base, stack.limit = selector + 8, 0, 0xFFFF_FFFF
    stack.flags = _KERNEL_DATA
    cpu.rflags = cpu.rflags & ~(mask | s.RF) | 2
    cpu.rip = entry
