# SPDX-License-Identifier: GPL-2.0-or-later
"""Acks, order, runs: everything above framing that needs no socket."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from stub.conversation import MAX_QUEUED, Conversation
from stub.errors import Errno, TargetError
from stub.framing import encode
from stub.handlers import PACKETS
from stub.ids import ThreadId
from stub.stops import Exited, Signal, Stopped, StopReason
from tests.fakes import MonitoredMachine


class Wire:
    """A wire that keeps what was sent, and runs that end when the test says."""

    def __init__(self) -> None:
        self.sent = b""
        self.events: list[str] = []

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.events.append("close")

    def abort(self) -> None:
        self.events.append("abort")

    def watch(self, run: Awaitable[StopReason]) -> None:
        assert asyncio.iscoroutine(run)
        run.close()
        self.events.append("run")

    def interrupt(self) -> None:
        self.events.append("interrupt")

    def take(self) -> bytes:
        sent, self.sent = self.sent, b""
        return sent


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def talk(wire: Wire, machine: MonitoredMachine) -> Conversation:
    conversation = Conversation(wire, PACKETS.session(machine))
    conversation.begin(lambda p: PACKETS.dispatch(conversation.session, p))
    return conversation


@pytest.fixture
def quiet(talk: Conversation, wire: Wire) -> Conversation:
    """Give one past QStartNoAckMode, of a client that knows processes."""
    talk.feed(encode(b"qSupported:multiprocess+") + encode(b"QStartNoAckMode") + b"+")
    wire.take()
    return talk


def stopped(pid: int = 1, signal: int = Signal.TRAP) -> Callable[[], StopReason]:
    return lambda: Stopped(ThreadId(pid, 1), signal)


def test_every_packet_is_acknowledged_until_told_not_to(
    talk: Conversation, wire: Wire
) -> None:
    talk.feed(b"+" + encode(b"!"))
    assert wire.take() == b"+" + encode(b"OK")
    talk.feed(encode(b"QStartNoAckMode"))
    assert wire.take() == b"+" + encode(b"OK")
    talk.feed(b"+" + encode(b"!"))
    assert wire.take() == encode(b"OK")


def test_a_wrong_checksum_is_asked_for_again(talk: Conversation, wire: Wire) -> None:
    talk.feed(b"$!#00")
    assert wire.take() == b"-"


def test_without_acks_it_gets_an_error(quiet: Conversation, wire: Wire) -> None:
    quiet.feed(b"$!#00")
    assert wire.take() == encode(b"E22")


def test_a_reply_is_repeated_when_it_did_not_arrive(
    talk: Conversation, wire: Wire
) -> None:
    talk.feed(b"-")
    assert wire.take() == b""
    talk.feed(encode(b"!") + b"-")
    assert wire.take() == b"+" + encode(b"OK") * 2


def test_an_oversized_packet_gets_one_error(quiet: Conversation, wire: Wire) -> None:
    quiet.feed(encode(b"m" * 0x20001) + encode(b"!"))
    assert wire.take() == encode(b"E22") + encode(b"OK")


def test_pipelined_packets_are_answered_in_order(
    quiet: Conversation, wire: Wire
) -> None:
    quiet.feed(encode(b"m1000,1") + encode(b"m1001,1") + encode(b"nothing"))
    assert wire.take() == encode(b"00") + encode(b"01") + encode(b"")


def test_a_run_is_answered_when_it_ends(quiet: Conversation, wire: Wire) -> None:
    quiet.feed(encode(b"vCont;c"))
    assert (wire.take(), wire.events, quiet.running) == (b"", ["run"], True)
    quiet.ran(stopped(2))
    assert wire.take() == encode(b"T05thread:p2.1;")
    assert not quiet.running


def test_a_step_is_answered_at_once(quiet: Conversation, wire: Wire) -> None:
    quiet.feed(encode(b"vCont;s:p1.1"))
    assert wire.take().startswith(b"$T05thread:p1.1;10:0110000000000000;")


def test_an_interrupt_overtakes_what_waits_for_the_run(
    quiet: Conversation, wire: Wire
) -> None:
    quiet.feed(encode(b"vCont;c") + encode(b"!") + b"\x03")
    assert wire.events == ["run", "interrupt"]
    assert wire.take() == b""
    quiet.ran(stopped(signal=Signal.INT))
    assert wire.take() == encode(b"T02thread:p1.1;") + encode(b"OK")


def test_an_interrupt_of_nothing_is_ignored(quiet: Conversation, wire: Wire) -> None:
    quiet.feed(b"\x03" + encode(b"!") + b"\x03\x03")
    assert (wire.take(), wire.events) == (encode(b"OK"), [])


def test_a_run_that_fails_gets_an_error(quiet: Conversation, wire: Wire) -> None:
    def fail() -> StopReason:
        raise TargetError(Errno.EIO, "no")

    quiet.feed(encode(b"vCont;c"))
    quiet.ran(fail)
    assert wire.take() == encode(b"E05")


def test_a_bug_is_logged_and_hangs_up(
    quiet: Conversation,
    wire: Wire,
    machine: MonitoredMachine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine.all = ()
    quiet.feed(encode(b"m1000,1"))
    assert wire.events == ["abort"]
    assert "a bug" in caplog.text


def test_a_plain_client_is_not_told_of_others_ends(
    talk: Conversation, wire: Wire
) -> None:
    talk.feed(encode(b"vCont;c"))
    talk.ran(lambda: Exited(2))
    assert wire.events == ["run", "run"]
    talk.ran(lambda: Exited(1))
    assert wire.take().endswith(encode(b"W00"))


def test_a_lost_client_is_not_written_to(quiet: Conversation, wire: Wire) -> None:
    quiet.feed(encode(b"vCont;c"))
    quiet.lost()
    quiet.ran(stopped())
    assert wire.take() == b""


def test_requests_wait_while_replies_pile_up(quiet: Conversation, wire: Wire) -> None:
    quiet.congested(True)
    quiet.feed(encode(b"!"))
    assert wire.take() == b""
    quiet.congested(False)
    assert wire.take() == encode(b"OK")


def test_who_sends_without_end_during_a_run_is_hung_up_on(
    quiet: Conversation, wire: Wire
) -> None:
    quiet.feed(encode(b"vCont;c") + encode(b"!") * (MAX_QUEUED + 1))
    assert wire.events == ["run", "abort"]


def test_nothing_is_answered_before_its_turn(
    wire: Wire, machine: MonitoredMachine
) -> None:
    conversation = Conversation(wire, PACKETS.session(machine))
    conversation.feed(encode(b"!"))
    assert wire.take() == b""
    conversation.begin(lambda p: PACKETS.dispatch(conversation.session, p))
    assert wire.take() == b"+" + encode(b"OK")


def test_k_says_what_happened_and_hangs_up(quiet: Conversation, wire: Wire) -> None:
    quiet.feed(encode(b"k") + encode(b"!"))
    assert (wire.take(), wire.events) == (encode(b"X09"), ["close"])
