# SPDX-License-Identifier: GPL-2.0-or-later
"""The registers of an x86-64 CPU as gdb numbers, names and types them.

One table; offsets, register numbers and target.xml all follow from it.  It
begins with exactly the registers and the order of gdb's own default amd64
description (gdb/features/i386/64bit-*.xml), so that an inferior for which gdb
never read ours is still shown rightly; what a kernel's debugger wants to see
of the system comes behind.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby

CORE = "org.gnu.gdb.i386.core"
SSE = "org.gnu.gdb.i386.sse"
LINUX = "org.gnu.gdb.i386.linux"
SEGMENTS = "org.gnu.gdb.i386.segments"
SYSTEM = "org.nanokernel.amd64.system"


@dataclass(frozen=True, slots=True)
class Register:
    """One register; ``number`` and ``offset`` (bytes into ``g``) are its place."""

    name: str
    bits: int
    type: str
    feature: str
    group: str
    number: int
    offset: int

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.bits // 8


# (feature, group or "", bits, gdb type, names)
_ROWS: tuple[tuple[str, str, int, str, str], ...] = (
    (CORE, "", 64, "int64", "rax rbx rcx rdx rsi rdi"),
    (CORE, "", 64, "data_ptr", "rbp rsp"),
    (CORE, "", 64, "int64", "r8 r9 r10 r11 r12 r13 r14 r15"),
    (CORE, "", 64, "code_ptr", "rip"),
    (CORE, "", 32, "i386_eflags", "eflags"),
    (CORE, "", 32, "int32", "cs ss ds es fs gs"),
    (CORE, "", 80, "i387_ext", "st0 st1 st2 st3 st4 st5 st6 st7"),
    (CORE, "float", 32, "int", "fctrl fstat ftag fiseg fioff foseg fooff fop"),
    (SSE, "", 128, "vec128", " ".join(f"xmm{n}" for n in range(16))),
    (SSE, "vector", 32, "i386_mxcsr", "mxcsr"),
    (LINUX, "system", 64, "int", "orig_rax"),
    (SEGMENTS, "general", 64, "int", "fs_base gs_base"),
    (SYSTEM, "", 64, "int64", "k_gs_base"),
    (SYSTEM, "", 64, "cr0_flags", "cr0"),
    (SYSTEM, "", 64, "int64", "cr2"),
    (SYSTEM, "", 64, "int64", "cr3"),
    (SYSTEM, "", 64, "cr4_flags", "cr4"),
    (SYSTEM, "", 64, "int64", "cr8"),
    (SYSTEM, "", 64, "efer_flags", "efer"),
    (SYSTEM, "", 64, "int64", "gdtr_base"),
    (SYSTEM, "", 32, "uint32", "gdtr_limit"),
    (SYSTEM, "", 64, "int64", "idtr_base"),
    (SYSTEM, "", 32, "uint32", "idtr_limit"),
    (SYSTEM, "", 64, "int64", "tr_base"),
    (SYSTEM, "", 32, "uint32", "tr_selector"),
    (SYSTEM, "", 32, "uint32", "part"),
)

# Intel SDM vol. 3, 2.5 "Control Registers"; eflags: vol. 1, 3.4.3; mxcsr: 10.2.3.
_FLAGS: dict[str, dict[str, tuple[int, str]]] = {
    CORE: {
        "i386_eflags": (
            4,
            "0 CF, 2 PF, 4 AF, 6 ZF, 7 SF, 8 TF, 9 IF, 10 DF, 11 OF,"
            " 14 NT, 16 RF, 17 VM, 18 AC, 19 VIF, 20 VIP, 21 ID",
        )
    },
    SSE: {
        "i386_mxcsr": (
            4,
            "0 IE, 1 DE, 2 ZE, 3 OE, 4 UE, 5 PE, 6 DAZ,"
            " 7 IM, 8 DM, 9 ZM, 10 OM, 11 UM, 12 PM, 15 FZ",
        )
    },
    SYSTEM: {
        "cr0_flags": (
            8,
            "0 PE, 1 MP, 2 EM, 3 TS, 4 ET, 5 NE, 16 WP, 18 AM, 29 NW, 30 CD, 31 PG",
        ),
        "cr4_flags": (
            8,
            "0 VME, 1 PVI, 2 TSD, 3 DE, 4 PSE, 5 PAE, 6 MCE, 7 PGE, 8 PCE, 9 OSFXSR,"
            " 10 OSXMMEXCPT, 11 UMIP, 12 LA57, 13 VMXE, 14 SMXE, 16 FSGSBASE,"
            " 17 PCIDE, 18 OSXSAVE, 20 SMEP, 21 SMAP, 22 PKE, 23 CET, 24 PKS",
        ),
        "efer_flags": (8, "0 SCE, 8 LME, 10 LMA, 11 NXE"),
    },
}

_VEC128 = (
    '<vector id="v4f" type="ieee_single" count="4"/>'
    '<vector id="v2d" type="ieee_double" count="2"/>'
    '<vector id="v16i8" type="int8" count="16"/>'
    '<vector id="v8i16" type="int16" count="8"/>'
    '<vector id="v4i32" type="int32" count="4"/>'
    '<vector id="v2i64" type="int64" count="2"/>'
    '<union id="vec128">'
    '<field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/>'
    '<field name="v16_int8" type="v16i8"/><field name="v8_int16" type="v8i16"/>'
    '<field name="v4_int32" type="v4i32"/><field name="v2_int64" type="v2i64"/>'
    '<field name="uint128" type="uint128"/></union>'
)


def _lay_out() -> Iterator[Register]:
    number = offset = 0
    for feature, group, bits, type_, names in _ROWS:
        for name in names.split():
            yield Register(name, bits, type_, feature, group, number, offset)
            number += 1
            offset += bits // 8


REGISTERS = tuple(_lay_out())
BY_NAME = {register.name: register for register in REGISTERS}
SIZE = sum(register.size for register in REGISTERS)
"""Bytes of all registers."""

GENERAL_SIZE = BY_NAME["k_gs_base"].offset
"""Bytes of a ``g`` reply: what gdb's default description has for Linux, no more.

gdb 13 reads target.xml for its first inferior only, and refuses a longer reply
for the others.  A shorter one it accepts, asking for the rest by ``p``.
"""

PC = BY_NAME["rip"].number

_HALVES = range(1 << 47), range((1 << 64) - (1 << 47), 1 << 64)


def same_half(first: int, last: int) -> bool:
    """Whether a range is in one half of the canonical addresses (SDM vol. 1, 3.3.7.1).

    Of 48 bits: the processor has no five-level paging.
    """
    return any(first in half and last in half for half in _HALVES)


@cache
def description() -> str:
    """Return target.xml."""
    features = groupby(REGISTERS, key=lambda register: register.feature)
    return (
        '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd">'
        '<target version="1.0"><architecture>i386:x86-64</architecture>'
        + "".join(_feature(name, tuple(members)) for name, members in features)
        + "</target>"
    )


def _feature(name: str, members: tuple[Register, ...]) -> str:
    types = "".join(_flags(*item) for item in _FLAGS.get(name, {}).items())
    registers = "".join(map(_register, members))
    vectors = _VEC128 if name == SSE else ""
    return f'<feature name="{name}">{vectors}{types}{registers}</feature>'


def _flags(name: str, declaration: tuple[int, str]) -> str:
    size, fields = declaration
    rows = "".join(_field(row) for row in fields.split(","))
    return f'<flags id="{name}" size="{size}">{rows}</flags>'


def _field(row: str) -> str:
    place, name = row.split()
    return f'<field name="{name}" start="{place}" end="{place}"/>'


def _register(register: Register) -> str:
    group = f' group="{register.group}"' if register.group else ""
    # Inferior calls save and restore registers: the system's must stay out of it.
    keep = ' save-restore="no"' if register.feature == SYSTEM else ""
    return (
        f'<reg name="{register.name}" bitsize="{register.bits}"'
        f' type="{register.type}" regnum="{register.number}"{group}{keep}/>'
    )
