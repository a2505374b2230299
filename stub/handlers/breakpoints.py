# SPDX-License-Identifier: GPL-2.0-or-later
"""``Z`` and ``z``: breakpoints and watchpoints of the selected inferior."""

from stub.dispatch import packet
from stub.errors import Errno, TargetError
from stub.handlers.memory import ADDRESS_SPACE
from stub.session import Session
from stub.target import BreakpointKind, SupportsBreakpoints

_KINDS = frozenset(BreakpointKind)


@packet("Z{kind:x},{addr:x},{length:x}", features=["swbreak+", "hwbreak+"])
def insert(
    session: Session, target: SupportsBreakpoints, kind: int, addr: int, length: int
) -> bytes:
    """Insert one; inserting it twice is inserting it once."""
    if kind not in _KINDS:
        return b""
    if addr + length > ADDRESS_SPACE:
        raise TargetError(Errno.EFAULT, f"{addr:#x} + {length:#x} wraps round")
    target.insert_breakpoint(BreakpointKind(kind), addr, length)
    return b"OK"


@packet("z{kind:x},{addr:x},{length:x}")
def remove(
    session: Session, target: SupportsBreakpoints, kind: int, addr: int, length: int
) -> bytes:
    """Remove one; removing what is not there is no error."""
    if kind not in _KINDS:
        return b""
    target.remove_breakpoint(BreakpointKind(kind), addr, length)
    return b"OK"
