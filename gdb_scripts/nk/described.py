# SPDX-License-Identifier: GPL-2.0-or-later
"""Which code an ELF file's .debug_frame describes (DWARF 5, section 6.4.1)."""

import os
from bisect import bisect_right
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from struct import Struct

_SECTION = Struct("<IIQQQQIIQQ")
_ENTRY = Struct("<IIQQ")
_CIE_ID = 0xFFFFFFFF
_EHDR = 64
_COMPRESSED = 1 << 11


class Described:
    """Addresses that call frame information was found for.

    Args:
        ranges: Pairs of addresses, first and behind the last.
    """

    def __init__(self, ranges: Iterator[tuple[int, int]]) -> None:
        self._ranges = sorted(ranges)
        self._starts = [start for start, _ in self._ranges]

    def __contains__(self, pc: int) -> bool:
        at = bisect_right(self._starts, pc) - 1
        return at >= 0 and pc < self._ranges[at][1]


def described(path: str | None) -> Described:
    """Read a file's; nothing if there is none that can be read here."""
    if not path or not os.path.isfile(path) or os.path.getsize(path) < _EHDR:
        return Described(iter(()))
    with open(path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as image:
        return Described(_ranges(_debug_frame(image)))


def _debug_frame(image: mmap) -> bytes:
    place = int.from_bytes(image[0x28:0x30], "little")
    size, count, names = (
        int.from_bytes(image[at : at + 2], "little") for at in (0x3A, 0x3C, 0x3E)
    )
    if image[:5] != b"\x7fELF\2" or size != _SECTION.size or not count:
        return b""
    rows = [_SECTION.unpack_from(image, place + size * i) for i in range(count)]
    strings = rows[names][4]
    wanted = b".debug_frame\0"
    for name, _, flags, _, offset, length, *_ in rows:
        at = strings + name
        if image[at : at + len(wanted)] == wanted and not flags & _COMPRESSED:
            return image[offset : offset + length]
    return b""


def _ranges(data: bytes) -> Iterator[tuple[int, int]]:
    offset = 0
    while offset + _ENTRY.size <= len(data):
        length, cie, start, size = _ENTRY.unpack_from(data, offset)
        if cie != _CIE_ID and start:  # linkers leave 0 behind for what they dropped
            yield start, start + size
        offset += 4 + length
