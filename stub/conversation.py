# SPDX-License-Identifier: GPL-2.0-or-later
"""One client's events in order: acknowledged, answered, runs started and reported.

It sits between the framing and whatever carries the bytes: it is told of data
and of the ends of runs, and does the rest through a ``Wire``.  Nothing waits.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from stub.errors import ProtocolError, StubError, error_reply
from stub.framing import (
    BadChecksum,
    Control,
    Decoder,
    Event,
    Garbage,
    Malformed,
    Packet,
    encode,
)
from stub.outcomes import Close, Outcome, Resume
from stub.session import Session
from stub.stops import Exited, Killed, Stopped, StopReason
from stub.target import Action

LOG = logging.getLogger(__name__)
WIRE = logging.getLogger("stub.wire")

MAX_QUEUED = 4096
"""Events a client may send ahead of its replies before it is hung up on."""

Answer = Callable[[bytes], Outcome]


class Wire(Protocol):
    """What carries the bytes and waits for runs."""

    def write(self, data: bytes) -> None:
        """Send; never blocks."""

    def close(self) -> None:
        """Hang up when all is sent."""

    def abort(self) -> None:
        """Hang up at once."""

    def watch(self, run: Awaitable[StopReason]) -> None:
        """Call ``Conversation.ran`` when ``run`` has ended."""

    def interrupt(self) -> None:
        """Stop the run being watched."""


class Conversation:
    """State of one connection above the framing.

    Args:
        wire: Where replies go.
        session: The client's view of the machine.
    """

    def __init__(self, wire: Wire, session: Session) -> None:
        self.session = session
        self._wire = wire
        self._answer: Answer | None = None
        self._decoder = Decoder()
        self._queue: deque[Event] = deque()
        self._actions: Sequence[Action] | None = None
        self._congested = False
        self._last = b""
        self._logged = WIRE.isEnabledFor(logging.DEBUG)

    @property
    def running(self) -> bool:
        """Whether a run has been started and not been reported yet."""
        return self._actions is not None

    def begin(self, answer: Answer) -> None:
        """Answer packets from now on, those that came before included."""
        self._answer = answer
        self._pump()

    def feed(self, data: bytes) -> None:
        """Take in bytes; answer what they complete."""
        self._queue += self._decoder.feed(data)
        self._pump()
        if len(self._queue) > MAX_QUEUED:
            LOG.warning("client sends without waiting for replies: hanging up")
            self._wire.abort()

    def congested(self, congested: bool) -> None:
        """Take no more requests until the client has read its replies."""
        self._congested = congested
        self._pump()

    def lost(self) -> None:
        """Forget a client that is gone."""
        self._queue.clear()
        self._answer = None

    def ran(self, result: Callable[[], StopReason]) -> None:
        """Report how a run ended; ``result`` returns it or raises."""
        actions, self._actions = self._actions or (), None
        if self._answer is None:
            return
        try:
            self._report(result(), actions)
        except StubError as error:
            self._reply(self._error(error))
        except Exception:
            LOG.exception("the run failed: closing the connection")
            self._wire.abort()
        self._pump()

    def _pump(self) -> None:
        """Answer what has arrived, as far as it can be answered now."""
        try:
            while self._queue and self._answer and not self._held_up():
                self._take(self._queue.popleft(), self._answer)
        except Exception:
            LOG.exception("a bug: closing the connection")
            self._answer = None
            self._wire.abort()
        if self._queue and self.running and Control.INTERRUPT in self._queue:
            # It overtakes what is queued behind a run, for it is what ends it.
            self._queue.remove(Control.INTERRUPT)
            self._log("<-- %r", Control.INTERRUPT)
            self._wire.interrupt()

    def _held_up(self) -> bool:
        return self._congested or self._actions is not None

    def _take(self, event: Event, answer: Answer) -> None:
        self._log("<-- %r", event)
        ack = b"" if self.session.no_ack else b"+"
        match event:
            case Packet(payload):
                self._do(answer(payload), ack)
            case Malformed(why):
                self._reply(self._error(ProtocolError(why)), ack)
            case BadChecksum() if ack:
                self._wire.write(b"-")
            case BadChecksum():
                self._reply(self._error(ProtocolError("wrong checksum")))
            case Control.NAK if ack and self._last:
                self._wire.write(self._last)
            case Garbage(length):
                LOG.info("%d bytes outside of packets", length)

    def _do(self, outcome: Outcome, ack: bytes) -> None:
        match outcome:
            case bytes():
                self._reply(outcome, ack)
            case Resume(actions):
                if ack:
                    self._wire.write(ack)
                self._resume(actions)
            case Close(reply):
                self._reply(reply, ack)
                self.lost()
                self._wire.close()

    def _resume(self, actions: Sequence[Action]) -> None:
        try:
            result = self.session.machine.resume(actions)
        except StubError as error:
            self._reply(self._error(error))
            return
        if isinstance(result, Stopped | Exited | Killed):
            self._report(result, actions)
        else:
            self._actions = actions
            self._wire.watch(result)

    def _report(self, reason: StopReason, actions: Sequence[Action]) -> None:
        if self.session.concerns(reason):
            self._reply(self.session.stopped(reason))
        else:
            self._resume(actions)

    def _reply(self, payload: bytes, ack: bytes = b"") -> None:
        self._log("--> %r", payload)
        self._last = encode(payload)
        self._wire.write(ack + self._last if ack else self._last)

    def _error(self, error: StubError) -> bytes:
        return error_reply(error, text=self.session.has("error-message"))

    def _log(self, form: str, what: object) -> None:
        if self._logged:
            WIRE.debug(form, what)
