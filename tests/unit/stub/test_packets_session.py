# SPDX-License-Identifier: GPL-2.0-or-later
"""qSupported and its like, and what becomes of ``monitor``."""

import pytest

from stub.dispatch import READ_ONLY
from stub.handlers import PACKETS
from stub.outcomes import Close, Silence, Work
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
    assert ask(b"QNonStop:1") == ask(b"qSymbol::") == b""


@pytest.mark.parametrize(
    ("before", "run", "pid"),
    [
        ([], b"vRun;", 1),
        ([b"Hgp2.1"], b"vRun;;61", 2),
        ([b"vKill;2"], b"vRun;", 2),
        ([b"vKill;2", b"vKill;1"], b"vRun;", 1),
        ([b"D", b"vAttach;1"], b"vRun;", 1),
        ([b"D"], b"vRun;" + b"guest".hex().encode(), 2),
    ],
)
def test_run_starts_who_is_meant(
    ask: Ask, machine: MonitoredMachine, before: list[bytes], run: bytes, pid: int
) -> None:
    ask(b"?")
    for packet in before:
        ask(packet)
    assert str(ask(run)).startswith(f"b'T05thread:p{pid}.1;")
    assert machine.log[-1] == f"start {pid}"
    assert ask(b"qC") == b"QCp%d.1" % pid
    assert machine.inferior(pid).alive


def test_run_of_what_is_not_there_says_what_is(
    plain: Ask, machine: MonitoredMachine
) -> None:
    plain(b"qSupported:error-message+")
    told = str(plain(b"vRun;2f62696e;61"))
    assert "nothing called /bin can be started here, only host, guest" in told
    assert not [word for word in machine.log if word.startswith("start")]
    assert plain(b"R00") == Silence()


def test_k_ends_nothing(ask: Ask, machine: MonitoredMachine) -> None:
    ask(b"Hgp2.1")
    assert ask(b"k") == Close(None)
    assert [i.alive for i in machine.all] == [True, True]
    assert machine.log == ["attach", "detach None"]


LONG = "irq " + "x" * 40_000


def test_monitor(ask: Ask) -> None:
    ask(b"Hgp2.1")
    assert ask(b"qRcmd," + b"irq".hex().encode()) == b"2: irq\n".hex().encode()
    assert ask(b"qRcmd,") == b"OK"
    assert ask(b"qRcmd,0") == b"E22"
    assert ask(b"qRcmd,ff") == "2: �\n".encode().hex().encode()
    assert ask(b"qRcmd," + LONG.encode().hex().encode()) == (
        f"2: {LONG}\n".encode().hex().encode()
    )


def test_a_client_that_shows_console_output_only_gets_that(
    machine: MonitoredMachine,
) -> None:
    session = PACKETS.session(machine)
    PACKETS.dispatch(session, b"qSupported:xmlRegisters=i386,arm;multiprocess+")
    for line in ("", "irq", LONG):
        work = PACKETS.dispatch(session, b"qRcmd," + line.encode().hex().encode())
        assert isinstance(work, Work)
        *output, last = work.do(work)
        text = b"".join(bytes.fromhex(piece[1:].decode()) for piece in output)
        assert {piece[:1] for piece in output} <= {b"O"}
        assert max(map(len, output), default=0) < session.max_packet
        assert (text.decode(), last) == (f"1: {line}\n" if line else "", b"OK")


LOOKS = set(
    b"qSupported QStartNoAckMode vMustReplyEmpty ! ? qAttached vAttach D k R g p m x H"
    b" T qC qfThreadInfo qsThreadInfo qThreadExtraInfo vCont? qRcmd qCRC qSearch:memory"
    b" qXfer:features:read qXfer:threads:read qXfer:exec-file:read qXfer:osdata:read"
    b" vFile:setfs vFile:open vFile:pread vFile:fstat vFile:close"
    b" QThreadSuffixSupported".split()
)


def test_who_may_only_look_is_refused_all_else(machine: MonitoredMachine) -> None:
    session = PACKETS.session(machine, read_only=True)
    offered = features(PACKETS.dispatch(session, GDB + b";error-message+"))
    assert not {"swbreak+", "hwbreak+", "vContSupported+"} & offered
    assert {row.name for row in PACKETS if not row.changes} == LOOKS
    for row in PACKETS:
        if row.changes:
            heard = PACKETS.dispatch(session, row.name)
            assert heard == b"E." + READ_ONLY.encode(), row.name
    assert machine.log == []


@pytest.mark.parametrize("request_", [b"vKill;0", b"D;0"])
def test_process_0_is_any(ask: Ask, machine: MonitoredMachine, request_: bytes) -> None:
    """gdb manual, "Packets", thread-id syntax; never a process of that number."""
    ask(b"qSupported:multiprocess+")
    ask(b"Hgp2.1")
    assert ask(request_) == b"OK"
    assert machine.log[-1] in ("kill 2", "detach 2")
