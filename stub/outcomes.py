# SPDX-License-Identifier: GPL-2.0-or-later
"""What a handler can answer besides the bytes of a reply.

A handler never waits, never writes and is done in a moment: it returns what is to
happen, and the driver, which goes on reading, does it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from stub.errors import Errno, TargetError
from stub.target import Action


@dataclass(frozen=True, slots=True)
class Resume:
    """Let threads run; the reply is the stop that ends it."""

    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Close:
    """Hang up, having sent ``reply`` unless it is None."""

    reply: bytes | None = None


@dataclass(frozen=True, slots=True)
class Silence:
    """Acknowledge a packet that the manual gives no reply."""


@dataclass(slots=True, eq=False)
class Work:
    """What takes longer than others may wait: done beside the driver's loop.

    Attributes:
        do: Makes the replies; it calls ``check`` every few milliseconds, if it can.
        stopped: Set, by the driver's thread, when nobody wants them any more.
    """

    do: Callable[["Work"], tuple[bytes, ...]]
    stopped: bool = False

    def check(self) -> None:
        """Raise TargetError if it is to end."""
        if self.stopped:
            raise TargetError(Errno.EINTR, "interrupted")


Outcome = bytes | Resume | Close | Silence | Work
