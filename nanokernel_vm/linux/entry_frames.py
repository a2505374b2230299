# SPDX-License-Identifier: GPL-2.0-or-later
"""What the .debug_frame of a kernel with DWARF lacks, added from its ORC tables.

The compiler describes C functions only, better than ORC: it knows where all registers
are.  Entry code is assembler, and where C code changes to the interrupt stack in an
inline assembly the compiler does not notice.  Both are taken from ORC.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from struct import Struct, error
from typing import NamedTuple

from nanokernel_vm.errors import BuildError, LoadError
from nanokernel_vm.linux import orc
from nanokernel_vm.linux.damage import found_in
from nanokernel_vm.linux.debug_frame import USER_SPACE, DebugFrame, Row
from nanokernel_vm.linux.elf import ElfImage, Section, SectionFlag, SymbolType
from nanokernel_vm.linux.elf_writer import copy_with_section
from nanokernel_vm.linux.orc import Reg

_HEAD = Struct("<IIQQ")
_CIE_ID = 0xFFFFFFFF
_LOCATION = 8  # of the initial location in an FDE


class _Fde(NamedTuple):
    start: int
    end: int
    offset: int


_NEVER = _Fde(1 << 64, 1 << 64, 0)


def orc_debug_frame_file(vmlinux: Path, out: Path, loaded: Path | None = None) -> None:
    """Copy a kernel that has DWARF, with a .debug_frame that covers all its code.

    Args:
        loaded: The file that has code and ORC tables, if ``vmlinux`` has DWARF only.

    Raises:
        LoadError: It has no .debug_frame, symbols or ORC tables of Linux 6.1.
        BuildError: ``out`` cannot be written.
    """
    image = ElfImage.open(vmlinux)
    section = image.section(".debug_frame")
    with found_in(image.name):
        rows = orc.read_table(ElfImage.open(loaded or vmlinux))
        data = _completed(image, section, rows)
    try:
        copy_with_section(image, out, section, data)
    except OSError as exc:
        raise BuildError(f"{out} cannot be written: {exc}") from exc


def _completed(
    image: ElfImage, section: Section, rows: Sequence[tuple[int, orc.Rule]]
) -> bytes:
    functions = sorted(s.addr for s in image.symbols() if s.type is SymbolType.FUNC)
    if section.flags & SectionFlag.COMPRESSED or not functions:
        raise LoadError("has a compressed .debug_frame or no symbols")
    own = bytearray(section.data)
    try:
        described = _drop(own, sorted(_fdes(own)), rows)
    except error as exc:
        raise LoadError(f"has a damaged .debug_frame: {exc}") from exc
    frames = DebugFrame(len(own))
    frames.add_rows(_without(rows, described), functions)
    frames.add_end(USER_SPACE)
    return bytes(own) + frames.data


def _fdes(data: bytearray) -> Iterator[_Fde]:
    offset = 0
    while offset < len(data):
        length, cie, start, size = _HEAD.unpack_from(data, offset)
        if cie != _CIE_ID and length:
            yield _Fde(start, start + size, offset)
        offset += 4 + length


def _drop(
    data: bytearray, fdes: Sequence[_Fde], rows: Sequence[tuple[int, orc.Rule]]
) -> list[_Fde]:
    """Take FDEs of functions that change the stack out, and return the others.

    Debuggers pass over an FDE for address 0: linkers leave those behind, too.
    """
    switches = (addr for addr, rule in rows if rule.sp_reg is Reg.SP_INDIRECT)
    switch = next(switches, None)
    kept: list[_Fde] = []
    for fde in fdes:
        while switch is not None and switch < fde.start:
            switch = next(switches, None)
        if switch is not None and switch < fde.end:
            place = fde.offset + _LOCATION
            data[place : place + 16] = bytes(16)
        else:
            kept.append(fde)
    return kept


def _without(rows: Sequence[tuple[int, orc.Rule]], fdes: Sequence[_Fde]) -> list[Row]:
    """Return the rows that no FDE covers, with holes where one does."""
    left: list[Row] = []
    number = 0
    for (addr, rule), (end, _) in pairwise(rows):
        at = addr
        while at < end:
            while number < len(fdes) and fdes[number].end <= at:
                number += 1
            start, stop, _ = fdes[number] if number < len(fdes) else _NEVER
            covered = start <= at
            left.append((at, None if covered else rule))
            at = min(end, stop if covered else start)
    return [*left, (rows[-1][0], None)]
