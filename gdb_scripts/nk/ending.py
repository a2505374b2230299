# SPDX-License-Identifier: GPL-2.0-or-later
"""A tiny ELF file that tells gdb where backtraces end: in user space.

gdb lets no unwinder say that a frame is the outermost, and without call frame
information it guesses callers on the user's stack.  An FDE can say it: a rule by which
the return address is undefined (DWARF 5, section 6.4.4).  The symbol files that ``nk``
makes have one; this is for the others.
"""

from struct import pack

USER_SPACE = range(0x1000, 0x7FFFFFFFF000)

_RIP = 16  # in DWARF's numbers for AMD64
# DW_CFA_def_cfa rsp+8; DW_CFA_undefined rip; DW_CFA_nop up to whole words
_END = bytes((0x0C, 7, 8, 0x07, _RIP)).ljust(8, b"\0")
_NAMES = b"\0.text\0.debug_frame\0.shstrtab\0"
_EHDR, _SHDR = 64, 64
_PROGBITS, _STRTAB, _NOBITS = 1, 3, 8
_ALLOC_EXEC = 6


def _debug_frame() -> bytes:
    # CIE: id, version 3, no augmentation, code and data alignment 1 and -8
    cie = pack("<IBBBBB", 0xFFFFFFFF, 3, 0, 1, 0x78, _RIP).ljust(12, b"\0")
    fde = pack("<IQQ", 0, USER_SPACE.start, len(USER_SPACE)) + _END
    return b"".join(pack("<I", len(entry)) + entry for entry in (cie, fde))


def ending_file() -> bytes:
    """Return the file's contents."""
    frame = _debug_frame()
    bodies = frame + _NAMES
    sections = [
        bytes(_SHDR),
        _section(".text", _NOBITS, _ALLOC_EXEC, 0, 0),
        _section(".debug_frame", _PROGBITS, 0, _EHDR, len(frame)),
        _section(".shstrtab", _STRTAB, 0, _EHDR + len(frame), len(_NAMES)),
    ]
    place = _EHDR + len(bodies)
    header = b"\x7fELF\2\1\1".ljust(16, b"\0") + pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, place, 0, _EHDR, 0, 0, _SHDR,
        len(sections), len(sections) - 1,
    )  # fmt: skip
    return header + bodies + b"".join(sections)


def _section(name: str, kind: int, flags: int, offset: int, size: int) -> bytes:
    at = _NAMES.index(name.encode() + b"\0")
    return pack("<IIQQQQIIQQ", at, kind, flags, 0, offset, size, 0, 0, 1, 0)
