# SPDX-License-Identifier: GPL-2.0-or-later
"""qSupported and its like, and what becomes of ``monitor``."""

from stub.handlers import PACKETS
from stub.outcomes import Close
from tests.fakes import FakeInferior, FakeMachine, MonitoredMachine
from tests.unit.stub.conftest import GDB, Ask


def features(reply: object) -> set[str]:
    assert isinstance(reply, bytes)
    return set(reply.decode().split(";"))


def test_mutual_features_are_claimed_only_to_who_knows_them(plain: Ask) -> None:
    assert features(plain(b"qSupported")) == {
        "PacketSize=20000",
        "QStartNoAckMode+",
        "binary-upload+",
        "vContSupported+",
        "qXfer:features:read+",
        "qXfer:threads:read+",
        "qXfer:exec-file:read+",
        "qXfer:osdata:read+",
    }
    known = features(plain(GDB + b";error-message+"))
    mutual = {"multiprocess+", "swbreak+", "hwbreak+", "exec-events+", "error-message+"}
    assert mutual <= known


def test_nothing_is_announced_that_is_not_there() -> None:
    class Dull(FakeInferior):
        insert_breakpoint = None  # type: ignore[assignment]  # has no breakpoints

    session = PACKETS.session(FakeMachine(Dull(1)))
    offered = features(PACKETS.dispatch(session, GDB))
    assert not {"swbreak+", "hwbreak+"} & offered
    for feature in offered:
        if feature.startswith("qXfer"):
            request = f"{feature[:-1]}::0,10".encode()
            assert PACKETS.dispatch(session, request) != b""


def test_errors_come_in_words_to_who_asked_for_them(plain: Ask) -> None:
    plain(b"qSupported:error-message+")
    assert plain(b"m0,1") == b"E.0x0 is not mapped"
    assert plain(b"Hgp9.1") == b"E.no inferior 9"


def test_small_talk(ask: Ask) -> None:
    assert ask(b"!") == b"OK"
    assert ask(b"qAttached:2") == ask(b"qAttached") == b"1"
    assert ask(b"vMustReplyEmpty") == b""
    assert ask(b"vRun;2f") == ask(b"QNonStop:1") == ask(b"qSymbol::") == b""


def test_k_ends_the_selected_partition_only(
    ask: Ask, machine: MonitoredMachine
) -> None:
    ask(b"Hgp2.1")
    assert ask(b"k") == Close(b"X09")
    assert [i.alive for i in machine.all] == [True, False]


def test_monitor(ask: Ask) -> None:
    ask(b"Hgp2.1")
    assert ask(b"qRcmd," + b"irq".hex().encode()) == b"2: irq\n".hex().encode()
    assert ask(b"qRcmd,") == b"OK"
    assert ask(b"qRcmd,0") == b"E22"
    assert ask(b"qRcmd,ff") == "2: �\n".encode().hex().encode()
