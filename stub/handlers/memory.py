# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory packets: ``m``, ``M``, ``x``, ``X`` (gdb manual, "Packets").

Addresses are virtual addresses of the selected inferior, 64 bits wide: a range
that would wrap round ends at the last byte when read and is refused when written.
"""

from stub.dispatch import packet
from stub.errors import Errno, ProtocolError, TargetError
from stub.session import Session
from stub.target import Inferior

ADDRESS_SPACE = 1 << 64


def fetch(target: Inferior, addr: int, length: int) -> bytes:
    """Read what is mapped at ``addr``, at least one byte if any was asked for.

    gdb accepts a short reply, so a fault part-way returns the readable prefix
    and only an unreadable first byte is an error.
    """
    data = target.read_memory(addr, min(length, ADDRESS_SPACE - addr))
    if length and not data:
        raise TargetError(Errno.EFAULT, f"{addr:#x} is not mapped")
    return data


def _store(target: Inferior, addr: int, length: int, data: bytes) -> bytes:
    if len(data) != length:
        raise ProtocolError(f"{length:#x} bytes announced, {len(data):#x} sent")
    if addr + length > ADDRESS_SPACE:
        raise TargetError(Errno.EFAULT, f"{addr:#x} + {length:#x} wraps round")
    if data:
        target.write_memory(addr, data)
    return b"OK"


@packet("m{addr:x},{length:x}")
def read_memory(session: Session, target: Inferior, addr: int, length: int) -> bytes:
    """Read memory as hex."""
    return fetch(target, addr, min(length, session.max_packet // 2)).hex().encode()


@packet("x{addr:x},{length:x}", features=["binary-upload+"])
def read_binary(session: Session, target: Inferior, addr: int, length: int) -> bytes:
    """Read memory as it is, behind a ``b`` (the dialect of gdb 16 and later)."""
    return b"b" + fetch(target, addr, min(length, session.max_packet // 2))


@packet("M{addr:x},{length:x}:{data:hex}", changes=True)
def write_memory(
    session: Session, target: Inferior, addr: int, length: int, data: bytes
) -> bytes:
    """Write memory given as hex."""
    return _store(target, addr, length, data)


@packet("X{addr:x},{length:x}:{data:raw}", changes=True)
def write_binary(
    session: Session, target: Inferior, addr: int, length: int, data: bytes
) -> bytes:
    """Write memory given as it is; gdb probes for it with no bytes."""
    return _store(target, addr, length, data)
