# SPDX-License-Identifier: GPL-2.0-or-later
"""Work done here so that memory need not travel: ``qSearch:memory`` and ``qCRC``.

A range may be the whole address space, and page tables may make every page of it seem
to be there: the work is done beside the loop, can be stopped, and is bounded, well
below the seconds after which gdb 13 takes a server for dead.
"""

import zlib
from collections.abc import Iterator

from stub.dispatch import packet
from stub.errors import Errno, ProtocolError, TargetError
from stub.handlers.memory import ADDRESS_SPACE, fetch
from stub.outcomes import Work
from stub.session import Session
from stub.target import Inferior

_PIECE = 0x10_0000
_MOST = 1 << 30  # bytes looked at for one request
_HOLE = 1 << 12  # what finding a hole costs beside reading so many bytes, about
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _mapped(
    work: Work, target: Inferior, addr: int, end: int
) -> Iterator[tuple[int, bytes]]:
    """Yield what is mapped from ``addr`` to ``end``, with its addresses."""
    left = _MOST
    while addr < end:
        work.check()
        if left <= 0:
            raise TargetError(
                Errno.EINVAL,
                f"not found up to {addr:#x}, after {_MOST:#x} bytes; go on there",
            )
        piece = target.read_memory(addr, min(end - addr, _PIECE))
        if piece:
            yield addr, piece
        addr = addr + len(piece) if piece else target.past_hole(addr)
        left -= max(len(piece), _HOLE)


@packet("qSearch:memory:{addr:x};{length:x};{pattern:raw}")
def search_memory(
    session: Session, target: Inferior, addr: int, length: int, pattern: bytes
) -> Work:
    """Find the first place of ``pattern`` in what is mapped: ``1,ADDR`` or ``0``."""
    if not pattern:
        raise ProtocolError("nothing to search for")
    end = min(addr + length, ADDRESS_SPACE)

    def search(work: Work) -> tuple[bytes, ...]:
        window, at = b"", -1
        for start, piece in _mapped(work, target, addr, end):
            if start != at + len(window):  # behind a hole
                window, at = b"", start
            window += piece
            place = window.find(pattern)
            if place >= 0:
                return (b"1,%x" % (at + place),)
            kept = max(len(window) - len(pattern) + 1, 0)
            window, at = window[kept:], at + kept
        if at < 0:
            raise TargetError(Errno.EFAULT, f"nothing is mapped from {addr:#x} on")
        return (b"0",)

    return Work(search)


@packet("qCRC:{addr:x},{length:x}")
def crc(session: Session, target: Inferior, addr: int, length: int) -> Work:
    """Sum up memory for ``compare-sections``.

    gdb's CRC-32 takes the bits of each byte from the top and zlib's from the
    bottom; mirroring every byte and the result turns one into the other.
    """
    if length > _MOST:
        raise TargetError(Errno.EINVAL, f"{length:#x} bytes are more than {_MOST:#x}")

    def sum_up(work: Work) -> tuple[bytes, ...]:
        value, done = 0, 0
        while done < length:
            work.check()
            piece = fetch(target, addr + done, min(length - done, _PIECE))
            value = zlib.crc32(piece.translate(_MIRRORED), value)
            done += len(piece)
        mirrored = int(f"{value ^ 0xFFFFFFFF:032b}"[::-1], 2)
        return (b"C%08x" % mirrored,)

    return Work(sum_up)
