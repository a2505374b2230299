# SPDX-License-Identifier: GPL-2.0-or-later
"""ELF cores, written byte by byte."""

from struct import pack

ET_CORE, EM_X86_64, PT_LOAD, PT_NOTE = 4, 62, 1, 4
HEADER, ENTRY = 64, 56


def elf(*segments: tuple[int, int, bytes], kind: int = ET_CORE) -> bytes:
    """An ELF file of segments: type, physical address, contents."""
    head = b"\x7fELF\2\1\1" + bytes(9)
    head += pack("<HHIQQQIHHHHHH", kind, EM_X86_64, 1, 0, HEADER, 0, 0, HEADER,
                 ENTRY, len(segments), 0, 0, 0)  # fmt: skip
    at, table, contents = HEADER + ENTRY * len(segments), b"", b""
    for type_, address, content in segments:
        place, size = at + len(contents), len(content)
        table += pack("<IIQQQQQQ", type_, 4, place, 0, address, size, size, 0)
        contents += content
    return head + table + contents


def prstatus(**registers: int) -> bytes:
    """A note with a CPU's registers."""
    names = "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs"
    values = [registers.get(name, 0) for name in [*names.split(), "eflags", "rsp"]]
    description = bytes(112) + pack("<20Q", *values) + bytes(64)
    return pack("<III8s", 5, len(description), 1, b"CORE\0") + description
