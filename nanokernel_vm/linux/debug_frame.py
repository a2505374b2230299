# SPDX-License-Identifier: GPL-2.0-or-later
"""ORC rules as .debug_frame, which every debugger can read (DWARF 4, section 6.4).

Four kinds of frame, one CIE each:

* CALL: a called function.  ORC follows rbp only, so that every other register of the
  caller is *undefined*, shown as <not saved>, never as the callee's.
* REGS: all registers lie in a struct pt_regs.
* PARTIAL: the CPU's five words; the registers have not been touched yet, or again.
* END: nobody called this: user code, the very first instructions of an entry.

REGS and PARTIAL carry the augmentation "S" of signal trampolines: the interrupted
address is exact, not one behind a call, and the stack may change.  In both the CFA is
the *end* of the words the CPU pushed, the same all through an entry stub and different
from that of a function called by it::

    CFA-168  r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax
    CFA-40   rip cs rflags rsp ss
"""

from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from struct import pack

from nanokernel_vm.errors import LoadError
from nanokernel_vm.linux.leb128 import sleb, uleb
from nanokernel_vm.linux.orc import Kind, Reg, Rule

# DWARF register numbers, System V psABI for AMD64, figure 3.36.
RAX, RDX, RCX, RBX, RSI, RDI, RBP, RSP = range(8)
R8, R9, R10, R11, R12, R13, R14, R15, RIP = range(8, 17)
RFLAGS, CS, SS = 49, 51, 52

_PT_REGS = (
    *(R15, R14, R13, R12, RBP, RBX, R11, R10, R9, R8, RAX, RCX, RDX, RSI, RDI),
    None,  # orig_rax
)
_PUSHED = (RIP, CS, RFLAGS, RSP, SS)
_GENERAL = tuple(register for register in _PT_REGS if register is not None)

_PLAIN = {
    Reg.SP: RSP, Reg.BP: RBP, Reg.DX: RDX, Reg.DI: RDI, Reg.R10: R10, Reg.R13: R13,
}  # fmt: skip

_ADVANCE, _OFFSET = 0x40, 0x80
_ADVANCE1, _ADVANCE2, _ADVANCE4 = 2, 3, 4
_UNDEFINED, _SAME_VALUE, _DEF_CFA, _DEF_CFA_OFFSET = 7, 8, 0xC, 0xE
_DEF_CFA_EXPRESSION, _EXPRESSION, _DEF_CFA_SF = 0xF, 0x10, 0x12
_OP_DEREF, _OP_CONSTS, _OP_PLUS, _OP_BREG = 0x06, 0x11, 0x22, 0x70

_WORD = 8
_PADDING = 16
_SIGNAL = (Kind.REGS, Kind.REGS_PARTIAL)
_END_OF_REGS = {Kind.CALL: 0, Kind.REGS: 21 * _WORD, Kind.REGS_PARTIAL: 5 * _WORD}

USER_SPACE = range(0x1000, 0x7FFFFFFFF000)

Row = tuple[int, Rule | None]
"""An address and the rule from there on; None: leave it to the debugger."""

_Span = tuple[int, int, Rule | None]
_LAST: tuple[tuple[bool, Kind | None], list[_Span]] = ((False, None), [])


class DebugFrame:
    """A .debug_frame section in the making."""

    def __init__(self, offset: int = 0) -> None:
        """Begin at ``offset`` of the section, behind what somebody else put there."""
        self._start = offset
        self._data = bytearray()
        self._cies: dict[Kind | None, int] = {}
        self._steps: dict[tuple[Rule | None, Rule], bytes] = {}

    @property
    def data(self) -> bytes:
        """What was added so far."""
        return bytes(self._data)

    def add_rows(self, rows: Iterable[Row]) -> None:
        """Add FDEs for ascending rows; the last row only says where the others end."""
        spans = ((addr, end, rule) for (addr, rule), (end, _) in pairwise(rows))
        groups = [(key, list(group)) for key, group in groupby(spans, _span_kind)]
        for ((known, kind), span), ((more, _), _) in pairwise((*groups, _LAST)):
            if known:
                end = span[-1][1]
                if kind in _SIGNAL and not more:
                    # A call that does not return may be the last instruction, and
                    # the return address is looked up as it is.
                    end += 1
                self._add_fde(kind, span[0][0], end, self._instructions(span))

    def add_end(self, addrs: range) -> None:
        """Add an FDE that ends every backtrace that reaches ``addrs``."""
        self._add_fde(None, addrs.start, addrs.stop, b"")

    def _instructions(self, span: Sequence[_Span]) -> bytes:
        """Encode one FDE's rows, each as the change from the one before."""
        out, before, row = bytearray(), None, span[0][0]
        for addr, _, rule in span:
            if rule is None or rule.unknown:
                continue
            step = self._steps.get((before, rule))
            if step is None:
                step = self._steps[before, rule] = _step(before, rule)
            if step:
                out += _advance(addr - row) + step
                row = addr
            before = rule
        return bytes(out)

    def _add_fde(self, kind: Kind | None, start: int, end: int, program: bytes) -> None:
        if kind not in self._cies:
            self._cies[kind] = self._start + len(self._data)
            self._data += _cie(kind)
        # The byte 0 is the length of augmentation data, of which there is none.
        body = pack("<IQQB", self._cies[kind], start, end - start, 0) + program
        self._data += _entry(body)


def _span_kind(span: _Span) -> tuple[bool, Kind | None]:
    """Return whether a span gets an FDE, and the kind of it (None: END).

    A hole shorter than functions are aligned to is padding between two of them.
    """
    start, end, rule = span
    if rule is None:
        return False, None
    if rule.unknown:
        return rule.end or end - start >= _PADDING, None
    return True, rule.kind


def _entry(body: bytes) -> bytes:
    """Prefix the length, and pad with DW_CFA_nop (0) to whole words."""
    body += bytes(-(len(body) + 4) % _WORD)
    return pack("<I", len(body)) + body


def _cie(kind: Kind | None) -> bytes:
    augmentation = b"zS" if kind in _SIGNAL else b"z"
    # Version, augmentation, code and data alignment, return register, no data.
    head = b"\x03" + augmentation + b"\0" + uleb(1) + sleb(-_WORD) + bytes((RIP, 0))
    return _entry(pack("<I", 0xFFFFFFFF) + head + _initial(kind))


def _initial(kind: Kind | None) -> bytes:
    match kind:
        case Kind.CALL:
            lost = [register for register in _GENERAL if register != RBP]
            return (
                _cfa(RSP, _WORD) + _saved(RIP, _WORD)
                + _each(_UNDEFINED, lost) + _each(_SAME_VALUE, [RBP])
            )  # fmt: skip
        case Kind.REGS:
            return _cfa(RSP, 21 * _WORD) + _saved_words(_PT_REGS + _PUSHED)
        case Kind.REGS_PARTIAL:
            return (
                _cfa(RSP, 5 * _WORD) + _saved_words(_PUSHED)
                + _each(_SAME_VALUE, _GENERAL)
            )  # fmt: skip
        case None:
            return _cfa(RSP, _WORD) + _each(_UNDEFINED, [RIP])


def _saved(register: int, below_cfa: int) -> bytes:
    return bytes((_OFFSET | register,)) + uleb(below_cfa // _WORD)


def _saved_words(registers: Sequence[int | None]) -> bytes:
    """Save rules for words that end at the CFA, lowest first."""
    return b"".join(
        _saved(register, (len(registers) - place) * _WORD)
        for place, register in enumerate(registers)
        if register is not None
    )


def _each(rule: int, registers: Iterable[int]) -> bytes:
    return b"".join(bytes((rule, register)) for register in registers)


def _advance(delta: int) -> bytes:
    """Encode DW_CFA_advance_loc; delta 0 needs none."""
    if delta < 0x40:
        return bytes((_ADVANCE | delta,)) if delta else b""
    if delta < 0x100:
        return bytes((_ADVANCE1, delta))
    if delta < 0x10000:
        return pack("<BH", _ADVANCE2, delta)
    return pack("<BI", _ADVANCE4, delta)


def _step(before: Rule | None, after: Rule) -> bytes:
    """Encode what changes from one row to the next; None is the CIE's row."""
    cfa, bp = _cfa_rule(after), _bp_rule(after)
    if before is None:
        return cfa + bp
    same_bp = _bp_rule(before) == bp
    if before.sp_reg == after.sp_reg and after.sp_reg in _PLAIN:
        offset = after.sp_offset + _END_OF_REGS[after.kind]
        if before.sp_offset == after.sp_offset:
            cfa = b""
        elif offset >= 0:
            cfa = bytes((_DEF_CFA_OFFSET,)) + uleb(offset)
    return cfa if same_bp else cfa + bp


def _cfa_rule(rule: Rule) -> bytes:
    past = _END_OF_REGS[rule.kind]
    if rule.sp_reg in _PLAIN:
        return _cfa(_PLAIN[rule.sp_reg], rule.sp_offset + past)
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


def _bp_rule(rule: Rule) -> bytes:
    if rule.kind is not Kind.CALL:
        return b""  # the CIE's
    match rule.bp_reg:
        case Reg.UNDEFINED:  # ORC's word for untouched
            return bytes((_SAME_VALUE, RBP))
        case Reg.PREV_SP:
            return _saved(RBP, -rule.bp_offset)
        case Reg.BP:
            where = bytes((_OP_BREG + RBP,)) + sleb(rule.bp_offset)
            return bytes((_EXPRESSION, RBP)) + uleb(len(where)) + where
        case _:
            raise LoadError(f"ORC finds rbp by {rule.bp_reg.name}")


def _cfa(register: int, offset: int) -> bytes:
    if offset >= 0:
        return bytes((_DEF_CFA, register)) + uleb(offset)
    return bytes((_DEF_CFA_SF, register)) + sleb(offset // -_WORD)
