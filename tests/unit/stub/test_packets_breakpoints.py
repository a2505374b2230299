# SPDX-License-Identifier: GPL-2.0-or-later
import pytest

from stub.target import BreakpointKind
from tests.fakes import MonitoredMachine
from tests.unit.stub.conftest import Ask


def test_a_breakpoint_belongs_to_one_inferior(
    ask: Ask, machine: MonitoredMachine
) -> None:
    ask(b"Hgp2.1")
    assert ask(b"Z0,1010,1") == b"OK"
    assert ask(b"Z0,1010,1") == b"OK"
    assert machine.inferior(1).breakpoints == set()
    assert machine.inferior(2).breakpoints == {(BreakpointKind.SOFTWARE, 0x1010, 1)}
    assert ask(b"z0,1010,1") == b"OK"
    assert ask(b"z0,1010,1") == b"OK"
    assert machine.inferior(2).breakpoints == set()


@pytest.mark.parametrize("kind", BreakpointKind)
def test_every_kind_is_passed_on(
    ask: Ask, machine: MonitoredMachine, kind: BreakpointKind
) -> None:
    assert ask(b"Z%d,1000,8" % kind) == b"OK"
    assert machine.inferior(1).breakpoints == {(kind, 0x1000, 8)}


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"Z5,1000,1", b""),
        (b"z5,1000,1", b""),
        (b"Z0,0,1", b"E14"),
        (b"Z2,ffffffffffffffff,8", b"E14"),
        (b"Z0,1000", b"E22"),
        (b"Z", b"E22"),
        (b"Z0,1000,1;X1,27", b"E22"),  # conditions are not announced
        (b"Z0,800000000000,1", b"E14"),
        (b"Z1,ffff7fffffffffff,1", b"E14"),
        (b"Z2,7ffffffffffc,8", b"E14"),
        (b"Z3,7fffffffffff,ffff000000000002", b"E14"),
        (b"Z4,8000000000000000,4", b"E14"),
        (b"Z0,1000,0", b"E22"),
        (b"Z2,1000,0", b"E22"),
        (b"Z2,0,1000000000", b"E28"),
        (b"Z4,ffffffff80000000,100001", b"E28"),
    ],
)
def test_refused(
    ask: Ask, machine: MonitoredMachine, request_: bytes, reply: bytes
) -> None:
    assert ask(request_) == reply
    assert machine.inferior(1).breakpoints == set()


def test_the_last_canonical_addresses_are_not_refused(
    ask: Ask, machine: MonitoredMachine
) -> None:
    memory = machine.inferior(1).memory
    for base in (0x7FFF_FFFF_F000, 0xFFFF_8000_0000_0000):
        memory[base] = bytearray(0x1000)
    for request in (
        b"Z0,7fffffffffff,1",
        b"Z2,7ffffffffff8,8",
        b"Z1,ffff800000000000,1",
        b"Z3,fffffffffffffff8,8",
    ):
        assert ask(request) == b"OK", request
