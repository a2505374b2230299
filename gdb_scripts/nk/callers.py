# SPDX-License-Identifier: GPL-2.0-or-later
"""From one frame to the one that called it, or that it interrupted.

Registers go by gdb's names.  The frame's identity is an address that stays the same
all through a function, and all through an entry stub: the stack pointer before the
call (the CFA), and for what was interrupted the end of what the processor pushed.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from struct import unpack
from typing import NamedTuple

from nk import orc
from nk.orc import Read, Rule

GENERAL = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8"),
    *("rax", "rcx", "rdx", "rsi", "rdi"),
)
HARDWARE = ("rip", "cs", "eflags", "rsp", "ss")
PT_REGS = (*GENERAL, "orig_rax", *HARDWARE)
PT_REGS_IP = 8 * PT_REGS.index("rip")

_MASK = (1 << 64) - 1
_BASES = {
    orc.DX: "rdx", orc.DI: "rdi", orc.BP: "rbp", orc.SP: "rsp", orc.R10: "r10",
    orc.R13: "r13", orc.RAX: "rax", orc.BP_INDIRECT: "rbp", orc.SP_INDIRECT: "rsp",
}  # fmt: skip

Registers = Callable[[str], int]
"""A register's value by its name; LookupError where nobody saved it."""


class Caller(NamedTuple):
    """An outer frame.

    Attributes:
        identity: Of the *inner* frame.
        saved: The outer frame's registers, as far as they are known.
        interrupted: Whether the outer frame's pc is the next instruction to be
            executed, not the one behind a call.
    """

    identity: int
    saved: dict[str, int]
    interrupted: bool


def caller(rule: Rule, register: Registers, read: Read) -> Caller | None:
    """Unwind by a rule; None where it says that there is no caller."""
    base = _BASES.get(rule.sp_reg)
    if base is None:
        return None
    place = register(base)
    if rule.sp_reg == orc.SP_INDIRECT:
        place = word(read, place) + rule.sp_offset
    elif rule.sp_reg == orc.BP_INDIRECT:
        place = word(read, place + rule.sp_offset)
    else:
        place += rule.sp_offset
    return _KINDS[rule.kind](rule, place & _MASK, register, read)


def _called(rule: Rule, cfa: int, register: Registers, read: Read) -> Caller:
    rbp = register("rbp")
    if rule.bp_reg == orc.PREV_SP:
        rbp = word(read, cfa + rule.bp_offset)
    elif rule.bp_reg == orc.BP:
        rbp = word(read, rbp + rule.bp_offset)
    saved = {"rip": word(read, cfa - 8), "rsp": cfa, "rbp": rbp}
    return Caller(cfa, saved | known(register, ("cs", "ss")), False)


def _all_saved(_: Rule, place: int, _r: Registers, read: Read) -> Caller:
    saved = words(read, place, PT_REGS)
    del saved["orig_rax"]
    return Caller(place + 8 * len(PT_REGS), saved, True)


def _partly_saved(_: Rule, place: int, register: Registers, read: Read) -> Caller:
    saved = known(register, GENERAL) | words(read, place, HARDWARE)
    return Caller(place + 8 * len(HARDWARE), saved, True)


_KINDS = {
    orc.CALL: _called, orc.REGS: _all_saved, orc.REGS_PARTIAL: _partly_saved,
}  # fmt: skip


def known(register: Registers, names: Iterable[str]) -> dict[str, int]:
    """Those registers of ``names`` whose values are known."""
    found = {}
    for name in names:
        with suppress(LookupError):
            found[name] = register(name)
    return found


def word(read: Read, addr: int) -> int:
    """Read 64 bits."""
    return int.from_bytes(read(addr & _MASK, 8), "little")


def words(read: Read, addr: int, names: tuple[str, ...]) -> dict[str, int]:
    """Read consecutive words by name."""
    values = unpack(f"<{len(names)}Q", read(addr, 8 * len(names)))
    return dict(zip(names, values, strict=True))
