# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel's memory in an ELF core: /proc/vmcore, QEMU's dump-guest-memory, ours.

PT_LOAD segments say by physical address what was dumped; NT_PRSTATUS notes hold the
registers of each CPU (include/linux/elfcore.h).  Only CPU 0's are used.
"""

import mmap
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from struct import error, unpack_from
from typing import NamedTuple

from drgn import FaultError

from nanokernel_vm import files
from nanokernel_vm.errors import MachineError
from nanokernel_vm.linux.elf import (
    EHDR,
    IDENT,
    PHDR,
    PT_LOAD,
    PT_NOTE,
    SHDR,
    X86_64,
    notes,
)

_ET_CORE = 4
_MANY = 0xFFFF  # PN_XNUM: section 0 has the number of program headers, in sh_info
_PHYSICAL_END = 1 << 52  # of x86-64; /proc/kcore has -1 for what has no address
_PRSTATUS = 1
_REGISTERS = 112  # offset of pr_reg in struct elf_prstatus, on x86-64
# struct user_regs_struct (arch/x86/include/asm/user_64.h), by gdb's names
_NAMES = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx",
    "rdx", "rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss",
)  # fmt: skip
_KDUMP = b"KDUMP   "


class CoreError(MachineError):
    """A file is not a core that can be read."""


class _Piece(NamedTuple):
    start: int
    end: int
    offset: int


class Core:
    """What a core holds; implements ``linux.awareness``'s PhysicalMemory.

    Attributes:
        base: Physical address of the first byte; holes read as zeros by ``word`` and
            raise drgn's FaultError from ``read``.
        end: Physical address behind the last.
        registers: CPU 0's, by gdb's names; empty: none were dumped.
    """

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            CoreError: It is no ELF core with physical addresses.
        """
        self._data = _mapped(path)
        try:
            headers = list(_headers(path, self._data))
        except error as exc:
            raise CoreError(f"{path} is damaged: {exc}") from None
        self._pieces = list(_apart(_pieces(headers, len(self._data))))
        if not self._pieces:
            raise CoreError(f"{path} holds no memory")
        if sum(p.end - p.start for p in self._pieces) > len(self._data):
            raise CoreError(f"{path} is damaged: its segments hold more than the file")
        self._starts = [piece.start for piece in self._pieces]
        self.base = self._starts[0] & ~0xFFF
        self.end = max(piece.end for piece in self._pieces)
        self.size = self.end - self.base
        self.registers = next(_registers(headers, self._data), {})

    def pieces(self) -> Iterator[range]:
        """The physical addresses that were dumped, in ascending order."""
        return (range(piece.start, piece.end) for piece in self._pieces)

    def word(self, pa: int) -> int:
        """Read the aligned 8-byte word at ``pa``; zeros in a hole."""
        piece = self._piece(pa)
        if piece is None or pa + 8 > piece.end:
            return 0
        word: int = unpack_from("<Q", self._data, piece.offset + pa - piece.start)[0]
        return word

    def read(self, pa: int, length: int) -> bytes:
        """Read ``length`` bytes.

        Raises:
            FaultError: They were not all dumped.
        """
        parts, end = [], pa + length
        while pa < end:
            piece = self._piece(pa)
            if piece is None:
                raise FaultError("not in the core", pa)
            stop = min(end, piece.end)
            start = piece.offset - piece.start
            parts.append(self._data[start + pa : start + stop])
            pa = stop
        return b"".join(parts)

    def _piece(self, pa: int) -> _Piece | None:
        index = bisect_right(self._starts, pa) - 1
        if index < 0 or pa >= self._pieces[index].end:
            return None
        return self._pieces[index]


def _mapped(path: Path) -> mmap.mmap:
    try:
        data = files.mapped(path)
    except OSError as exc:
        raise CoreError(f"{path}: {exc.strerror}") from None
    if data[: len(_KDUMP)] == _KDUMP:
        raise CoreError(f"{path} is compressed; make it with makedumpfile -E")
    if data[:4] != b"\x7fELF":
        raise CoreError(f"{path} is not an ELF core")
    return data


class _Header(NamedTuple):
    """A program header (ELF-64 Object File Format, 1.5)."""

    type: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int


def _headers(path: Path, data: mmap.mmap) -> Iterator[_Header]:
    ident, kind, machine, _, _, phoff, shoff, *_, size, count, _, _, _ = (
        EHDR.unpack_from(data)
    )
    if ident[:6] != IDENT[:6] or (kind, machine) != (_ET_CORE, X86_64):
        raise CoreError(
            f"{path} is an ELF file of type {kind} for machine {machine}, "
            "no core of x86-64"
        )
    if count and size != PHDR.size:
        raise error(f"program headers of {size} bytes")
    if count == _MANY:
        count = SHDR.unpack_from(data, shoff)[7]
    if phoff + count * PHDR.size > len(data):
        raise error(f"its {count} program headers at {phoff:#x} are behind its end")
    for number in range(count):
        yield _Header(*PHDR.unpack_from(data, phoff + number * PHDR.size))


def _pieces(headers: list[_Header], size: int) -> Iterator[_Piece]:
    for header in headers:
        length = min(header.filesz, max(size - header.offset, 0))
        end = header.paddr + length
        if header.type == PT_LOAD and length and end <= _PHYSICAL_END:
            yield _Piece(header.paddr, end, header.offset)


def _apart(pieces: Iterable[_Piece]) -> Iterator[_Piece]:
    """What of each no earlier one has: /proc/vmcore has the kernel's text twice."""
    seen = 0
    for piece in sorted(pieces):
        start = max(piece.start, seen)
        if start < piece.end:
            yield _Piece(start, piece.end, piece.offset + start - piece.start)
            seen = piece.end


def _registers(headers: list[_Header], data: mmap.mmap) -> Iterator[dict[str, int]]:
    """The registers of each NT_PRSTATUS note."""
    for header in headers:
        if header.type == PT_NOTE:
            yield from _of_notes(data[header.offset :][: header.filesz])


def _of_notes(data: bytes) -> Iterator[dict[str, int]]:
    for name, kind, description in notes(data):
        whole = len(description) >= _REGISTERS + 8 * len(_NAMES)
        if kind == _PRSTATUS and name == b"CORE" and whole:
            values = unpack_from(f"<{len(_NAMES)}Q", description, _REGISTERS)
            yield dict(zip(_NAMES, values, strict=True))
