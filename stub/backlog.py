# SPDX-License-Identifier: GPL-2.0-or-later
"""What a client has sent and what cannot be answered yet, bounded in bytes.

A client may send ahead, and ``0x03`` must be found behind whatever waits for a run,
so that reading cannot simply stop.  What piles up is counted as it is kept: a few
bytes of run-length encoding may have become a packet of the largest size.
"""

from collections import deque
from collections.abc import Iterable

from stub.framing import Control, Event, Packet

MAX_BACKLOG = 1 << 20
"""Bytes a client may send ahead of its replies before it is hung up on."""

_OVERHEAD = 64  # bytes an event costs besides its payload, about


class Backlog:
    """Events in order."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._size = 0
        self._interrupts = 0

    def add(self, events: Iterable[Event]) -> None:
        """Put ``events`` behind the others."""
        for event in events:
            self._events.append(event)
            self._count(event, 1)

    def take(self) -> Event:
        """Take out the first."""
        event = self._events.popleft()
        self._count(event, -1)
        return event

    def pull_interrupt(self) -> bool:
        """Take out the first interrupt, past what is before it, if there is one."""
        if not self._interrupts:  # known without a look at thousands of packets
            return False
        self._events.remove(Control.INTERRUPT)
        self._count(Control.INTERRUPT, -1)
        return True

    def clear(self) -> None:
        """Forget everything."""
        self._events.clear()
        self._size = self._interrupts = 0

    @property
    def asks(self) -> bool:
        """Whether the first is a whole packet."""
        return bool(self._events) and isinstance(self._events[0], Packet)

    @property
    def full(self) -> bool:
        """Whether a client has sent more than it may."""
        return self._size > MAX_BACKLOG

    def __bool__(self) -> bool:
        return bool(self._events)

    def _count(self, event: Event, sign: int) -> None:
        payload = len(event.payload) if isinstance(event, Packet) else 0
        self._size += sign * (_OVERHEAD + payload)
        self._interrupts += sign * (event is Control.INTERRUPT)
