# SPDX-License-Identifier: GPL-2.0-or-later
import pytest

from stub.ids import ALL, ThreadId
from stub.outcomes import Resume
from stub.target import Action
from tests.fakes import MonitoredMachine
from tests.unit.stub.conftest import Ask

EVERYTHING = ThreadId(ALL, ALL)
HOST, GUEST = ThreadId(1, 1), ThreadId(2, 1)


@pytest.mark.parametrize(
    ("request_", "actions"),
    [
        (b"vCont;c", [Action(EVERYTHING)]),
        (b"vCont;c:p-1.-1", [Action(EVERYTHING)]),
        (b"vCont;c:p2.-1", [Action(ThreadId(2, ALL))]),
        (b"vCont;s:p2.1", [Action(GUEST, step=True)]),
        (b"vCont;s:p1.1;c:p2.-1", [Action(HOST, step=True), Action(ThreadId(2, ALL))]),
        (b"vCont;C05:p1.1;c", [Action(HOST), Action(EVERYTHING)]),
        (b"vCont;S0b:p1.1", [Action(HOST, step=True)]),
        (b"vCont;r10,20:p1.1", [Action(HOST, step=True, until=(0x10, 0x20))]),
        (b"vCont;r10,10:p1.1", [Action(HOST, step=True)]),
        (b"c", [Action(EVERYTHING)]),
        (b"C05", [Action(EVERYTHING)]),
        (b"s", [Action(HOST, step=True)]),
        (b"S05", [Action(HOST, step=True)]),
    ],
)
def test_actions(ask: Ask, request_: bytes, actions: list[Action]) -> None:
    assert ask(request_) == Resume(tuple(actions))


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"vCont?", b"vCont;c;C;s;S;r"),
        (b"vCont;", b"E22"),
        (b"vCont", b"E22"),
        (b"vCont;t", b"E22"),
        (b"vCont;c;", b"E22"),
        (b"vCont;c:", b"E22"),
        (b"vCont;r10:p1.1", b"E22"),
        (b"vCont;C:p1.1", b"E22"),
        (b"vCont;c:p3.-1", b"E03"),
        (b"vCont;s:p1.2", b"E03"),
        (b"vCont;s:p1.1;c:p9.1", b"E03"),
        (b"cx", b"E22"),
        (b"C", b"E22"),
    ],
)
def test_refused(ask: Ask, request_: bytes, reply: bytes) -> None:
    assert ask(request_) == reply


def test_the_old_packets_follow_Hc(ask: Ask) -> None:
    ask(b"Hcp2.-1")
    assert ask(b"c") == Resume((Action(ThreadId(2, ALL)),))
    ask(b"Hcp0.0")
    ask(b"Hgp2.1")
    assert ask(b"s") == Resume((Action(GUEST, step=True),))


def test_they_can_move_the_pc(ask: Ask, machine: MonitoredMachine) -> None:
    ask(b"s1234")
    assert machine.inferior(1).get("rip") == 0x1234
    ask(b"C05;5678")
    assert machine.inferior(1).get("rip") == 0x5678
