# SPDX-License-Identifier: GPL-2.0-or-later
"""``Z`` and ``z``: breakpoints and watchpoints of the selected inferior."""

from stub import amd64
from stub.dispatch import packet
from stub.errors import Errno, ProtocolError, TargetError
from stub.session import Session
from stub.target import BreakpointKind, SupportsBreakpoints

_KINDS = frozenset(BreakpointKind)
_CODE = frozenset((BreakpointKind.SOFTWARE, BreakpointKind.HARDWARE))
_WATCHED_MAX = 1 << 20  # bytes: each page of them is looked up


def _check(kind: int, addr: int, length: int) -> None:
    """Raise for what no breakpoint can be about; a breakpoint's "kind" is no length."""
    if not length:
        raise ProtocolError("a breakpoint of length 0")
    last = addr if kind in _CODE else addr + length - 1
    if not amd64.same_half(addr, last):
        what = f"{addr:#x} to {last:#x}" if last != addr else f"{addr:#x}"
        raise TargetError(Errno.EFAULT, f"{what} is not canonical: nothing is there")
    if last - addr >= _WATCHED_MAX:
        raise TargetError(
            Errno.ENOSPC, f"{length:#x} bytes to watch are more than {_WATCHED_MAX:#x}"
        )


@packet(
    "Z{kind:x},{addr:x},{length:x}", features=["swbreak+", "hwbreak+"], changes=True
)
def insert(
    session: Session, target: SupportsBreakpoints, kind: int, addr: int, length: int
) -> bytes:
    """Insert one; inserting it twice is inserting it once."""
    if kind not in _KINDS:
        return b""
    _check(kind, addr, length)
    target.insert_breakpoint(BreakpointKind(kind), addr, length)
    return b"OK"


@packet("z{kind:x},{addr:x},{length:x}", changes=True)
def remove(
    session: Session, target: SupportsBreakpoints, kind: int, addr: int, length: int
) -> bytes:
    """Remove one; removing what is not there is no error."""
    if kind not in _KINDS:
        return b""
    target.remove_breakpoint(BreakpointKind(kind), addr, length)
    return b"OK"
