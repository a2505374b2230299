# SPDX-License-Identifier: GPL-2.0-or-later
"""One client's events in order: acknowledged, answered, runs started and reported.

It sits between the framing and whatever carries the bytes: it is told of data
and of the ends of runs, and does the rest through a ``Wire``.  Nothing waits.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Protocol

from stub.backlog import Backlog
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
from stub.outcomes import Close, Outcome, Resume, Silence, Work
from stub.session import Session
from stub.stops import Signal, Stopped, StopReason
from stub.target import Action

LOG = logging.getLogger(__name__)
WIRE = logging.getLogger("stub.wire")

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

    def work(self, work: Work) -> None:
        """Do ``work`` beside the loop, then call ``Conversation.worked``."""

    def interrupt(self) -> None:
        """Stop the run being watched."""


class _Phase(Enum):
    """What packets wait for."""

    WAITING = "a seat: another client may hold the machine"
    TALKING = "nothing: each is answered as it comes"
    RUNNING = "the end of a run"
    WORKING = "the end of a long answer"
    OVER = "nothing will be answered any more"


_BUSY = (_Phase.RUNNING, _Phase.WORKING, _Phase.OVER)


class Conversation:
    """State of one connection above the framing.

    Args:
        wire: Where replies go.
        session: The client's view of the machine.
    """

    def __init__(self, wire: Wire, session: Session) -> None:
        self.session = session
        self._wire = wire
        self._answer: Answer = lambda _: b""
        self._phase = _Phase.WAITING
        self._decoder = Decoder()
        self._backlog = Backlog()
        self._actions: Sequence[Action] = ()
        self._work: Work | None = None
        self._interrupted = False
        self._congested = False
        self._last = b""
        self._logged = WIRE.isEnabledFor(logging.DEBUG)

    @property
    def asks(self) -> bool:
        """Whether a whole packet has come and waits for a seat."""
        return self._phase is _Phase.WAITING and self._backlog.asks

    @property
    def running(self) -> bool:
        """Whether a run has been started and not been reported yet."""
        return self._phase is _Phase.RUNNING

    def begin(self, answer: Answer) -> None:
        """Answer packets from now on, those that came before included."""
        self._answer, self._phase = answer, _Phase.TALKING
        self._pump()

    def feed(self, data: bytes) -> None:
        """Take in bytes; answer what they complete."""
        if self._phase is _Phase.OVER:
            return
        self._backlog.add(self._decoder.feed(data))
        self._pump()
        if self._backlog.full:
            LOG.warning("client sends without waiting for replies: hanging up")
            self._wire.abort()

    def congested(self, congested: bool) -> None:
        """Take no more requests until the client has read its replies."""
        self._congested = congested
        self._pump()

    def lost(self) -> None:
        """Forget a client that is gone."""
        self._phase = _Phase.OVER
        self._backlog.clear()
        if self._work is not None:
            self._work.stopped = True

    def ran(self, result: Callable[[], StopReason]) -> None:
        """Report how a run ended; ``result`` returns it or raises."""
        actions = self._actions
        self._finish(_Phase.RUNNING, lambda: self._report(result(), actions))

    def worked(self, result: Callable[[], Sequence[bytes]]) -> None:
        """Give the replies that work has made; ``result`` returns them or raises."""
        self._work = None

        def reply() -> None:
            for payload in result():
                self._reply(payload)

        self._finish(_Phase.WORKING, reply)

    def _finish(self, phase: _Phase, reply: Callable[[], object]) -> None:
        """Reply to what was waited for, if there still is somebody."""
        if self._phase is not phase:
            return
        self._phase = _Phase.TALKING
        try:
            reply()
        except StubError as error:
            self._reply(self._error(error))
        except Exception:
            LOG.exception("it failed while %s: hanging up", phase.name.lower())
            self._wire.abort()
        self._pump()

    def _pump(self) -> None:
        """Answer what has arrived, as far as it can be answered now."""
        try:
            while self._backlog and not self._held_up():
                self._take(self._backlog.take())
        except Exception:
            LOG.exception("a bug: closing the connection")
            self.lost()
            self._wire.abort()
        # It overtakes what is queued behind a run, for it is what ends it.
        if (
            self._phase in (_Phase.RUNNING, _Phase.WORKING)
            and self._backlog.pull_interrupt()
        ):
            self._log("<-- %r", Control.INTERRUPT)
            self._interrupt()

    def _held_up(self) -> bool:
        waits = self._phase is _Phase.WAITING and self._backlog.asks
        return waits or self._congested or self._phase in _BUSY

    def _interrupt(self) -> None:
        """Stop what is being done; the next run, if that stops for another reason.

        A client that has sent it is owed a SIGINT, however short its runs are: with
        gdbserver the signal stays pending, too.  Who has not stopped the machine yet,
        by a first packet about it, is about to.
        """
        if self._phase is _Phase.WORKING and self._work is not None:
            self._work.stopped = True
            return
        self._interrupted = self.session.holds
        if self.running:
            self._wire.interrupt()

    def _take(self, event: Event) -> None:
        self._log("<-- %r", event)
        ack = b"" if self.session.no_ack else b"+"
        match event:
            case Packet(payload):
                self._do(self._answer(payload), ack)
            case Malformed(why):
                self._reply(self._error(ProtocolError(why)), ack)
            case BadChecksum() if ack:
                self._wire.write(b"-")
            case BadChecksum():
                self._reply(self._error(ProtocolError("wrong checksum")))
            case Control.NAK if ack and self._last:
                self._wire.write(self._last)
            case Control.INTERRUPT:
                self._interrupt()
            case Garbage(length):
                LOG.info("%d bytes outside of packets", length)

    def _do(self, outcome: Outcome, ack: bytes) -> None:
        if isinstance(outcome, bytes):
            self._reply(outcome, ack)
            self._interrupted &= self.session.holds  # who has left is owed nothing
            return
        if ack:
            self._wire.write(ack)
        match outcome:
            case Resume(actions):
                self._resume(actions)
            case Work():
                self._work, self._phase = outcome, _Phase.WORKING
                self._wire.work(outcome)
            case Close(reply):
                if reply is not None:
                    self._reply(reply)
                self.lost()
                self._wire.close()
            case Silence():
                pass

    def _resume(self, actions: Sequence[Action]) -> None:
        try:
            result = self._start(actions)
        except StubError as error:
            self._reply(self._error(error))
            return
        if isinstance(result, Awaitable):
            self._await(result, actions)
        else:
            self._report(result, actions)

    def _start(self, actions: Sequence[Action]) -> StopReason | Awaitable[StopReason]:
        if self._interrupted:
            return self.session.interrupted(actions[0].thread)
        return self.session.machine.resume(actions)

    def _await(self, run: Awaitable[StopReason], actions: Sequence[Action]) -> None:
        self._actions, self._phase = actions, _Phase.RUNNING
        self._wire.watch(run)

    def _report(self, reason: StopReason, actions: Sequence[Action]) -> None:
        if isinstance(reason, Stopped) and reason.signal == Signal.INT:
            self._interrupted = False
            if not self.session.concerns(reason):  # but who sent it waits for it
                reason = self.session.interrupted(actions[0].thread)
        if self.session.concerns(reason):
            self._reply(self.session.stopped(reason))
        else:
            self._await(self._again(actions), actions)

    async def _again(self, actions: Sequence[Action]) -> StopReason:
        """Go on after what does not concern the client.

        By way of the loop, which so has its turn however often that happens.
        """
        result = self._start(actions)
        return await result if isinstance(result, Awaitable) else result

    def _reply(self, payload: bytes, ack: bytes = b"") -> None:
        self._log("--> %r", payload)
        self._last = encode(payload)
        self._wire.write(ack + self._last if ack else self._last)

    def _error(self, error: StubError) -> bytes:
        return error_reply(error, text=self.session.has("error-message"))

    def _log(self, form: str, what: object) -> None:
        if self._logged:
            WIRE.debug(form, what)
