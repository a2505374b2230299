# SPDX-License-Identifier: GPL-2.0-or-later
"""ORC rules as DWARF call frame instructions (DWARF 5, section 6.4.2).

Four kinds of row:

* CALL: a called function.  ORC follows rbp only, so that every other register of the
  caller is *undefined*, shown as <not saved>, never as the callee's.
* REGS: all registers lie in a struct pt_regs.
* REGS_PARTIAL: the CPU's five words; the others have not been touched yet, or again.
* no rule: nobody called this, or nothing is known: rip is undefined, a clean end.

For pt_regs the CFA is the *end* of what the CPU pushed, which is the same all through
an entry stub and different from the CFA of a function called by it::

    CFA-168  r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax
    CFA-40   rip cs rflags rsp ss
"""

from collections.abc import Iterable, Sequence
from struct import pack

from nanokernel_vm.errors import LoadError
from nanokernel_vm.linux.leb128 import sleb, uleb
from nanokernel_vm.linux.orc import Kind, Reg, Rule

WORD = 8

# DWARF register numbers, System V psABI for AMD64, figure 3.36.
RAX, RDX, RCX, RBX, RSI, RDI, RBP, RSP = range(8)
R8, R9, R10, R11, R12, R13, R14, R15, RIP = range(8, 17)
RFLAGS, CS, SS = 49, 51, 52

_GENERAL = (R15, R14, R13, R12, RBP, RBX, R11, R10, R9, R8, RAX, RCX, RDX, RSI, RDI)
_PUSHED = (RIP, CS, RFLAGS, RSP, SS)
_ORIG_RAX = None
_END_OF_REGS = {Kind.CALL: 0, Kind.REGS: 21 * WORD, Kind.REGS_PARTIAL: 5 * WORD}
_BASES = {
    Reg.SP: RSP, Reg.BP: RBP, Reg.DX: RDX, Reg.DI: RDI, Reg.R10: R10, Reg.R13: R13,
}  # fmt: skip

# DW_CFA_* and DW_OP_*; the first three carry an operand in their low six bits.
_ADVANCE_LOC, _OFFSET, _RESTORE = 0x40, 0x80, 0xC0
_ADVANCE_LOC1, _ADVANCE_LOC2, _ADVANCE_LOC4 = 2, 3, 4
_UNDEFINED, _SAME_VALUE, _DEF_CFA, _DEF_CFA_OFFSET = 7, 8, 0xC, 0xE
_DEF_CFA_EXPRESSION, _EXPRESSION, _DEF_CFA_SF = 0xF, 0x10, 0x12
_OP_DEREF, _OP_CONSTS, _OP_PLUS, _OP_BREG = 0x06, 0x11, 0x22, 0x70


def first_row() -> bytes:
    """Encode the row of a function's first instruction: the CIE's."""
    return _cfa_at(RSP, WORD) + _registers(Kind.CALL)


def end_row() -> bytes:
    """Encode a row from which nothing can be unwound."""
    return _cfa_at(RSP, WORD) + _registers(None)


def advance(delta: int) -> bytes:
    """Encode the step to the next row, ``delta`` bytes on."""
    if delta < 0x40:
        return bytes((_ADVANCE_LOC | delta,)) if delta else b""
    if delta < 0x100:
        return bytes((_ADVANCE_LOC1, delta))
    if delta < 0x10000:
        return pack("<BH", _ADVANCE_LOC2, delta)
    return pack("<BI", _ADVANCE_LOC4, delta)


def change(before: Rule, after: Rule) -> bytes:
    """Encode what is different in the row of ``after``."""
    if after.unknown:
        return b"" if before.unknown else end_row()
    if before.unknown or before.kind != after.kind:
        # rsp is the CFA again; cs and ss have no rule.
        kept = (RSP, CS, SS) if after.kind is Kind.CALL else ()
        restored = bytes(_RESTORE | register for register in kept)
        return _registers(after.kind) + restored + _cfa(after) + _bp(after)
    cfa, bp = _cfa(after), _bp(after)
    if cfa == _cfa(before):
        cfa = b""
    elif before.sp_reg == after.sp_reg in _BASES and cfa[0] == _DEF_CFA:
        cfa = bytes((_DEF_CFA_OFFSET,)) + cfa[2:]
    return cfa if bp == _bp(before) else cfa + bp


def _registers(kind: Kind | None) -> bytes:
    """Encode the rules of all registers that have one."""
    match kind:
        case Kind.CALL:
            lost = [register for register in _GENERAL if register != RBP]
            return (
                _saved(RIP, WORD) + _each(_UNDEFINED, (*lost, RFLAGS))
                + _each(_SAME_VALUE, (RBP,))
            )  # fmt: skip
        case Kind.REGS:
            return _saved_words((*_GENERAL, _ORIG_RAX, *_PUSHED))
        case Kind.REGS_PARTIAL:
            return _saved_words(_PUSHED) + _each(_SAME_VALUE, _GENERAL)
        case None:
            return _each(_UNDEFINED, (RIP,))


def _saved(register: int, below_cfa: int) -> bytes:
    return bytes((_OFFSET | register,)) + uleb(below_cfa // WORD)


def _saved_words(registers: Sequence[int | None]) -> bytes:
    """Encode save rules for words that end at the CFA, lowest first."""
    return b"".join(
        _saved(register, (len(registers) - place) * WORD)
        for place, register in enumerate(registers)
        if register is not None
    )


def _each(rule: int, registers: Iterable[int]) -> bytes:
    return b"".join(bytes((rule, register)) for register in registers)


def _cfa(rule: Rule) -> bytes:
    past = _END_OF_REGS[rule.kind]
    if base := _BASES.get(rule.sp_reg):
        return _cfa_at(base, rule.sp_offset + past)
    match rule.sp_reg:
        case Reg.SP_INDIRECT:  # the word at rsp, plus the offset
            where = bytes((_OP_BREG + RSP, 0, _OP_DEREF, _OP_CONSTS))
            where += sleb(rule.sp_offset + past) + bytes((_OP_PLUS,))
        case Reg.BP_INDIRECT:  # the word at rbp plus the offset
            where = bytes((_OP_BREG + RBP,)) + sleb(rule.sp_offset)
            where += bytes((_OP_DEREF, _OP_CONSTS)) + sleb(past) + bytes((_OP_PLUS,))
        case _:
            raise LoadError(f"ORC finds the stack by {rule.sp_reg.name}")
    return bytes((_DEF_CFA_EXPRESSION,)) + uleb(len(where)) + where


def _cfa_at(register: int, offset: int) -> bytes:
    if offset >= 0:
        return bytes((_DEF_CFA, register)) + uleb(offset)
    return bytes((_DEF_CFA_SF, register)) + sleb(offset // -WORD)


def _bp(rule: Rule) -> bytes:
    if rule.kind is not Kind.CALL:
        return b""  # saved with all the others
    match rule.bp_reg:
        case Reg.UNDEFINED:  # ORC's word for untouched
            return _each(_SAME_VALUE, (RBP,))
        case Reg.PREV_SP:
            return _saved(RBP, -rule.bp_offset)
        case Reg.BP:
            where = bytes((_OP_BREG + RBP,)) + sleb(rule.bp_offset)
            return bytes((_EXPRESSION, RBP)) + uleb(len(where)) + where
        case _:
            raise LoadError(f"ORC finds rbp by {rule.bp_reg.name}")
