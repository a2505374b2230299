# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own symbol table, decoded from the image (scripts/kallsyms.c, v6.1).

A stripped vmlinux still carries every name and address for its oopses.  The tables have
no headers; one of them is unmistakable, and the others lie before it in a fixed order
(each aligned to 8)::

    offsets i32[n]   relative_base u64   n u32   names   markers u32[]
    [seqs_of_names u8[3 * n]]   token_table   token_index u16[256]

``names`` are strings of token numbers, each with its length in front; a token is a
piece of text.  ``markers`` are the places of every 256th name, which proves what was
found.
``seqs_of_names`` came with commit 60443c88f3a8 (in v6.2) and its backport to 6.1.y.
"""

import re
from itertools import accumulate, pairwise
from struct import iter_unpack, unpack_from
from typing import NamedTuple

from nanokernel_vm.errors import LoadError
from nanokernel_vm.linux.elf import ElfImage

_TOKENS = 256
_TOKENS_SIZE = 0x4000  # more than the tokens and their index ever take
_MARKED = 256  # every how many names there is a marker

_LONGEST = 2 + 512  # a length of two bytes, then KSYM_NAME_LEN tokens

# Digits are too frequent inside names to be given away as tokens for pairs, so that
# their ten tokens stand for themselves.
_ZERO = ord("0")
_DIGITS = b"".join(b"%d\0" % digit for digit in range(10))


class KernelSymbol(NamedTuple):
    """One line of /proc/kallsyms; ``type`` is nm's letter."""

    addr: int
    type: str
    name: str


def decode(image: ElfImage) -> list[KernelSymbol]:
    """Return all symbols in ascending order of address.

    Raises:
        LoadError: There is no table in the order of Linux 6.1, or it proves false.
    """
    for section in image.sections:
        if section.loaded and not section.executable:
            for match in re.finditer(re.escape(_DIGITS), section.data):
                low = max(match.start() - _TOKENS_SIZE, 0) & ~7
                near = bytes(section.data[low : match.end() + _TOKENS_SIZE])
                if tokens := _find_tokens(near, match.start() - low):
                    before = bytes(section.data[: low + tokens.start])
                    return _prove(_decode(before, tokens.text), image)
    raise LoadError(f"{image.name}: found no kallsyms tables (no CONFIG_KALLSYMS?)")


class _Tokens(NamedTuple):
    start: int
    text: list[str]


def _find_tokens(data: bytes, digits: int) -> _Tokens | None:
    """Return the token table whose digits are at ``digits``, if its index agrees."""
    rest = data[digits:].split(b"\0", _TOKENS - _ZERO)[: _TOKENS - _ZERO]
    end = digits + sum(len(piece) + 1 for piece in rest)
    if len(data) < _up8(end) + 2 * _TOKENS:
        return None
    index = list(unpack_from(f"<{_TOKENS}H", data, _up8(end)))
    start = digits - index[_ZERO]
    pieces = data[max(start, 0) : end].split(b"\0")[:-1]
    if [0, *accumulate(len(piece) + 1 for piece in pieces)][:-1] != index:
        return None
    return _Tokens(start, [piece.decode("latin-1") for piece in pieces])


def _decode(data: bytes, tokens: list[str]) -> list[KernelSymbol]:
    """Decode the tables at the end of ``data``, which the token table follows."""
    markers_at, markers = _find_markers(data)
    names_at, count = _find_names(data, markers_at, markers)
    offsets_at = names_at - 16 - _up8(4 * count)
    if offsets_at < 0:
        raise LoadError(f"kallsyms counts {count} symbols, more than there is room for")
    names = _expand(data, names_at, count, tokens, markers)
    (base,) = unpack_from("<Q", data, names_at - 16)
    offsets = unpack_from(f"<{count}i", data, offsets_at)
    return [
        KernelSymbol(addr, name[0], name[1:])
        for addr, name in zip(_addresses(offsets, base), names, strict=True)
    ]


def _find_markers(data: bytes) -> tuple[int, list[int]]:
    """Return the place and contents of the markers: the last u32s that rise from 0."""
    at = len(data) & ~7
    while (at := data.rfind(bytes(4), 0, at + 3)) >= 0:
        if at % 8 == 0 and (markers := _rising(data, at)):
            return at, markers
    raise LoadError("kallsyms has no markers before its tokens: not Linux 6.1's order")


def _rising(data: bytes, at: int) -> list[int]:
    """Return the markers that begin at ``at``, none if that is something else."""
    words = memoryview(data)[at : len(data) & ~3]  # a copy for each would be for ever
    values = (value for (value,) in iter_unpack("<I", words))
    markers = [next(values)]
    for value in values:
        if not 2 * _MARKED <= value - markers[-1] <= _LONGEST * _MARKED:
            break
        markers.append(value)
    return markers if len(markers) > 1 else []


def _find_names(data: bytes, markers_at: int, markers: list[int]) -> tuple[int, int]:
    """Return the place of the first name, and the count that stands before it."""
    last = markers_at - markers[-1]
    for at in range(last & ~7, max(last - _MARKED * _LONGEST, 16), -8):
        count, zero = unpack_from("<II", data, at - 8)
        if not zero and count and (count - 1) // _MARKED == len(markers) - 1:
            return at, count
    raise LoadError("kallsyms has no count before its names: not Linux 6.1's order")


def _expand(
    data: bytes, at: int, count: int, tokens: list[str], markers: list[int]
) -> list[str]:
    """Return ``count`` names, each with its type in front.

    Raises:
        LoadError: They do not pass by their markers.
    """
    start, names, text = at, [], tokens.__getitem__
    for number in range(count):
        if not number % _MARKED and at - start != markers[number // _MARKED]:
            raise LoadError(f"kallsyms name {number} is not at its marker")
        length = data[at]
        at += 1
        if length & 0x80:  # big symbols: commit 73bbb94466fd (in v6.1)
            length = length & 0x7F | data[at] << 7
            at += 1
        names.append("".join(map(text, data[at : at + length])))
        at += length
    return names


def _addresses(offsets: tuple[int, ...], base: int) -> list[int]:
    """Undo CONFIG_KALLSYMS_BASE_RELATIVE (kernel/kallsyms.c: kallsyms_sym_address)."""
    if min(offsets) >= 0:
        return [base + offset for offset in offsets]
    # KALLSYMS_ABSOLUTE_PERCPU: per-CPU offsets stand for themselves.
    return [offset if offset >= 0 else base - 1 - offset for offset in offsets]


def _prove(symbols: list[KernelSymbol], image: ElfImage) -> list[KernelSymbol]:
    """Check what the image's own headers also say.

    Raises:
        LoadError: Out of order, or a well-known symbol is elsewhere.
    """
    if any(a.addr > b.addr for a, b in pairwise(symbols)):
        raise LoadError(f"{image.name}: decoded kallsyms are not in order")
    found = {symbol.name: symbol.addr for symbol in symbols}
    landmarks = {"_text": ".text", "__start_orc_unwind_ip": ".orc_unwind_ip"}
    for name, section_name in landmarks.items():
        section = image.find(section_name)
        if section and found.get(name) != section.addr:
            raise LoadError(f"{image.name}: {name} decoded is not {section_name}")
    return symbols


def _up8(offset: int) -> int:
    return -(-offset // 8) * 8
