# SPDX-License-Identifier: GPL-2.0-or-later
import pytest

from stub import amd64
from tests.fakes import MonitoredMachine
from tests.unit.stub.conftest import Ask


def test_g_is_no_longer_than_any_gdb_takes(ask: Ask, machine: MonitoredMachine) -> None:
    all_ = machine.inferior(1).read_registers(1)
    assert ask(b"g") == all_[: amd64.GENERAL_SIZE].hex().encode()


def test_p_and_P_reach_every_register_of_the_selected_inferior(
    ask: Ask, machine: MonitoredMachine
) -> None:
    ask(b"Hgp2.1")
    assert ask(b"p%x" % amd64.BY_NAME["part"].number) == b"02000000"
    assert ask(b"P%x=0807060504030201" % amd64.PC) == b"OK"
    assert machine.inferior(2).get("rip") == 0x0102030405060708
    assert machine.inferior(1).get("rip") == 0x1000


def test_a_register_only_gdb_knows_is_unavailable(ask: Ask) -> None:
    assert ask(b"pffff") == b"xxxxxxxx"
    assert ask(b"Pffff=00") == b"E22"


def test_malformed(ask: Ask) -> None:
    for request in (b"p", b"pz", b"P10", b"P10=0", b"G0", b"g1"):
        assert ask(request) == b"E22", request
    assert ask(b"P10=00") == b"E22"  # of the wrong size


def test_G_sets_what_g_has(ask: Ask, machine: MonitoredMachine) -> None:
    registers = ask(b"g")
    assert isinstance(registers, bytes)
    assert ask(b"G" + b"11" * 8 + registers[16:]) == b"OK"
    assert machine.inferior(1).get("rax") == 0x1111111111111111
    assert machine.inferior(1).get("rip") == 0x1000


@pytest.mark.parametrize("size", [0, 8, -1, 1, amd64.SIZE - amd64.GENERAL_SIZE])
def test_G_of_another_size_changes_nothing(
    ask: Ask, machine: MonitoredMachine, size: int
) -> None:
    before = machine.inferior(1).read_registers(1)
    length = size if size in (0, 8) else amd64.GENERAL_SIZE + size
    assert ask(b"G" + b"11" * length) == b"E22"
    assert machine.inferior(1).read_registers(1) == before
