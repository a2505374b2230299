# SPDX-License-Identifier: GPL-2.0-or-later
"""Delivery of interrupts, exceptions and system calls in 64-bit mode.

Intel SDM vol. 3, 6.14 "Exception and Interrupt Handling in 64-bit Mode", 6.15, and
vol. 2, SYSCALL and SYSENTER.  Works on a saved State and on RAM; knows no engine.  What
the hardware does with a broken IDT or stack is done: #DF, then a triple fault, which is
a value.

The frame, growing down from a stack aligned to 16 (SDM figure 6-9)::

    ss | rsp | rflags | cs | rip | error code (some vectors)   <- rsp

An extension puts words of its own above ss.  Then SYSCALL builds a frame, too, and
interrupt stacks are for the kernel's own exceptions and #DF only: out of user mode,
every frame is built where that of the thread belongs.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

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
_HALF = 1 << 47  # added to a canonical address, it leaves 48 bits
# Of a descriptor: present, and code for 64-bit mode
_CODE_64 = 1 << 47 | 1 << 44 | 1 << 43 | 1 << 53
_CODE_MASK = _CODE_64 | 1 << 54
_CONFORMING = 1 << 42


@dataclass(frozen=True, slots=True)
class Gate:
    """A handler: from the IDT in memory, or registered with the nanokernel.

    Attributes:
        handler: Virtual address.
        selector: Code segment in the GDT.
        trap: Whether interrupts stay as they are (a trap gate).
        dpl: Least privilege that may enter by INT n.
        ist: Interrupt stack, 1 to 7; 0: none.
        present: Whether it may be used at all.
    """

    handler: int
    selector: int
    trap: bool
    dpl: int
    ist: int
    present: bool = True


class Entry(NamedTuple):
    """What was entered in the end: another vector's handler if a fault came between."""

    vector: int
    error_code: int
    gate: Gate


@dataclass(frozen=True, slots=True)
class TripleFault:
    """A fault that had no way to be delivered; the partition is dead.

    Attributes:
        vectors: The vectors tried, in order.
        why: What the last one failed on.
    """

    vectors: tuple[int, ...]
    why: str


class Extension(Protocol):
    """Words that a frame has above what IRET takes."""

    size: int  # bytes

    def words(self, vector: int, at: int, hardware: Sequence[int]) -> Sequence[int]:
        """The words for a frame of rip, cs, rflags, rsp, ss with rip at ``at``."""

    def built(self) -> None:
        """The frame of the words last asked for has been written."""


SYSCALL = 0x100  # stands for SYSCALL among vectors


class _Undeliverable(Exception):
    """A fault during delivery: vector, error code, and the reason in words."""

    def __init__(self, vector: int, error_code: int, why: str) -> None:
        super().__init__(why)
        self.vector, self.error_code = vector, error_code


def decode_gate(low: int, high: int) -> Gate | None:
    """Decode the two words of an IDT entry (SDM figure 6-8); None if it is no gate."""
    kind = low >> 40 & 0xF
    if kind not in _GATE_TYPES:
        return None
    handler = low & 0xFFFF | low >> 32 & 0xFFFF_0000 | (high & 0xFFFF_FFFF) << 32
    return Gate(
        handler,
        selector=low >> 16 & 0xFFFF,
        trap=kind == 15,
        dpl=low >> 45 & 3,
        ist=low >> 32 & 7,
        present=bool(low >> 47 & 1),
    )


class Delivery:
    """Delivers to one processor.

    Args:
        window: Memory of the partition.
        registered: Look-up of handlers that the partition registered with the
            nanokernel; None: its IDT in memory is used.
        extension: What its frames have in addition now, if anything.
    """

    def __init__(
        self,
        window: Window,
        registered: Callable[[int], Gate | None] | None = None,
        extension: Callable[[], Extension | None] = lambda: None,
    ) -> None:
        self._window = window
        self._registered = registered
        self._extension = extension

    def deliver(
        self, cpu: State, vector: int, error_code: int = 0, instruction: int = -1
    ) -> TripleFault | Entry:
        """Enter the handler of ``vector``; rip is what the frame shall return to.

        Args:
            cpu: Changed in place.
            vector: 0 to 255.
            error_code: Pushed for the vectors that have one.
            instruction: Where the INT n is that rip stands behind: the gate's privilege
                is checked, and what then fails is a fault of that instruction.
        """
        tried = [vector]
        while True:
            try:
                return self._enter(cpu, vector, error_code, instruction >= 0)
            except _Undeliverable as fault:
                if vector == DF:
                    return TripleFault(tuple(tried), str(fault))
                if instruction >= 0:
                    cpu.rip, instruction = instruction, -1
                vector, error_code = _next(vector, fault)
                tried.append(vector)

    def system_call(self, cpu: State, entry: int, mask: int) -> TripleFault | None:
        """Do what SYSCALL does after it has been decoded, rip being behind it.

        Args:
            cpu: Changed in place.
            entry: Virtual address to enter (IA32_LSTAR, or the registered handler).
            mask: RFLAGS bits to clear (IA32_FMASK).
        """
        if self._extension() is None:
            system_call(cpu, entry, mask)
            return None
        try:
            top = self._tss_word(cpu, _TSS_RSP0, external=0)
            rsp = self._build(cpu, SYSCALL, top, [], external=0)
        except _Undeliverable as fault:
            result = self.deliver(cpu, fault.vector, fault.error_code)
            return result if isinstance(result, TripleFault) else None
        system_call(cpu, entry, mask)
        cpu.regs[s.RSP] = rsp
        return None

    def gate(self, cpu: State, vector: int) -> Gate | None:
        """The gate of ``vector`` as it stands now; None if there is none."""
        if self._registered is not None:
            return self._registered(vector)
        if vector * 16 + 15 > cpu.idt.limit:
            return None
        raw = self._read(cpu, cpu.idt.base + vector * 16, 16)
        return None if raw is None else decode_gate(*struct.unpack("<QQ", raw))

    def _enter(self, cpu: State, vector: int, error_code: int, software: bool) -> Entry:
        external = 0 if software else 1
        gate = self._usable_gate(cpu, vector, software)
        code = self._code_segment(cpu, gate.selector, external)
        cpl = cpu.cpl if code & _CONFORMING else code >> 45 & 3
        below = [error_code] if vector in WITH_ERROR_CODE and not software else []
        top = self._stack(cpu, vector, gate, cpl, external)
        rsp = self._build(cpu, vector, top, below, external)
        enter_code_segment(cpu, gate.selector & ~3 | cpl, code >> 32, cpl)
        cpu.regs[s.RSP] = rsp
        cpu.rip = gate.handler
        cleared = s.TF | s.NT | s.RF | s.VM | (0 if gate.trap else s.IF)
        cpu.rflags &= ~cleared
        return Entry(vector, error_code, gate)

    def _usable_gate(self, cpu: State, vector: int, software: bool) -> Gate:
        gate = self.gate(cpu, vector)
        code = vector * 8 + 2 + (0 if software else 1)
        if gate is None:
            raise _Undeliverable(GP, code, f"no gate {vector:#x}")
        if software and gate.dpl < cpu.cpl:
            raise _Undeliverable(GP, code, f"gate {vector:#x} is privileged")
        if not gate.present:
            raise _Undeliverable(NP, code, f"gate {vector:#x} is not present")
        return gate

    def _stack(
        self, cpu: State, vector: int, gate: Gate, cpl: int, external: int
    ) -> int:
        on_thread = self._extension() is not None and cpu.cpl and vector != DF
        if gate.ist and not on_thread:
            return self._tss_word(cpu, _TSS_IST1 + 8 * (gate.ist - 1), external)
        if cpl < cpu.cpl:
            return self._tss_word(cpu, _TSS_RSP0, external)
        return cpu.regs[s.RSP]

    def _tss_word(self, cpu: State, offset: int, external: int) -> int:
        raw = self._read(cpu, cpu.tr.base + offset, 8)
        if raw is None:
            raise _Undeliverable(
                TS, cpu.tr.selector & ~7 | external, f"no TSS at {cpu.tr.base:#x}"
            )
        return int.from_bytes(raw, "little")

    def _code_segment(self, cpu: State, selector: int, external: int) -> int:
        raw = self._read(cpu, cpu.gdt.base + (selector & ~7), 8)
        code = int.from_bytes(raw, "little") if raw else 0
        if code & _CODE_MASK != _CODE_64 or code >> 45 & 3 > cpu.cpl:
            raise _Undeliverable(
                GP, selector & ~7 | external, f"code segment {selector:#x} unusable"
            )
        return code

    def _build(
        self, cpu: State, vector: int, top: int, below: list[int], external: int
    ) -> int:
        """Push a frame and what is ``below`` it; where the stack pointer is then."""
        hardware = (
            cpu.rip,
            cpu.segs[s.CS].selector,
            cpu.rflags if vector != SYSCALL else cpu.rflags & ~s.RF,
            cpu.regs[s.RSP],
            cpu.segs[s.SS].selector,
        )
        extension = self._extension()
        if extension is None:
            return self._push(cpu, top, [*below, *hardware], external)
        at = (top & ~0xF) - extension.size - 8 * len(hardware) & _WORD
        words = extension.words(vector, at, hardware)
        rsp = self._push(cpu, top, [*below, *hardware, *words], external)
        extension.built()
        return rsp

    def _push(self, cpu: State, top: int, frame: list[int], external: int) -> int:
        """Push ``frame``, its last word first; where the stack pointer is then."""
        if (top + _HALF & _WORD) >> 48:
            raise _Undeliverable(STACK, external, f"stack {top:#x} is not canonical")
        space = address_space(cpu, self._window)
        data = struct.pack(f"<{len(frame)}Q", *frame)
        rsp = (top & ~0xF) - len(data) & _WORD
        page = space.page(rsp)
        if page is not None and page.flags & WRITABLE and page.left >= len(data):
            self._window.write(page.pa, data)
            return rsp
        for offset in reversed(range(0, len(data), 8)):
            self._push_word(cpu, space, rsp + offset & _WORD, data[offset : offset + 8])
        return rsp

    def _push_word(self, cpu: State, space: AddressSpace, va: int, data: bytes) -> None:
        page = space.page(va)
        if page is None or not page.flags & WRITABLE:
            cpu.cr[2] = va
            raise _Undeliverable(PF, 2 | (page is not None), f"no stack at {va:#x}")
        self._window.write(page.pa, data)

    def _read(self, cpu: State, va: int, length: int) -> bytes | None:
        return read_virtual(address_space(cpu, self._window), self._window, va, length)


def _next(vector: int, fault: _Undeliverable) -> tuple[int, int]:
    """What is delivered instead of ``vector`` (SDM table 6-5), with its error code."""
    contributory = fault.vector in CONTRIBUTORY
    doubled = (vector in CONTRIBUTORY and contributory) or (
        vector == PF and (contributory or fault.vector == PF)
    )
    return (DF, 0) if doubled else (fault.vector, fault.error_code)


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
    _enter_kernel(cpu, cpu.star >> 32 & 0xFFFC)
    cpu.rflags = cpu.rflags & ~(mask | s.RF) | 2
    cpu.rip = entry


def system_enter(cpu: State) -> None:
    """Do what SYSENTER does in IA-32e mode.  Nothing says where it came from."""
    _enter_kernel(cpu, cpu.sysenter_cs & 0xFFFC)
    cpu.rflags &= ~(s.VM | s.IF | s.RF)
    cpu.regs[s.RSP], cpu.rip = cpu.sysenter_esp, cpu.sysenter_eip


def _enter_kernel(cpu: State, selector: int) -> None:
    """Load the segments that neither of the two looks up in a table."""
    enter_code_segment(cpu, selector, _KERNEL_CODE, 0)
    stack = cpu.segs[s.SS]
    stack.selector, stack.base, stack.limit = selector + 8, 0, 0xFFFF_FFFF
    stack.flags = _KERNEL_DATA
