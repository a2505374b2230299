# SPDX-License-Identifier: GPL-2.0-or-later
"""Acks, order, runs: everything above framing that needs no socket."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from stub.backlog import MAX_BACKLOG
from stub.conversation import Conversation
from stub.errors import Errno, TargetError
from stub.framing import Packet, checksum, encode
from stub.handlers import PACKETS
from stub.ids import ThreadId
from stub.outcomes import Work
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

    def work(self, work: Work) -> None:
        self.events.append("work")
        self.doing = work

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


@pytest.mark.parametrize(
    "request_", [b"vCont;c", b"vCont;s:p1.1", b"vCont;r0,ffff:p1.1", b"c", b"s"]
)
def test_an_interrupt_that_finds_nothing_running_is_owed(
    quiet: Conversation, wire: Wire, machine: MonitoredMachine, request_: bytes
) -> None:
    quiet.feed(encode(b"?"))
    wire.take()
    quiet.feed(b"\x03\x03" + encode(b"!") + encode(request_))
    assert wire.take() == encode(b"OK") + encode(b"T02thread:p1.1;")
    assert machine.log == ["attach"]  # nothing has run
    quiet.feed(encode(b"vCont;c"))
    assert wire.events == ["run"]  # and it is owed once


def test_an_interrupt_of_a_run_that_stops_otherwise_is_owed(
    quiet: Conversation, wire: Wire
) -> None:
    quiet.feed(encode(b"vCont;c") + b"\x03")
    quiet.ran(stopped(2))
    quiet.feed(encode(b"vCont;c:p2.-1"))
    assert wire.take() == encode(b"T05thread:p2.1;") + encode(b"T02thread:p2.1;")
    quiet.feed(encode(b"vCont;c") + b"\x03")
    quiet.ran(stopped(signal=Signal.INT))
    quiet.feed(encode(b"vCont;c"))
    assert wire.events == ["run", "interrupt", "run", "interrupt", "run"]


def test_an_interrupt_is_told_as_that_of_a_process_the_client_knows(
    quiet: Conversation, wire: Wire
) -> None:
    quiet.feed(encode(b"Hgp2.1") + encode(b"qSupported") + encode(b"c") + b"\x03")
    wire.take()
    quiet.ran(stopped(1, signal=Signal.INT))
    assert wire.take() == encode(b"T02thread:1;")
    assert wire.events == ["run", "interrupt"]


def test_who_attaches_or_leaves_is_owed_no_interrupt(
    quiet: Conversation, wire: Wire
) -> None:
    quiet.feed(b"\x03" + encode(b"?") + b"\x03" + encode(b"D") + encode(b"vAttach;1"))
    quiet.feed(encode(b"vCont;c"))
    assert wire.events == ["run"]


def test_work_is_answered_when_it_is_done(quiet: Conversation, wire: Wire) -> None:
    quiet.feed(encode(b"qRcmd,6869") + encode(b"!"))
    assert (wire.take(), wire.events) == (b"", ["work"])
    quiet.worked(lambda: (b"O31", b"OK"))
    assert wire.take() == encode(b"O31") + encode(b"OK") + encode(b"OK")


def test_work_can_be_interrupted(quiet: Conversation, wire: Wire) -> None:
    quiet.feed(encode(b"qSearch:memory:0;ffffffffffffffff;abc") + b"\x03")
    assert wire.doing.stopped
    with pytest.raises(TargetError, match="interrupted"):
        wire.doing.do(wire.doing)
    quiet.worked(lambda: wire.doing.do(wire.doing))
    quiet.feed(encode(b"vCont;c"))
    assert wire.take() == encode(b"E04")
    assert wire.events == ["work", "run"]  # it has done what it was for


def test_a_lost_clients_work_is_stopped(quiet: Conversation, wire: Wire) -> None:
    quiet.feed(encode(b"qCRC:1000,1000"))
    quiet.lost()
    assert wire.doing.stopped
    quiet.worked(lambda: (b"C0",))
    assert wire.take() == b""


def test_what_has_no_reply_is_acknowledged(talk: Conversation, wire: Wire) -> None:
    talk.feed(encode(b"R00") + encode(b"!"))
    assert wire.take() == b"++" + encode(b"OK")


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


async def test_a_plain_client_is_not_told_of_others_ends(
    talk: Conversation, wire: Wire, machine: MonitoredMachine
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


EXPANDED = b"$" + b"m" * 100 + b"0*~" * 1340 + b"#"  # of 4 kB on the wire, 130 kB here


@pytest.mark.parametrize(
    "busy", [encode(b"vCont;c"), encode(b"qRcmd,6869")], ids=["run", "work"]
)
@pytest.mark.parametrize(
    "sent",
    [
        encode(b"!"),
        encode(b"X1000,1000:" + b"." * 0x1000),
        b"+",
        b"$x#00",
        EXPANDED + b"%02x" % checksum(EXPANDED[1:-1]),
    ],
    ids=["small", "large", "ack", "damaged", "expanding"],
)
def test_who_sends_without_end_is_hung_up_on(
    quiet: Conversation, wire: Wire, busy: bytes, sent: bytes
) -> None:
    quiet.feed(busy)
    for _ in range(MAX_BACKLOG):
        quiet.feed(sent)
        if "abort" in wire.events:
            break
    assert wire.events[-1] == "abort"
    kept = [e.payload for e in quiet._backlog._events if isinstance(e, Packet)]
    assert sum(map(len, kept)) + 8 * len(quiet._backlog._events) < 2 * MAX_BACKLOG


def test_nothing_is_answered_before_its_turn(
    wire: Wire, machine: MonitoredMachine
) -> None:
    conversation = Conversation(wire, PACKETS.session(machine))
    conversation.feed(b"+\x03$!#")
    assert not conversation.asks
    conversation.feed(b"00")
    assert (conversation.asks, wire.take()) == (False, b"-")
    conversation.feed(encode(b"!"))
    assert (conversation.asks, wire.take()) == (True, b"")
    conversation.begin(lambda p: PACKETS.dispatch(conversation.session, p))
    assert wire.take() == b"+" + encode(b"OK")


def test_k_only_hangs_up(
    quiet: Conversation, wire: Wire, machine: MonitoredMachine
) -> None:
    quiet.feed(encode(b"?"))
    wire.take()
    quiet.feed(encode(b"k") + encode(b"!") + b"$x#00")
    assert (wire.take(), wire.events) == (b"", ["close"])
    assert machine.log == ["attach", "detach None"]
