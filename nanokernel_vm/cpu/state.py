# SPDX-License-Identifier: GPL-2.0-or-later
"""The processor state that Unicorn saves in a context, by field.

Unicorn 2.1.4 keeps QEMU's CPUX86State (target/i386/cpu.h) behind a header of 40 bytes.
The layout is private, so ``prove`` writes, faults and looks for each field before any
machine is built, and refuses another library.
"""

import ctypes
from typing import TYPE_CHECKING

HEADER_SIZE = 40

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
R11 = 11
ES, CS, SS, DS, FS, GS = range(6)

# RFLAGS (SDM vol. 1, 3.4.3)
TF, IF, NT, RF, VM, AC = 1 << 8, 1 << 9, 1 << 14, 1 << 16, 1 << 17, 1 << 18
IOPL = 3 << 12
SCE = 1  # of EFER

# CPUX86State.hflags: what the translator knows of the mode
HF_CPL, HF_INHIBIT_IRQ, HF_CS32, HF_SS32, HF_ADDSEG = 3, 1 << 3, 1 << 4, 1 << 5, 1 << 6
HF_PE, HF_MP, HF_LMA, HF_CS64 = 1 << 7, 1 << 9, 1 << 14, 1 << 15


class Segment(ctypes.Structure):
    """A segment register with its hidden part; flags: a descriptor's bits 32-63."""

    selector: int
    base: int
    limit: int
    flags: int
    _fields_ = (
        ("selector", ctypes.c_uint32),
        ("_pad", ctypes.c_uint32),
        ("base", ctypes.c_uint64),
        ("limit", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    )


#: name, offset in CPUX86State, type
LAYOUT = (
    ("regs", 0, ctypes.c_uint64 * 16),
    ("rip", 128, ctypes.c_uint64),
    ("rflags", 136, ctypes.c_uint64),
    ("hflags", 176, ctypes.c_uint32),
    ("segs", 184, Segment * 6),
    ("ldt", 328, Segment),
    ("tr", 352, Segment),
    ("gdt", 376, Segment),
    ("idt", 400, Segment),
    ("cr", 424, ctypes.c_uint64 * 5),
    ("efer", 592, ctypes.c_uint64),
    ("sysenter_cs", 4800, ctypes.c_uint32),
    ("sysenter_esp", 4808, ctypes.c_uint64),
    ("sysenter_eip", 4816, ctypes.c_uint64),
    ("star", 4824, ctypes.c_uint64),
    ("lstar", 4840, ctypes.c_uint64),
    ("fmask", 4856, ctypes.c_uint64),
    ("kernel_gs_base", 4864, ctypes.c_uint64),
    ("error_code", 5384, ctypes.c_int32),
    ("is_software", 5388, ctypes.c_int32),
    ("old_exception", 5496, ctypes.c_int32),
)
CONTEXT_SIZE = 5608


# What in CPUX86State is no state of the processor: offset, size
_SCRATCH = (
    (
        144,
        28,
    ),  # cc_dst, cc_src, cc_src2, cc_op: flags not computed yet; rflags has them
    # Beyond 128 bits, xmm_regs hold what helpers leave there of their own stack
    *((824 + 64 * n + 16, 48) for n in range(32)),
    (2872, 72),  # xmm_t0, mmx_t0: operands of an instruction that has ended
    (5392, 8),  # exception_next_eip: of the last INT n; of a fault, as translated
    (5464, 32),  # cpu_breakpoint: pointers to what dr0 to dr3 stand for
    (5560, 8),  # retaddr: an address in translated code
)


def plain(saved: bytes) -> bytes:
    """A saved context without what differs between equal processors."""
    found = bytearray(saved[HEADER_SIZE:])
    for offset, size in _SCRATCH:
        found[offset : offset + size] = bytes(size)
    return bytes(found)


def _padded() -> list[tuple[str, type]]:
    fields: list[tuple[str, type]] = [("_header", ctypes.c_uint8 * HEADER_SIZE)]
    position = 0
    for name, offset, ctype in LAYOUT:
        if offset > position:
            fields.append((f"_pad{offset}", ctypes.c_uint8 * (offset - position)))
        fields.append((name, ctype))
        position = offset + ctypes.sizeof(ctype)
    return fields


class State(ctypes.Structure):
    """A saved context, seen as registers; valid while the engine does not run."""

    _pack_ = 1
    _fields_ = _padded()
    if TYPE_CHECKING:
        regs: ctypes.Array[ctypes.c_uint64]
        rip: int
        rflags: int
        hflags: int
        segs: ctypes.Array[Segment]
        ldt: Segment
        tr: Segment
        gdt: Segment
        idt: Segment
        cr: ctypes.Array[ctypes.c_uint64]
        efer: int
        sysenter_cs: int
        sysenter_esp: int
        sysenter_eip: int
        star: int
        lstar: int
        fmask: int
        kernel_gs_base: int
        error_code: int
        is_software: int
        old_exception: int

    @property
    def cpl(self) -> int:
        """Current privilege level, 0 to 3."""
        return self.hflags & HF_CPL
