# SPDX-License-Identifier: GPL-2.0-or-later
"""A .debug_frame section made of ORC tables (DWARF 5, section 6.4.1).

One FDE per function, because lldb looks for it at the function's first address only.
Functions that have struct pt_regs on their stack get a CIE with the augmentation "S",
of signal trampolines: what called them was interrupted at exactly its address, not
behind a call, and perhaps on another stack.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from struct import pack

from nanokernel_vm.linux import cfi
from nanokernel_vm.linux.leb128 import sleb, uleb
from nanokernel_vm.linux.orc import Kind, Reg, Rule

USER_SPACE = range(0x1000, 0x7FFFFFFFF000)

Row = tuple[int, Rule | None]
"""An address and the rule from there on; None: leave it to the debugger."""

_Span = tuple[int, int, Rule]

_FIRST = Rule(Kind.CALL, Reg.SP, cfi.WORD, Reg.UNDEFINED, 0, False)
_PADDING = 16  # what functions are aligned to: a smaller hole is none
_CIE_ID = 0xFFFFFFFF
_VERSION = 3


class DebugFrame:
    """A .debug_frame section in the making."""

    def __init__(self, offset: int = 0) -> None:
        """Begin at ``offset`` of the section, behind what somebody else put there."""
        self._start = offset
        self._data = bytearray()
        self._cies: dict[bool, int] = {}
        self._changes: dict[tuple[Rule, Rule], bytes] = {}

    @property
    def data(self) -> bytes:
        """What was added so far."""
        return bytes(self._data)

    def add_rows(self, rows: Sequence[Row], functions: Iterable[int]) -> None:
        """Add FDEs.

        Args:
            rows: Ascending; the last row only says where the one before it ends.
            functions: Ascending addresses of functions.
        """
        for spans in _by_function(rows, functions):
            code = len(spans)
            while code and spans[code - 1][2].padding:
                code -= 1
            known = code
            while known and spans[known - 1][2].unknown:
                known -= 1
            if known:
                self._add_function(spans[:known], padded=known == code < len(spans))
            if known < code:
                self.add_end(range(spans[known][0], spans[code - 1][1]))
            elif not code and spans[-1][1] - spans[0][0] >= _PADDING:
                self.add_end(range(spans[0][0], spans[-1][1]))

    def add_end(self, addrs: range) -> None:
        """Add an FDE that ends every backtrace that reaches ``addrs``."""
        self._add_fde(False, addrs.start, addrs.stop, cfi.end_row())

    def _add_function(self, spans: Sequence[_Span], padded: bool) -> None:
        signal = any(span[2].kind is not Kind.CALL for span in spans)
        # The last instruction may be a call that does not return, and here the
        # address behind it is looked up as it is.
        end = spans[-1][1] + (signal and padded)
        self._add_fde(signal, spans[0][0], end, self._program(spans))

    def _program(self, spans: Sequence[_Span]) -> bytes:
        out, before, row = bytearray(), _FIRST, spans[0][0]
        for addr, _, rule in spans:
            change = self._changes.get((before, rule))
            if change is None:
                change = self._changes[before, rule] = cfi.change(before, rule)
            if change:
                out += cfi.advance(addr - row) + change
                row = addr
            before = rule
        return bytes(out)

    def _add_fde(self, signal: bool, start: int, end: int, program: bytes) -> None:
        if signal not in self._cies:
            self._cies[signal] = self._start + len(self._data)
            self._data += _cie(signal)
        # The byte 0 is the length of augmentation data, of which there is none.
        head = pack("<IQQB", self._cies[signal], start, end - start, 0)
        self._data += _entry(head + program)


def _by_function(
    rows: Sequence[Row], functions: Iterable[int]
) -> Iterator[list[_Span]]:
    """Cut rows at the functions' addresses and where there is no rule."""
    starts = iter(functions)
    start = next(starts, None)
    spans: list[_Span] = []
    for (addr, rule), (end, _) in pairwise(rows):
        while start is not None and start < end:
            if rule and addr < start:
                spans.append((addr, start, rule))
                addr = start
            if spans:
                yield spans
                spans = []
            start = next(starts, None)
        if rule and addr < end:
            spans.append((addr, end, rule))
        elif spans:
            yield spans
            spans = []
    if spans:
        yield spans


def _entry(body: bytes) -> bytes:
    """Prefix the length, and pad with DW_CFA_nop (0) to whole words."""
    body += bytes(-(len(body) + 4) % cfi.WORD)
    return pack("<I", len(body)) + body


def _cie(signal: bool) -> bytes:
    augmentation = b"zS\0" if signal else b"z\0"
    # Code and data alignment, return address register, no augmentation data.
    head = augmentation + uleb(1) + sleb(-cfi.WORD) + bytes((cfi.RIP, 0))
    return _entry(pack("<IB", _CIE_ID, _VERSION) + head + cfi.first_row())
