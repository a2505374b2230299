# SPDX-License-Identifier: GPL-2.0-or-later
"""ORC tables in a kernel's memory (arch/x86/include/asm/orc_types.h, v6.1).

Two parallel arrays: addresses relative to their own place, four bytes each, ascending;
and what holds from there on, six bytes each.  They are megabytes long: only the pages
that a search touches are read, and those never change.
"""

from collections.abc import Callable, Mapping
from struct import Struct
from typing import NamedTuple

Read = Callable[[int, int], bytes]
"""Virtual address and length to bytes."""

CALL, REGS, REGS_PARTIAL = range(3)
UNDEFINED, PREV_SP, DX, DI, BP, SP, R10, R13, BP_INDIRECT, SP_INDIRECT = range(10)

_PAGE = 4096
_PLACE, _ENTRY = Struct("<i"), Struct("<hhH")
_MOV_RAX_RSP = bytes.fromhex("48 89 c4")


class Rule(NamedTuple):
    """How to unwind; ``kind`` says what lies at the stack pointer that is found."""

    kind: int
    sp_reg: int
    sp_offset: int
    bp_reg: int
    bp_offset: int
    end: bool


def decode(raw: bytes) -> Rule:
    """Decode one six-byte entry."""
    sp_offset, bp_offset, flags = _ENTRY.unpack(raw)
    return Rule(
        flags >> 8 & 3, flags & 15, sp_offset,
        flags >> 4 & 15, bp_offset, bool(flags >> 10 & 1),
    )  # fmt: skip


class Table:
    """One pair of arrays.

    Args:
        read: Reads the kernel's memory.
        places: Address of the addresses.
        entries: Address of the entries.
        count: Number of each.
    """

    def __init__(self, read: Read, places: int, entries: int, count: int) -> None:
        self._read, self._pages = read, dict[int, bytes]()
        self._places, self._entries, self._count = places, entries, count

    def find(self, pc: int) -> Rule | None:
        """The rule at an address; None before the first."""
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if self._place(middle) <= pc:
                low = middle + 1
            else:
                high = middle
        return decode(self._bytes(self._entries + 6 * (low - 1), 6)) if low else None

    def _place(self, index: int) -> int:
        addr = self._places + 4 * index
        offset: int = _PLACE.unpack(self._bytes(addr, 4))[0]
        return addr + offset

    def _bytes(self, addr: int, length: int) -> bytes:
        start = addr & -_PAGE
        page = self._pages.get(start)
        if page is None:
            page = self._pages[start] = self._read(start, _PAGE)
        piece = page[addr - start : addr - start + length]
        if len(piece) < length:
            piece += self._bytes(start + _PAGE, length - len(piece))
        return piece


BOUNDS = (
    *("__start_orc_unwind_ip", "__stop_orc_unwind_ip"),
    *("__start_orc_unwind", "__stop_orc_unwind"),
)


def kernel_table(read: Read, symbols: Mapping[str, int]) -> Table:
    """The kernel's own table.

    Raises:
        ValueError: The arrays' lengths do not fit to each other, as in v6.1's format.
    """
    places, places_end, entries, entries_end = (symbols[name] for name in BOUNDS)
    count, rest = divmod(places_end - places, 4)
    if rest or not count or entries_end - entries != 6 * count:
        raise ValueError(f"no ORC tables of Linux 6.1 at {places:#x}, {entries:#x}")
    return Table(read, places, entries, count)


def rule_at(table: Table, read: Read, pc: int) -> Rule | None:
    """The rule for the instruction about to be executed at ``pc``, corrected.

    ORC is wrong at one instruction of each exception's stub: when error_entry has
    returned, pt_regs is complete at rax, and ORC knows only after ``mov %rax,%rsp``.
    """
    rule = table.find(pc)
    if rule and rule.kind == REGS_PARTIAL and read(pc, 3) == _MOV_RAX_RSP:
        after = table.find(pc + 3)
        if after and after.kind == REGS and after.sp_reg == SP:
            return after._replace(sp_reg=RAX)
    return rule


RAX = 16  # ORC has no number for it
