# SPDX-License-Identifier: GPL-2.0-or-later
"""A program so small that it can be typed at a shell: some bytes at an address."""

import struct

ENTRY = 0x40_0078
_HEADERS = 0x78


def commands(code: bytes, name: str) -> list[str]:
    """Shell commands that make the program ``name`` of ``code``, executed at ENTRY."""
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\2\1\1",
        *(2, 62, 1, ENTRY, 64, 0, 0),  # executable, x86-64
        *(64, 56, 1, 0, 0, 0),
    )
    size = _HEADERS + len(code)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, ENTRY - _HEADERS, 0, size, size, 0x1000)
    text = "".join(f"\\{byte:03o}" for byte in header + segment + code)
    pieces = (text[i : i + 400] for i in range(0, len(text), 400))
    return [
        f"rm -f {name}",
        *(f"printf '{piece}' >>{name}" for piece in pieces),
        f"chmod 755 {name}",
    ]
