# SPDX-License-Identifier: GPL-2.0-or-later
"""Write an ELF file: sections and symbols to bytes; elf.py declares what they are."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from nanokernel_vm.errors import LoadError
from nanokernel_vm.linux.elf import (
    EHDR,
    IDENT,
    PHDR,
    PT_LOAD,
    SHDR,
    SYM,
    X86_64,
    ElfImage,
    Section,
    SectionType,
    Segment,
    Symbol,
    SymbolBinding,
)

_EXEC = 2
_PAGE = 4096
_SIZE_MAX = 1 << 31  # bytes of a file; Linux has its image within 1 GiB of addresses
_SHN_ABS = 0xFFF1
_SH_OFFSET, _SH_SIZE = 4, 5


def symbol_sections(symbols: Iterable[Symbol], names: Sequence[str]) -> list[Section]:
    """Encode .symtab and .strtab.

    Args:
        symbols: In any order; locals are put first, as the format wants.
        names: The names of the file's sections, the first being section 1.
    """
    index = {name: i for i, name in enumerate(names, 1)} | {"": _SHN_ABS}
    ordered = sorted(symbols, key=lambda s: s.binding != SymbolBinding.LOCAL)
    table, strings = bytearray(SYM.size), bytearray(b"\0")
    for name, addr, size, kind, binding, section in ordered:
        info = binding << 4 | kind
        table += SYM.pack(len(strings), info, 0, index[section], addr, size)
        strings += name.encode() + b"\0"
    local = sum(s.binding == SymbolBinding.LOCAL for s in ordered)
    return [
        Section(
            ".symtab", SectionType.SYMTAB, size=len(table), data=bytes(table), align=8,
            link=".strtab", info=1 + local, entsize=SYM.size,
        ),
        Section(".strtab", SectionType.STRTAB, size=len(strings), data=bytes(strings)),
    ]  # fmt: skip


def write_elf(
    path: Path, sections: Sequence[Section], segments: Sequence[Segment], entry: int
) -> None:
    """Write an executable with these sections.

    Sections with contents lie in the file as their segment has them in memory, what
    is missing between them being a hole.
    """
    layout = _Layout(sections, segments)
    if layout.end > _SIZE_MAX:
        raise LoadError(f"the sections lie {layout.end:#x} bytes apart")
    names = bytearray(b"\0")
    numbers = {section.name: i for i, section in enumerate(sections, 1)} | {"": 0}
    headers = bytearray(SHDR.size)
    with path.open("wb") as file:
        for s, offset in zip(sections, layout.offsets, strict=True):
            if s.data:
                file.seek(offset)
                file.write(s.data)
            headers += SHDR.pack(
                len(names), s.type, s.flags, s.addr, offset, s.size, numbers[s.link],
                s.info, s.align, s.entsize,
            )  # fmt: skip
            names += s.name.encode() + b"\0"
        names_name = len(names)
        names += b".shstrtab\0".ljust(16, b"\0")
        size = len(names)
        headers += SHDR.pack(
            names_name, SectionType.STRTAB, 0, 0, layout.end, size, 0, 0, 1, 0
        )
        file.seek(layout.end)
        file.write(names + headers)
        file.seek(0)
        file.write(_file_header(entry, len(segments), len(sections), layout.end + size))
        for t, offset, size in zip(segments, layout.starts, layout.sizes, strict=True):
            row = PT_LOAD, t.flags, offset, t.vaddr, t.paddr, size, t.memsz, _PAGE
            file.write(PHDR.pack(*row))


def _file_header(entry: int, segments: int, sections: int, shoff: int) -> bytes:
    phoff = EHDR.size if segments else 0
    return EHDR.pack(
        IDENT, _EXEC, X86_64, 1, entry, phoff, shoff, 0, EHDR.size, PHDR.size,
        segments, SHDR.size, sections + 2, sections + 1,
    )  # fmt: skip


class _Layout:
    """File offsets of sections and segments."""

    def __init__(
        self, sections: Sequence[Section], segments: Sequence[Segment]
    ) -> None:
        self._segments = segments
        self.starts = [0] * len(segments)
        self.sizes = [0] * len(segments)
        self.end = EHDR.size + PHDR.size * len(segments)
        self.offsets = [self._place(section) for section in sections]

    def _place(self, section: Section) -> int:
        if not section.data:
            return self.end
        if not section.loaded:
            self.end = _aligned(self.end, section.align) + section.size
            return self.end - section.size
        for i, segment in enumerate(self._segments):
            if segment.vaddr <= section.addr < segment.vaddr + segment.memsz:
                return self._place_in_segment(i, section)
        raise LoadError(f"section {section.name} is in no segment")

    def _place_in_segment(self, i: int, section: Section) -> int:
        if not self.sizes[i]:
            self.starts[i] = _aligned(self.end, _PAGE)
        start = section.addr - self._segments[i].vaddr
        self.sizes[i] = start + section.size
        self.end = max(self.end, self.starts[i] + self.sizes[i])
        return self.starts[i] + start


def _aligned(offset: int, align: int) -> int:
    align = min(max(align, 1), _PAGE)  # no reader of a file asks for more
    return -(-offset // align) * align


def copy_with_section(
    image: ElfImage, path: Path, section: Section, data: bytes
) -> None:
    """Write a copy of ``image`` whose ``section`` has other contents."""
    start = _aligned(len(image.data), section.align)
    row = list(SHDR.unpack_from(image.data, section.header))
    row[_SH_OFFSET], row[_SH_SIZE] = start, len(data)
    with path.open("wb") as file:
        file.write(image.data)
        file.seek(start)
        file.write(data)
        file.seek(section.header)
        file.write(SHDR.pack(*row))
