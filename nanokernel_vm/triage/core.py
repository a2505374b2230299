# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel's memory in an ELF core: /proc/vmcore, QEMU's dump-guest-memory, ours.

PT_LOAD segments say by physical address what was dumped; NT_PRSTATUS notes hold the
registers of each CPU (include/linux/elfcore.h).  Only CPU 0's are used.
"""

import mmap
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from struct import Struct, error, unpack_from
from typing import Any, NamedTuple

from drgn import FaultError
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from nanokernel_vm.errors import MachineError

_PRSTATUS = 1
_REGISTERS = 112  # offset of pr_reg in struct elf_prstatus, on x86-64
# struct user_regs_struct (arch/x86/include/asm/user_64.h), by gdb's names
_NAMES = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx",
    "rdx", "rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss",
)  # fmt: skip
_NOTE = Struct("<III")  # n_namesz, n_descsz, n_type
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
        except (ELFError, error, ValueError, KeyError) as exc:
            raise CoreError(f"{path} is damaged: {exc}") from None
        self._pieces = list(_apart(_pieces(headers, len(self._data))))
        if not self._pieces:
            raise CoreError(f"{path} holds no memory")
        self._starts = [piece.start for piece in self._pieces]
        self.base = self._starts[0] & ~0xFFF
        self.end = max(piece.end for piece in self._pieces)
        self.size = self.end - self.base
        notes = (h for h in headers if h["p_type"] == "PT_NOTE")
        self.registers = next(
            (row for h in notes for row in _registers(self._data, h)), {}
        )

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
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as exc:
        raise CoreError(f"{path}: {exc.strerror}") from None
    except ValueError:
        raise CoreError(f"{path} is empty") from None
    if data[: len(_KDUMP)] == _KDUMP:
        raise CoreError(f"{path} is compressed; make it with makedumpfile -E")
    if data[:4] != b"\x7fELF":
        raise CoreError(f"{path} is not an ELF core")
    return data


def _headers(path: Path, data: mmap.mmap) -> Iterator[Any]:
    with path.open("rb") as file:
        elf = ELFFile(file)
        if elf["e_type"] != "ET_CORE" or elf["e_machine"] != "EM_X86_64":
            raise CoreError(
                f"{path} is {elf['e_type']} for {elf['e_machine']}, no core of x86-64"
            )
        yield from (segment.header for segment in elf.iter_segments())


def _pieces(headers: list[Any], size: int) -> Iterator[_Piece]:
    for header in headers:
        length = min(header["p_filesz"], max(size - header["p_offset"], 0))
        if header["p_type"] == "PT_LOAD" and length:
            start = header["p_paddr"]
            yield _Piece(start, start + length, header["p_offset"])


def _apart(pieces: Iterable[_Piece]) -> Iterator[_Piece]:
    """What of each no earlier one has: /proc/vmcore has the kernel's text twice."""
    seen = 0
    for piece in sorted(pieces):
        start = max(piece.start, seen)
        if start < piece.end:
            yield _Piece(start, piece.end, piece.offset + start - piece.start)
            seen = piece.end


def _registers(data: mmap.mmap, header: Any) -> Iterator[dict[str, int]]:
    """The registers of each NT_PRSTATUS note of a segment."""
    at = header["p_offset"]
    end = min(at + header["p_filesz"], len(data))
    while at + _NOTE.size <= end:
        name, size, kind = _NOTE.unpack_from(data, at)
        text = at + _NOTE.size
        at = text + (name + 3 & ~3)
        whole = at + size <= end and size >= _REGISTERS + 8 * len(_NAMES)
        if kind == _PRSTATUS and data[text : text + 4] == b"CORE" and whole:
            values = unpack_from(f"<{len(_NAMES)}Q", data, at + _REGISTERS)
            yield dict(zip(_NAMES, values, strict=True))
        at += size + 3 & ~3
