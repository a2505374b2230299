# SPDX-License-Identifier: GPL-2.0-or-later
"""``qRcmd``: gdb's ``monitor`` command."""

from stub.dispatch import packet
from stub.outcomes import Work
from stub.session import Session
from stub.target import SupportsMonitor

_CHUNK = 1 << 14  # characters in one packet of console output


@packet("qRcmd,{line:hex}")
def monitor(session: Session, target: SupportsMonitor, line: bytes) -> Work:
    """Run one command about the selected inferior and return its text.

    It may be the last reply or console output before that.  lldb shows the latter only;
    gdb shows both, but lets scripts have the former only.
    """
    pid, typed = session.inferior.pid, line.decode("utf-8", "replace")

    def do(_: Work) -> tuple[bytes, ...]:
        text = target.monitor(pid, typed, read_only=session.read_only)
        if not session.has("vContSupported"):  # every gdb since 7.10 has said so
            pieces = (text[at : at + _CHUNK] for at in range(0, len(text), _CHUNK))
            return (*(b"O" + _hex(piece) for piece in pieces), b"OK")
        return (_hex(text) or b"OK",)

    return Work(do)


def _hex(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace").hex().encode()
