# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets about the connection itself, attaching and leaving.

``k`` ends the selected inferior only, as ``vKill`` does: a machine of several
partitions, some of them somebody's only copy of a bug, is not taken down by
one client's ``kill``.
"""

from stub.dispatch import packet
from stub.outcomes import Close
from stub.session import Session

# Features both sides must know: claimed only in answer to the client's claim.
_MUTUAL = {"multiprocess", "swbreak", "hwbreak", "exec-events", "error-message"}


@packet("qSupported[:{words:raw}]", features=["error-message+"])
def supported(session: Session, words: bytes | None) -> bytes:
    """Learn what the client can do and tell what is implemented."""
    announced = (words or b"").decode("ascii", "replace").split(";")
    session.features = frozenset(w[:-1] for w in announced if w.endswith("+"))
    offers = [
        word
        for word in session.offers
        if word[:-1] not in _MUTUAL or session.has(word[:-1])
    ]
    return ";".join((f"PacketSize={session.max_packet:x}", *offers)).encode()


@packet("QStartNoAckMode", features=["QStartNoAckMode+"])
def start_no_ack_mode(session: Session) -> bytes:
    """Stop acknowledging packets, this one's reply being the last."""
    session.no_ack = True
    return b"OK"


@packet("vMustReplyEmpty")
def must_reply_empty(session: Session) -> bytes:
    """Answer as if the packet were unknown; a stub is tested with it."""
    return b""


@packet("!")
def extended(session: Session) -> bytes:
    """Enter extended mode: the connection outlives its inferiors, always so here."""
    return b"OK"


@packet("?", features=["exec-events+"])
def why_stopped(session: Session) -> bytes:
    """Tell why the machine is stopped."""
    return session.stop_reply()


@packet("qAttached[:{pid:x}]")
def attached(session: Session, pid: int | None) -> bytes:
    """Say that inferiors were not made for the client, so it detaches on quit."""
    return b"1"


@packet("vAttach;{pid:x}")
def attach(session: Session, pid: int) -> bytes:
    """Take an inferior (back) that was left."""
    return session.attach(pid)


@packet("D[;{pid:x}]")
def detach(session: Session, pid: int | None) -> bytes:
    """Leave one inferior or, without a pid, all: they run on."""
    if pid is None:
        session.leave()
    else:
        session.detach(pid)
    return b"OK"


@packet("vKill;{pid:x}")
def kill(session: Session, pid: int) -> bytes:
    """End one partition."""
    session.kill(pid)
    return b"OK"


@packet("k")
def kill_selected(session: Session) -> Close:
    """End the selected partition and hang up, as gdb does after its last."""
    pid = session.inferior.pid
    session.kill(pid)
    return Close(b"X09")
