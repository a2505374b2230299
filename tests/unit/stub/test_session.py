# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is attached to what, seen through packets and the machine's own log."""

import pytest

from stub.handlers import PACKETS
from stub.ids import ThreadId
from stub.session import Session
from stub.stops import Exited, Stopped
from tests.fakes import MonitoredMachine
from tests.unit.stub.conftest import GDB, Ask


def test_a_mere_probe_does_not_stop_the_machine(
    ask: Ask, machine: MonitoredMachine
) -> None:
    ask(b"vMustReplyEmpty")
    ask(b"QStartNoAckMode")
    ask(b"qXfer:features:read:target.xml:0,1000")
    assert machine.log == []
    ask(b"Hgp0.0")
    ask(b"?")
    assert machine.log == ["attach"]


def test_all_partitions_are_attached(ask: Ask) -> None:
    assert ask(b"qfThreadInfo") == b"mp1.1,p2.1"


def test_a_plain_client_sees_one_process(plain: Ask) -> None:
    assert plain(b"qfThreadInfo") == b"m1"
    assert plain(b"qC") == b"QC1"
    assert plain(b"Hgp2.1") == b"E03"
    assert plain(b"Hg1") == b"OK"


def test_the_end_of_a_process_a_plain_client_does_not_see_is_not_its_concern(
    machine: MonitoredMachine,
) -> None:
    session = PACKETS.session(machine)
    PACKETS.dispatch(session, b"?")
    assert not session.concerns(Exited(2))
    assert session.concerns(Exited(1))
    PACKETS.dispatch(session, GDB)
    assert session.concerns(Exited(2))


def test_detach_leaves_one_and_then_all(ask: Ask, machine: MonitoredMachine) -> None:
    ask(b"?")
    assert ask(b"D;2") == b"OK"
    assert ask(b"qfThreadInfo") == b"mp1.1"
    assert ask(b"D;2") == b"E03"
    assert ask(b"D;1") == b"OK"
    assert ask(b"qfThreadInfo") == b"l"
    assert ask(b"?") == b"W00;process:1"
    assert ask(b"g") == b"E03"
    assert ask(b"vCont;c") == b"E03"
    assert machine.log == ["attach", "detach 2", "detach 1", "detach None"]


def test_what_was_left_can_be_taken_back(ask: Ask, machine: MonitoredMachine) -> None:
    ask(b"?")
    ask(b"D")
    machine.log.clear()
    assert ask(b"vAttach;2") == b"T00thread:p2.1;"
    assert ask(b"qfThreadInfo") == b"mp2.1"
    assert machine.log == ["attach 2"]
    assert ask(b"vAttach;1") == b"T00thread:p1.1;"
    assert ask(b"qfThreadInfo") == b"mp1.1,p2.1"
    assert ask(b"vAttach;3") == b"E03"


def test_kill_ends_one_partition(ask: Ask, machine: MonitoredMachine) -> None:
    ask(b"Hgp2.1")
    assert ask(b"vKill;2") == b"OK"
    assert ask(b"qfThreadInfo") == b"mp1.1"
    assert ask(b"qC") == b"QCp1.1"
    assert machine.log == ["attach", "kill 2"]
    assert not machine.inferior(2).alive
    assert ask(b"vKill;2") == b"E03"


def test_a_stop_selects_its_thread(machine: MonitoredMachine) -> None:
    session = Session(machine)
    session.features = frozenset({"multiprocess"})
    assert session.stop_reply().startswith(b"T05thread:p1.1;")
    assert session.stopped(Stopped(ThreadId(2, 1))) == b"T05thread:p2.1;"
    assert session.inferior.pid == 2


def test_the_dead_are_not_shown(ask: Ask, machine: MonitoredMachine) -> None:
    machine.inferior(1).alive = False
    assert ask(b"qfThreadInfo") == b"mp2.1"
    assert ask(b"qC") == b"QCp2.1"


def test_a_dead_machine_says_so(ask: Ask, machine: MonitoredMachine) -> None:
    for inferior in machine.all:
        inferior.alive = False
    assert ask(b"?") == b"W00;process:1"
    assert ask(b"qfThreadInfo") == b"l"
    assert ask(b"Hgp0.0") == b"E03"


def test_closing_lets_the_machine_run_once(machine: MonitoredMachine) -> None:
    session = PACKETS.session(machine)
    session.close()
    assert machine.log == []
    PACKETS.dispatch(session, b"?")
    session.close()
    session.close()
    assert machine.log == ["attach", "detach None"]


@pytest.mark.parametrize("features", [b"", b"multiprocess+", b"lldb"])
@pytest.mark.parametrize("chosen", [1, 2])
def test_all_answers_name_the_same_process(
    machine: MonitoredMachine, features: bytes, chosen: int
) -> None:
    session = PACKETS.session(machine)
    if chosen == 2:
        machine.inferior(1).alive = False
    PACKETS.dispatch(session, b"qSupported:multiprocess+" if features else b"!")
    if features == b"lldb":
        assert PACKETS.dispatch(session, b"QThreadSuffixSupported") == b""
    name = f"p{chosen}.1".encode() if features else b"1"
    assert PACKETS.dispatch(session, b"qC") == b"QC" + name
    listed = PACKETS.dispatch(session, b"qfThreadInfo")
    assert isinstance(listed, bytes)
    assert listed[1:].split(b",")[0] == name
    stop = PACKETS.dispatch(session, b"?")
    assert isinstance(stop, bytes)
    assert stop.startswith(b"T05thread:" + name)


def test_lldb_follows_one_process(machine: MonitoredMachine) -> None:
    session = PACKETS.session(machine)
    for hello in (b"qSupported:multiprocess+;fork-events+", b"QThreadSuffixSupported"):
        PACKETS.dispatch(session, hello)
    assert PACKETS.dispatch(session, b"qfThreadInfo") == b"mp1.1"
    assert PACKETS.dispatch(session, b"vAttach;2") == b"T00thread:p2.1;"
    assert PACKETS.dispatch(session, b"qfThreadInfo") == b"mp2.1"
    assert not session.concerns(Stopped(ThreadId(1, 1)))
