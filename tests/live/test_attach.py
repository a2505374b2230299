# SPDX-License-Identifier: GPL-2.0-or-later
"""What a person sees after nothing but ``target remote``."""

import re
from pathlib import Path

import pytest

from tests.live.mi import GDBS, Gdb, GdbError
from tests.live.process import NkRun


def test_two_inferiors_each_with_its_own_symbols(gdb: Gdb) -> None:
    rows = re.findall(r"process (\d).*\s(\S+)\s*$", gdb("info inferiors"), re.MULTILINE)
    assert [pid for pid, _ in rows] == ["1", "2"]
    assert rows[0][1] != rows[1][1]


def test_threads_are_named_after_partitions(gdb: Gdb) -> None:
    text = gdb("info threads")
    assert '1.1  Thread 1.1 "host/cpu0"' in text
    assert '2.1  Thread 2.1 "guest/cpu0"' in text


def test_a_symbol_of_one_kernel_has_an_address_in_each(gdb: Gdb) -> None:
    host = gdb.word("&init_task")
    gdb.inferior(2)
    assert gdb.word("&init_task") != host


def test_the_machine_goes_on_when_gdb_detaches_and_gdb_comes_back(
    gdb: Gdb, machine: NkRun
) -> None:
    gdb("inferior 2")
    gdb("detach")
    gdb("inferior 1")
    gdb("detach")
    assert machine.host.answers()
    assert machine.guest.answers()
    gdb.attach(machine.address)
    assert "host/cpu0" in gdb("info threads")
    assert "guest/cpu0" in gdb("info threads")


def test_what_is_detached_runs_while_gdb_looks_at_the_other(
    gdb: Gdb, machine: NkRun
) -> None:
    gdb("detach inferiors 2")
    before = gdb.word("$rip")
    assert machine.guest.answers()
    gdb("maint flush register-cache")
    assert gdb.word("$rip") == before
    gdb.resume("stepi")
    assert machine.guest.answers()
    gdb.start("continue")
    assert machine.guest.answers()
    assert machine.host.answers()
    gdb.interrupt()
    assert machine.guest.answers()
    gdb("disconnect")
    gdb.attach(machine.address)
    assert "guest/cpu0" in gdb("info threads")


def test_breakpoints_do_not_outlive_the_client(
    gdb: Gdb, machine: NkRun, program: str
) -> None:
    gdb("disconnect")
    other = Gdb(GDBS[program])
    other.attach(machine.address)
    other("set breakpoint always-inserted on")
    other("break uptime_proc_show")
    other.kill()
    assert machine.host.run("cat /proc/uptime")
    assert machine.guest.run("cat /proc/uptime")
    gdb.attach(machine.address)


def test_a_second_client_is_told_why_and_the_first_is_undisturbed(
    gdb: Gdb, machine: NkRun, program: str
) -> None:
    before = gdb.word("$rip")
    other = Gdb(GDBS[program])
    with pytest.raises(GdbError, match="another client is debugging this machine"):
        other.attach(machine.address)
    other.close()
    assert gdb.word("$rip") == before
    gdb("stepi")
    assert "host/cpu0" in gdb("info threads")


_SYSROOTS = {"none": "", "ours": "target:"}


@pytest.mark.parametrize("sysroot", ["a directory of the user's own", "none", "ours"])
def test_every_inferior_has_its_registers_whatever_the_sysroot(
    gdb: Gdb, machine: NkRun, program: str, sysroot: str, tmp_path: Path
) -> None:
    gdb("disconnect")
    other = Gdb(GDBS[program])
    other(f"set sysroot {_SYSROOTS.get(sysroot, tmp_path)}")
    other.attach(machine.address)
    try:
        for number in (2, 1):
            other.inferior(number)
            assert other.word("$rip") >> 63
            assert "i386:x86-64" in other("show architecture")
    finally:
        other.close()
        gdb.attach(machine.address)
