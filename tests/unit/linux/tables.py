# SPDX-License-Identifier: GPL-2.0-or-later
"""ORC tables made by hand, and call frame tables read by pyelftools."""

from pathlib import Path
from struct import pack
from typing import Any

from elftools.dwarf.callframe import FDE, CFARule, RegisterRule
from elftools.elf.elffile import ELFFile

from nanokernel_vm.linux.elf import Section
from nanokernel_vm.linux.orc import Kind, Reg
from tests.unit.linux.images import DATA, data

NAMES = (
    *("rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp"),
    *(f"r{number}" for number in range(8, 16)),
    "rip",
)
NUMBERS = {name: number for number, name in enumerate(NAMES)} | {
    "rflags": 49,
    "cs": 51,
    "ss": 52,
}

Rules = dict[str, str]


def entry(
    kind: Kind = Kind.CALL,
    sp: tuple[Reg, int] = (Reg.UNDEFINED, 0),
    bp: tuple[Reg, int] = (Reg.UNDEFINED, 0),
    end: bool = False,
) -> bytes:
    """Encode struct orc_entry of v6.1."""
    flags = sp[0] | bp[0] << 4 | kind << 8 | end << 10
    return pack("<hhH", sp[1], bp[1], flags)


def call(offset: int, bp: int | None = None) -> bytes:
    """A called function with ``offset`` bytes of stack, rbp saved ``bp`` below."""
    saved = (Reg.UNDEFINED, 0) if bp is None else (Reg.PREV_SP, -bp)
    return entry(Kind.CALL, (Reg.SP, offset), saved)


HOLE = entry()
END = entry(end=True)


def orc_sections(rows: list[tuple[int, bytes]], addr: int = DATA) -> list[Section]:
    """The two sections for (address, entry) pairs."""
    places = (addr + 4 * i for i in range(len(rows)))
    ips = b"".join(
        pack("<i", row[0] - place) for row, place in zip(rows, places, strict=True)
    )
    entries = b"".join(row[1] for row in rows)
    return [
        data(".orc_unwind_ip", ips, addr),
        data(".orc_unwind", entries, addr + 0x1_0000),
    ]


class Frames:
    """The FDEs of a file's .debug_frame."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            dwarf = ELFFile(file).get_dwarf_info()
            self.fdes = [e for e in dwarf.CFI_entries() if isinstance(e, FDE)]
            self.tables = [fde.get_decoded().table for fde in self.fdes]

    def ranges(self) -> list[tuple[int, int]]:
        """First and last-plus-one address of each FDE."""
        return [(start, start + size) for start, size in map(_extent, self.fdes)]

    def signal(self, addr: int) -> bool:
        """Whether the FDE of ``addr`` is a signal trampoline's."""
        cie = self.fdes[self._index(addr)].cie
        assert cie is not None
        return b"S" in cie.header["augmentation"]

    def at(self, addr: int) -> Rules:
        """Rules of the row at ``addr``, in readelf's short form."""
        rows = self.tables[self._index(addr)]
        row = [row for row in rows if row["pc"] <= addr][-1]
        rules = {"cfa": _cfa(row["cfa"])}
        for name, number in NUMBERS.items():
            if number in row:
                rules[name] = _register(row[number])
        return rules

    def _index(self, addr: int) -> int:
        found = [i for i, (a, b) in enumerate(self.ranges()) if a <= addr < b]
        assert len(found) == 1, f"{len(found)} FDEs for {addr:#x}"
        return found[0]


def _extent(fde: Any) -> tuple[int, int]:
    return fde.header["initial_location"], fde.header["address_range"]


def _cfa(rule: CFARule) -> str:
    if rule.expr is not None:
        return "expr " + bytes(rule.expr).hex()
    assert rule.reg is not None
    return f"{NAMES[rule.reg]}{rule.offset:+}"


def _register(rule: RegisterRule) -> str:
    argument: Any = rule.arg
    match rule.type:
        case RegisterRule.OFFSET:
            return f"c{argument:+}"
        case RegisterRule.UNDEFINED:
            return "u"
        case RegisterRule.SAME_VALUE:
            return "s"
        case RegisterRule.EXPRESSION:
            return "expr " + bytes(argument).hex()
    raise AssertionError(rule)
