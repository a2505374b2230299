# SPDX-License-Identifier: GPL-2.0-or-later
"""Thread ids of the multiprocess extension: ``pPID.TID`` (gdb manual, "Packets").

Pids and tids are positive; ``ALL`` and ``ANY`` stand for every one and for
whichever the server likes.  A client without the extension writes the tid only.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from stub.errors import ProtocolError

ALL = -1
ANY = 0

_SYNTAX = re.compile(
    rb"(?:p(?P<pid>-1|[0-9a-fA-F]{1,8})(?:\.(?P<tid>-1|[0-9a-fA-F]{1,8}))?"
    rb"|(?P<plain>-1|[0-9a-fA-F]{1,8}))"
)


@dataclass(frozen=True, slots=True)
class ThreadId:
    """One thread, or with ``ALL`` and ``ANY`` a set of them to choose from."""

    pid: int
    tid: int = ALL

    @classmethod
    @lru_cache(64)
    def parse(cls, text: bytes) -> "ThreadId":
        """Read ``pP.T``, ``pP`` (all threads of P) or ``T`` (pid ``ANY``)."""
        match = _SYNTAX.fullmatch(text)
        if match is None:
            raise ProtocolError(f"{text!r} is not a thread id")
        if match["plain"] is not None:
            return cls(ANY, int(match["plain"], 16))
        pid, tid = int(match["pid"], 16), int(match["tid"] or b"-1", 16)
        if pid == ALL and tid != ALL:
            raise ProtocolError(f"{text!r} names one thread of every process")
        return cls(pid, tid)

    def matches(self, other: "ThreadId") -> bool:
        """Whether the concrete thread ``other`` is one of those meant."""
        return self.pid in (ALL, ANY, other.pid) and self.tid in (ALL, ANY, other.tid)

    def plain(self) -> str:
        """Return the form for a client that knows one process only."""
        return _number(self.tid)

    def __str__(self) -> str:
        """Return the multiprocess form."""
        return f"p{_number(self.pid)}.{_number(self.tid)}"


def _number(value: int) -> str:
    return "-1" if value == ALL else f"{value:x}"
