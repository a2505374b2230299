# SPDX-License-Identifier: GPL-2.0-or-later
"""ELF files of x86-64 as a list of sections (ELF-64 Object File Format, 1.5).

Only what kernels and their symbol files need: little-endian, no relocations, no
extended section numbering.  What a section means is its reader's business.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from pathlib import Path
from struct import Struct, error
from typing import NamedTuple

from nanokernel_vm import files
from nanokernel_vm.errors import LoadError

EHDR = Struct("<16sHHIQQQIHHHHHH")
PHDR = Struct("<IIQQQQQQ")
SHDR = Struct("<IIQQQQIIQQ")
SYM = Struct("<IBBHQQ")
NHDR = Struct("<III")  # n_namesz, n_descsz, n_type

IDENT = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
X86_64 = 62
PT_LOAD, PT_NOTE = 1, 4
_NAME_MAX = 4096  # bytes of a section's or a symbol's; KSYM_NAME_LEN is 512


class SectionType(IntEnum):
    """sh_type, as far as kernels use it."""

    NULL = 0
    PROGBITS = 1
    SYMTAB = 2
    STRTAB = 3
    NOTE = 7
    NOBITS = 8


class SectionFlag(IntFlag):
    """sh_flags, as far as kernels use it."""

    WRITE = 1
    ALLOC = 2
    EXECINSTR = 4
    MERGE = 0x10
    STRINGS = 0x20
    COMPRESSED = 0x800


class SymbolType(IntEnum):
    """Low four bits of st_info."""

    NOTYPE = 0
    OBJECT = 1
    FUNC = 2


class SymbolBinding(IntEnum):
    """High four bits of st_info."""

    LOCAL = 0
    GLOBAL = 1
    WEAK = 2


@dataclass(frozen=True, slots=True)
class Section:
    """One section; ``addr`` is its virtual address, 0 if it is not loaded.

    Attributes:
        size: Bytes in memory; differs from ``len(data)`` only for NOBITS.
        link: Name of the section that sh_link means (the strings of a symbol table).
        header: File offset of its section header, in a file that was read.
    """

    name: str
    type: int = SectionType.PROGBITS
    flags: int = 0
    addr: int = 0
    size: int = 0
    data: bytes | memoryview = field(default=b"", repr=False)
    align: int = 1
    link: str = ""
    info: int = 0
    entsize: int = 0
    header: int = 0

    @property
    def end(self) -> int:
        """Virtual address behind the last byte."""
        return self.addr + self.size

    @property
    def executable(self) -> bool:
        """Whether instructions lie here."""
        return bool(self.flags & SectionFlag.EXECINSTR)

    @property
    def loaded(self) -> bool:
        """Whether it occupies memory when the kernel runs."""
        return bool(self.flags & SectionFlag.ALLOC)

    def without_contents(self) -> "Section":
        """Return the same section as NOBITS: an address range and a name."""
        return Section(
            self.name, SectionType.NOBITS, self.flags, self.addr, self.size,
            align=self.align,
        )  # fmt: skip


class Segment(NamedTuple):
    """One PT_LOAD program header."""

    flags: int
    vaddr: int
    paddr: int
    memsz: int


class Symbol(NamedTuple):
    """One row of a symbol table; ``section`` is a section name, "" for absolute."""

    name: str
    addr: int
    size: int
    type: SymbolType
    binding: SymbolBinding
    section: str


class ElfImage:
    """An ELF file, read; section contents are views of it, not copies."""

    def __init__(self, data: bytes | memoryview, name: str = "image") -> None:
        """Parse all headers.

        Raises:
            LoadError: It is no ELF-64 for x86-64, or it is cut off.
        """
        self.data = memoryview(data)
        self.name = name
        if bytes(self.data[:6]) != IDENT[:6]:
            raise LoadError(f"{name} is no 64-bit little-endian ELF file")
        try:
            self._parse()
        except (error, IndexError, ValueError, OverflowError) as exc:
            raise LoadError(f"{name} is truncated or damaged: {exc}") from exc

    @classmethod
    def open(cls, path: Path) -> "ElfImage":
        """Map ``path`` and parse it.

        Raises:
            LoadError: It cannot be read or is no kernel ELF.
        """
        try:
            mapped = files.mapped(path)
        except OSError as exc:
            raise LoadError(f"{path} cannot be read: {exc.strerror}") from None
        return cls(memoryview(mapped), str(path))

    def _parse(self) -> None:
        ehdr = EHDR.unpack_from(self.data)
        if ehdr[2] != X86_64:
            raise LoadError(f"{self.name} is an ELF file for machine {ehdr[2]}, not 62")
        self.entry: int = ehdr[4]
        phoff, shoff, phnum, shnum, shstrndx = (ehdr[i] for i in (5, 6, 10, 12, 13))
        headers = [PHDR.unpack_from(self.data, phoff + i * 56) for i in range(phnum)]
        self.segments = [
            Segment(row[1], row[3], row[4], row[6])
            for row in headers
            if row[0] == PT_LOAD
        ]
        rows = [SHDR.unpack_from(self.data, shoff + i * 64) for i in range(shnum)]
        strings = bytes(self._contents(rows[shstrndx]))
        names = [_string(strings, row[0]) for row in rows]
        self.sections = [
            Section(
                names[i], row[1], row[2], row[3], row[5], self._contents(row), row[8],
                names[row[6]], row[7], row[9], shoff + i * 64,
            )
            for i, row in enumerate(rows) if row[1] != SectionType.NULL
        ]  # fmt: skip

    def _contents(self, row: tuple[int, ...]) -> memoryview:
        if row[1] in (SectionType.NOBITS, SectionType.NULL):
            return self.data[:0]
        if row[4] + row[5] > len(self.data):
            raise ValueError(f"a section ends at {row[4] + row[5]:#x}")
        return self.data[row[4] : row[4] + row[5]]

    def find(self, name: str) -> Section | None:
        """Return the section called ``name``, or None."""
        return next((s for s in self.sections if s.name == name), None)

    def section(self, name: str) -> Section:
        """Return the section called ``name``.

        Raises:
            LoadError: There is none.
        """
        if section := self.find(name):
            return section
        raise LoadError(f"{self.name} has no section {name}")

    def read(self, addr: int, length: int) -> bytes:
        """Return up to ``length`` bytes at a virtual address, from the file."""
        for section in self.sections:
            if section.loaded and section.addr <= addr < section.end:
                return bytes(section.data[addr - section.addr :][:length])
        return b""

    def symbols(self) -> list[Symbol]:
        """Return its own .symtab, empty if it was stripped.

        Raises:
            LoadError: It is damaged.
        """
        try:
            return self._symbols()
        except (error, ValueError) as exc:
            raise LoadError(f"{self.name}: its symbols are damaged: {exc}") from None

    def _symbols(self) -> list[Symbol]:
        table = self.find(".symtab")
        if table is None:
            return []
        strings = bytes(self.section(table.link).data)
        by_index = ["", *(s.name for s in self.sections)]
        return [
            Symbol(
                _string(strings, name), value, size,
                SymbolType(info & 15) if info & 15 < 3 else SymbolType.NOTYPE,
                SymbolBinding(info >> 4) if info >> 4 < 3 else SymbolBinding.GLOBAL,
                by_index[index] if index < len(by_index) else "",
            )
            for name, info, _, index, value, size in SYM.iter_unpack(table.data)
        ]  # fmt: skip


def _string(strings: bytes, offset: int) -> str:
    end = strings.index(0, offset, offset + _NAME_MAX)
    return strings[offset:end].decode("ascii", "replace")


class Note(NamedTuple):
    """One note of a PT_NOTE segment or a note section."""

    name: bytes
    type: int
    description: bytes


def notes(data: bytes | memoryview) -> Iterator[Note]:
    """Yield the notes that are whole."""
    at = 0
    while at + NHDR.size <= len(data):
        name, size, kind = NHDR.unpack_from(data, at)
        start = at + NHDR.size + (name + 3 & ~3)
        if start + size > len(data):
            return
        text = bytes(data[at + NHDR.size :][:name]).rstrip(b"\0")
        yield Note(text, kind, bytes(data[start : start + size]))
        at = start + (size + 3 & ~3)
