# SPDX-License-Identifier: GPL-2.0-or-later
"""One client's transport: bytes to its conversation, and what that has done.

Callbacks rather than streams, for latency: a reply leaves in the same turn of
the loop that brought its packet.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from threading import Thread
from typing import Any, Protocol, TypeVar, cast

from stub.conversation import Conversation
from stub.eager import EagerLoop
from stub.outcomes import Work
from stub.pipes import Receiver, Transport
from stub.session import Session
from stub.stops import StopReason

LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

_SPOKEN = b"+-$\x03"
"""What a debugger's first byte can be.

A browser's is the first letter of an HTTP method: whatever a web page sends to a port
of its visitor's computer, packets in its body included, ends there.
"""

_WRITE_BUFFER = 1 << 20
_LINGER = 2.0  # seconds for a client to hang up after the last reply


class Host(Protocol):
    """Who decides which connection is served."""

    def welcome(self, connection: "Connection") -> None:
        """Take note of a new connection."""

    def admit(self, connection: "Connection") -> None:
        """Serve one that has sent a whole packet, let it wait, or turn it away."""

    def release(self, connection: "Connection") -> None:
        """Take note that one is gone, with all that it had begun."""

    def interrupt(self) -> None:
        """Stop the machine's run."""


class Connection(Receiver):
    """One client, from its first byte to the end of the last thing it has begun.

    Args:
        host: Who decides whether it is served.
        session: Its view of the machine.

    Attributes:
        asked: Whether a whole packet has come.
        lost: Whether the client is gone.
    """

    _transport: Transport

    def __init__(self, host: Host, session: Session) -> None:
        self._host = host
        self._begun: asyncio.Future[Any] | None = None
        self.conversation = Conversation(self, session)
        self._timers: list[asyncio.TimerHandle] = []
        self._spoke = False
        self.asked = False
        self.lost = False
        loop = asyncio.get_running_loop()
        self._eager = loop if isinstance(loop, EagerLoop) else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set up the socket."""
        transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        transport.set_write_buffer_limits(_WRITE_BUFFER)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            with suppress(OSError):  # it has been reset already
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.join(transport)

    def join(self, transport: Transport) -> None:
        """Write to ``transport``."""
        self._transport = transport
        self._host.welcome(self)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on; with the first whole packet, ask to be served.

        Not before: who says nothing, or half of something, keeps nobody out, and the
        loop may learn of this client before it learns that the last one has gone.
        """
        if not self._spoke:
            self._spoke = True
            if data[0] not in _SPOKEN:
                LOG.warning("hanging up on a client that is no debugger: %r", data[:40])
                self.abort()
        if self.lost:
            return
        self.conversation.feed(data)
        if self.conversation.asks and not self.asked:
            self.asked = True
            self._host.admit(self)
        if self._eager is not None:
            self._eager.stay_awake()

    def pause_writing(self) -> None:
        """Stop reading requests while replies pile up."""
        self._transport.pause_reading()
        self.conversation.congested(True)

    def resume_writing(self) -> None:
        """Go on where ``pause_writing`` stopped."""
        self._transport.resume_reading()
        self.conversation.congested(False)

    def connection_lost(self, exc: Exception | None) -> None:
        """End what was begun, then the session."""
        self.lost = True
        for timer in self._timers:
            timer.cancel()
        self.conversation.lost()
        if self._begun is None:
            self._host.release(self)
        else:
            self.interrupt()

    def write(self, data: bytes) -> None:
        """Send, unless the client is known to be gone: asyncio would complain."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Hang up when all is sent.

        The client does it: closing with an acknowledgement of his unread would
        reset the connection, and the reply, which tells why, might be lost.
        """
        with suppress(OSError):  # the client was first
            self._transport.write_eof()
        self._later(_LINGER, self._transport.abort)

    def abort(self) -> None:
        """Hang up at once."""
        self._transport.abort()

    def expect(self, patience: float) -> None:
        """Hang up unless a whole packet comes within ``patience`` seconds."""
        self._later(patience, lambda: None if self.asked else self.abort())

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(seconds, do))

    def watch(self, run: Awaitable[StopReason]) -> None:
        """Report to the conversation when ``run`` has ended."""
        self._begin(asyncio.ensure_future(run), self.conversation.ran)

    def work(self, work: Work) -> None:
        """Do ``work`` in a thread, for which nobody waits at the end of the process."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Sequence[bytes]] = loop.create_future()

        def do() -> None:
            try:
                replies, error = work.do(work), None
            except Exception as caught:
                replies, error = (), caught
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(_settle, done, replies, error)

        Thread(target=do, name="long answer", daemon=True).start()
        self._begin(done, self.conversation.worked)

    def interrupt(self) -> None:
        """Stop the run.

        A coroutine just handed over has not begun: let it, or ^C is lost.
        """
        asyncio.get_running_loop().call_soon(self._host.interrupt)

    def _begin(
        self, future: "asyncio.Future[_T]", report: Callable[[Callable[[], _T]], None]
    ) -> None:
        self._begun = future
        future.add_done_callback(lambda done: self._ended(done, report))

    def _ended(
        self, future: "asyncio.Future[_T]", report: Callable[[Callable[[], _T]], None]
    ) -> None:
        self._begun = None
        if not future.cancelled():
            future.exception()  # mark it as seen: what a lost client began may fail
            report(future.result)
        if self.lost and self._begun is None:
            self._host.release(self)


def _settle(
    future: "asyncio.Future[Sequence[bytes]]",
    replies: Sequence[bytes],
    error: Exception | None,
) -> None:
    """Give a future its result, in the loop's thread."""
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(replies)
