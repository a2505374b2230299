# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets about the connection itself, attaching and leaving.

A partition may be somebody's only copy of a bug: only ``vKill``, which names it, ends
one.  ``k`` names none, and is what lldb says when its user just quits.
"""

from stub.dispatch import packet
from stub.outcomes import Close, Silence
from stub.session import Session
from stub.target import SupportsStart

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


@packet("vKill;{pid:x}", changes=True)
def kill(session: Session, pid: int) -> bytes:
    """End one partition."""
    session.kill(pid)
    return b"OK"


@packet("k")
def leave(session: Session) -> Close:
    """Hang up; the machine runs on.  No reply: the manual has none."""
    session.leave()
    return Close()


@packet("vRun;{name:hex}[;{arguments:raw}]", changes=True)
def run(
    session: Session, target: SupportsStart, name: bytes, arguments: bytes | None
) -> bytes:
    """Switch a partition on again; a kernel's arguments are in the machine's file."""
    pid = session.to_start(name.decode(errors="replace"))
    return session.started(target.start(pid))


@packet("R{ignored:raw}")
def restart(session: Session, ignored: bytes) -> Silence:
    """Ignore the older form of ``run``, to which a reply would be one too many."""
    return Silence()


@packet("QThreadSuffixSupported")
def lldb(session: Session) -> bytes:
    """Recognize lldb, which asks for this extension of its own first; it is not there.

    It announces multiprocess for the sake of fork, takes the first process of the list
    for the only one, and gives up when another stops.
    """
    session.follows_one = True
    return b""
