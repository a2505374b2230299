# SPDX-License-Identifier: GPL-2.0-or-later
"""``qRcmd``: gdb's ``monitor`` command."""

from stub.dispatch import packet
from stub.session import Session
from stub.target import SupportsMonitor


@packet("qRcmd,{line:hex}")
def monitor(session: Session, target: SupportsMonitor, line: bytes) -> bytes:
    """Run one command about the selected inferior and return its text."""
    text = target.monitor(session.inferior.pid, line.decode("utf-8", "replace"))
    return text.encode().hex().encode() or b"OK"
