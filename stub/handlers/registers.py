# SPDX-License-Identifier: GPL-2.0-or-later
"""Register packets: ``g``, ``G``, ``p``, ``P`` (gdb manual, "Packets").

Bytes pass through as they are: their meaning is the target description's.
"""

from stub import amd64
from stub.dispatch import packet
from stub.errors import ProtocolError
from stub.session import Session
from stub.target import Inferior


@packet("g")
def read_registers(session: Session, target: Inferior) -> bytes:
    """Read those registers of the selected thread that gdb's own description has.

    An inferior for which gdb did not read ours rejects a longer reply.
    """
    registers = target.read_registers(session.general.tid)
    return registers[: amd64.GENERAL_SIZE].hex().encode()


@packet("G{data:hex}", changes=True)
def write_registers(session: Session, target: Inferior, data: bytes) -> bytes:
    """Write those that ``g`` has: all or, if one cannot be set, none."""
    if len(data) != amd64.GENERAL_SIZE:
        raise ProtocolError(f"{len(data)} bytes of registers, not {amd64.GENERAL_SIZE}")
    target.write_registers(session.general.tid, data)
    return b"OK"


@packet("p{number:x}")
def read_register(session: Session, target: Inferior, number: int) -> bytes:
    """Read one register.

    A number we do not have comes from gdb's own description, in an inferior
    for which it has not read ours: unavailable, for an error would end gdb's
    whole ``info registers``.
    """
    if number >= len(amd64.REGISTERS):
        return b"xxxxxxxx"
    return target.read_register(session.general.tid, number).hex().encode()


@packet("P{number:x}={data:hex}", changes=True)
def write_register(
    session: Session, target: Inferior, number: int, data: bytes
) -> bytes:
    """Write one register."""
    target.write_register(session.general.tid, number, data)
    return b"OK"
