# SPDX-License-Identifier: GPL-2.0-or-later
"""ORC, the kernel's own unwind tables (arch/x86/include/asm/orc_types.h, v6.1).

Two parallel arrays, sorted by address: ``.orc_unwind_ip`` holds addresses relative to
their own place, ``.orc_unwind`` six bytes that tell how to find the caller from the
address on, up to the next entry's::

    s16 sp_offset   s16 bp_offset   u16 sp_reg:4 bp_reg:4 type:2 end:1

What is made of the rules is decided elsewhere.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cache
from itertools import count
from struct import Struct, iter_unpack

from nanokernel_vm.errors import LoadError
from nanokernel_vm.linux.elf import ElfImage

_ENTRY = Struct("<hhH")


class Reg(IntEnum):
    """What an offset is counted from; RAX is ours, ORC cannot name it."""

    UNDEFINED = 0
    PREV_SP = 1
    DX = 2
    DI = 3
    BP = 4
    SP = 5
    R10 = 6
    R13 = 7
    BP_INDIRECT = 8
    SP_INDIRECT = 9
    RAX = 16


class Kind(IntEnum):
    """What lies at the stack pointer found."""

    CALL = 0
    REGS = 1  # struct pt_regs
    REGS_PARTIAL = 2  # what the CPU pushed: ip, cs, flags, sp, ss


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """How to unwind from an address; equal entries of a table are the same object.

    ``kind`` CALL: sp_reg + sp_offset is the caller's stack pointer (the CFA), below
    which the return address lies.  REGS, REGS_PARTIAL: it is the address of the
    saved registers.
    """

    kind: Kind
    sp_reg: Reg
    sp_offset: int
    bp_reg: Reg
    bp_offset: int
    end: bool

    @property
    def unknown(self) -> bool:
        """Whether nothing can be unwound from here: the end, or a hole."""
        return self.sp_reg == Reg.UNDEFINED


@cache
def decode_rule(raw: bytes) -> Rule:
    """Decode one six-byte entry.

    Raises:
        LoadError: A field has a value that v6.1 does not define.
    """
    sp_offset, bp_offset, flags = _ENTRY.unpack(raw)
    try:
        return Rule(
            Kind(flags >> 8 & 3), Reg(flags & 15), sp_offset,
            Reg(flags >> 4 & 15), bp_offset, bool(flags >> 10 & 1),
        )  # fmt: skip
    except ValueError as exc:
        raise LoadError(f"{raw.hex()} is no ORC entry of Linux 6.1: {exc}") from exc


def read_table(image: ElfImage) -> list[tuple[int, Rule]]:
    """Return (address, rule) pairs in ascending order, with error_entry's gap closed.

    Raises:
        LoadError: There are no ORC tables, or not in v6.1's format.
    """
    ips, entries = image.section(".orc_unwind_ip"), image.section(".orc_unwind")
    if image.find(".orc_header"):
        raise LoadError(f"{image.name} has ORC tables of a kernel newer than 6.3")
    if not ips.size or ips.size * 6 != entries.size * 4:
        raise LoadError(f"{image.name}: the two ORC sections differ in length")
    table = [
        (ip + offset, decode_rule(raw))
        for ip, (offset,), (raw,) in zip(
            count(ips.addr, 4),
            iter_unpack("<i", ips.data),
            iter_unpack("6s", entries.data),
            strict=False,
        )
    ]
    return _close_gaps(table, image)


_MOV_RAX_RSP = bytes.fromhex("48 89 c4")


def _close_gaps(
    table: list[tuple[int, Rule]], image: ElfImage
) -> list[tuple[int, Rule]]:
    """Add the one instruction per exception stub that ORC describes wrongly.

    ``call error_entry; mov %rax,%rsp``: error_entry has copied pt_regs to the task's
    stack and returned its address in rax, while ORC claims the stub's own frame
    until the mov is done.
    """
    fixed: list[tuple[int, Rule]] = []
    last = None
    for addr, rule in table:
        if (
            last is Kind.REGS_PARTIAL
            and rule.kind is Kind.REGS
            and rule.sp_reg is Reg.SP
            and image.read(addr - 3, 3) == _MOV_RAX_RSP
        ):
            fixed.append((addr - 3, replace(rule, sp_reg=Reg.RAX)))
        fixed.append((addr, rule))
        last = rule.kind
    return fixed
