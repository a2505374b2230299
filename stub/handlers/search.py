# SPDX-License-Identifier: GPL-2.0-or-later
"""Work done here so that memory need not travel: ``qSearch:memory`` and ``qCRC``."""

import zlib
from collections.abc import Iterator

from stub.dispatch import packet
from stub.handlers.memory import fetch
from stub.session import Session
from stub.target import Inferior

_PIECE = 0x10_0000
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _pieces(target: Inferior, addr: int, length: int) -> Iterator[bytes]:
    """Yield ``length`` bytes from ``addr`` on; TargetError where mapping ends."""
    while length:
        piece = fetch(target, addr, min(length, _PIECE))
        yield piece
        addr += len(piece)
        length -= len(piece)


@packet("qSearch:memory:{addr:x};{length:x};{pattern:raw}")
def search_memory(
    session: Session, target: Inferior, addr: int, length: int, pattern: bytes
) -> bytes:
    """Find the first place of ``pattern`` in a range: ``1,ADDR`` or ``0``."""
    window = b""
    for piece in _pieces(target, addr, length):
        window += piece
        place = window.find(pattern)
        if place >= 0:
            return b"1,%x" % (addr + place)
        kept = max(len(window) - len(pattern) + 1, 0)
        addr += kept
        window = window[kept:]
    return b"0"


@packet("qCRC:{addr:x},{length:x}")
def crc(session: Session, target: Inferior, addr: int, length: int) -> bytes:
    """Sum up memory for ``compare-sections``.

    gdb's CRC-32 takes the bits of each byte from the top and zlib's from the
    bottom; mirroring every byte and the result turns one into the other.
    """
    value = 0
    for piece in _pieces(target, addr, length):
        value = zlib.crc32(piece.translate(_MIRRORED), value)
    mirrored = int(f"{value ^ 0xFFFFFFFF:032b}"[::-1], 2)
    return b"C%08x" % mirrored
