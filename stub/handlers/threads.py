# SPDX-License-Identifier: GPL-2.0-or-later
"""Thread packets: ``H``, ``T``, ``qC`` and the lists (gdb manual, "General Query")."""

from stub.dispatch import packet
from stub.ids import ALL, ANY, ThreadId
from stub.session import Session


def threads(session: Session) -> list[ThreadId]:
    """Return every thread the client can name."""
    return [
        ThreadId(inferior.pid, thread.tid)
        for inferior in session.inferiors
        for thread in inferior.threads()
    ]


def known(session: Session, wanted: ThreadId) -> ThreadId:
    """Check that what ``wanted`` names exists; settle ``ANY`` and a missing pid."""
    if wanted.pid == ALL or wanted == ThreadId(ANY, ANY):
        return wanted
    found = session.thread(wanted)
    return ThreadId(found.pid, ALL) if wanted.tid == ALL else found


@packet("H{purpose:letter}{thread:thread}", features=["multiprocess+"])
def select(session: Session, purpose: str, thread: ThreadId) -> bytes:
    """Select the thread for ``g``, ``m`` and others (Hg), or for ``c``, ``s`` (Hc)."""
    if purpose == "g":
        session.general = session.thread(thread)
    elif purpose == "c":
        session.resuming = known(session, thread)
    else:
        return b""
    return b"OK"


@packet("T{thread:thread}")
def is_alive(session: Session, thread: ThreadId) -> bytes:
    """Tell whether a thread exists."""
    session.thread(thread)
    return b"OK"


@packet("qC")
def current(session: Session) -> bytes:
    """Name the selected thread."""
    return b"QC" + session.show(session.thread(session.general)).encode()


@packet("qfThreadInfo")
def first_threads(session: Session) -> bytes:
    """List all threads."""
    names = ",".join(map(session.show, threads(session)))
    return f"m{names}".encode() if names else b"l"


@packet("qsThreadInfo")
def more_threads(session: Session) -> bytes:
    """End the list."""
    return b"l"


@packet("qThreadExtraInfo,{thread:thread}")
def extra_info(session: Session, thread: ThreadId) -> bytes:
    """Describe one thread in words."""
    found = session.thread(thread)
    for row in session.find(found.pid).threads():
        if row.tid == found.tid:
            return (row.extra or row.name).encode("utf-8", "replace").hex().encode()
    return b""
