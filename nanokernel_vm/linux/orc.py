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
from itertools import count, pairwise
from struct import Struct, iter_unpack

from nanokernel_vm.errors import LoadError
from nanokernel_vm.linux.elf import ElfImage

_ENTRY = Struct("<hhH")


class Reg(IntEnum):
    """What an offset is counted from."""

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
        return self.sp_reg is Reg.UNDEFINED

    @property
    def padding(self) -> bool:
        """Whether there is no code: a hole between functions."""
        return self.unknown and not self.end


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
    """Return (address, rule) pairs in ascending order, with the entry code's corrected.

    Raises:
        LoadError: There are no ORC tables, or not in v6.1's format.
    """
    ips, entries = image.find(".orc_unwind_ip"), image.find(".orc_unwind")
    if ips is None or entries is None:
        raise LoadError("has no ORC tables (CONFIG_UNWINDER_ORC)")
    if image.find(".orc_header"):
        raise LoadError("has ORC tables of a kernel newer than 6.3")
    if not len(ips.data) or len(ips.data) * 6 != len(entries.data) * 4:
        raise LoadError("has ORC sections that differ in length")
    table = [
        (ip + offset, decode_rule(raw))
        for ip, (offset,), (raw,) in zip(
            count(ips.addr, 4),
            iter_unpack("<i", ips.data),
            iter_unpack("6s", entries.data),
            strict=False,
        )
    ]
    addrs = [addr for addr, _ in table]
    if any(a > b for a, b in pairwise((0, *addrs, (1 << 64) - 1))):
        raise LoadError(f"{image.name}: its ORC tables are not in order")
    # Where one function ends and the next begins are two entries; the last one counts.
    table = [row for row, after in pairwise((*table, _END)) if row[0] != after[0]]
    return _corrected(table, image)


_NOTHING = Rule(Kind.CALL, Reg.UNDEFINED, 0, Reg.UNDEFINED, 0, False)
_END = (1 << 64, _NOTHING)
_MOV_RAX_RSP = bytes.fromhex("48 89 c4")


def _corrected(
    table: list[tuple[int, Rule]], image: ElfImage
) -> list[tuple[int, Rule]]:
    """Correct the entry code, backwards because each row depends on the next one.

    * ``call error_entry; mov %rax,%rsp``: when error_entry has returned, pt_regs is
      complete at rsp (rax may be a copy on another stack), but ORC has the CPU's words
      there until the mov is done.  Once rsp is known to be right, this holds for
      sync_regs, too, which returns there in error_entry's stead.
    * error_entry and paranoid_entry begin as called functions, and later are frames
      of the exception itself.  Their callers' return address has another rule than the
      call, and a debugger takes it for exact; let them be the latter from the start.
    """
    corrected: list[tuple[int, Rule]] = []
    following = _NOTHING
    for addr, rule in reversed(table):
        if (
            following.kind is not Kind.CALL
            and rule.sp_reg is following.sp_reg is Reg.SP
        ):
            if _returns_regs(rule, following) and (
                image.read(corrected[-1][0] - 3, 3) == _MOV_RAX_RSP
            ):
                corrected.append((corrected[-1][0] - 3, following))
            elif _becomes_exception(rule, following):
                rule = _as_exception(rule)
        corrected.append((addr, rule))
        following = rule
    corrected.reverse()
    return corrected


def _returns_regs(rule: Rule, following: Rule) -> bool:
    return (rule.kind, following.kind) == (Kind.REGS_PARTIAL, Kind.REGS)


def _becomes_exception(rule: Rule, following: Rule) -> bool:
    """Tell entry functions from functions that happen to lie before an entry.

    The stack goes on as it was, or by a push; 16 is a function's first instruction.
    """
    return (
        (rule.kind, following.kind) == (Kind.CALL, Kind.REGS_PARTIAL)
        and following.sp_offset - rule.sp_offset in (8, 16)
        and following.sp_offset > 16
    )


def _as_exception(called: Rule) -> Rule:
    """Turn the rule of a called entry function into that of its caller's frame.

    Between its return address and what the CPU pushed lies the error code.
    """
    return replace(called, kind=Kind.REGS_PARTIAL, sp_offset=called.sp_offset + 8)
