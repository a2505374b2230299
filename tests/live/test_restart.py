# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel reboots under gdb: one exec event, and all that was set goes on working."""

from collections.abc import Iterator

import pytest

from tests.live.mi import GDBS, Gdb
from tests.live.process import TWO_LINUXES, NkRun, build
from tests.live.shells import NAMES

inferiors = pytest.mark.parametrize("inferior", [1, 2], ids=["host", "guest"])


@pytest.fixture(scope="module")
def rebooting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NkRun]:
    """Both kernels at their shells, to be switched on again when they reset."""
    build()
    machine = tmp_path_factory.mktemp("rebooting") / "machine.toml"
    text = TWO_LINUXES.read_text()
    machine.write_text(text.replace("\npid =", '\non_reboot = "restart"\npid ='))
    with NkRun(machine=machine) as run:
        run.wait_for_shells()
        yield run


@pytest.fixture
def gdb(rebooting: NkRun, program: str) -> Iterator[Gdb]:
    """One of its own: what is set is lost with it."""
    gdb = Gdb(GDBS[program])
    gdb.attach(rebooting.address)
    gdb("set schedule-multiple on")
    yield gdb
    gdb.close()


def to_the_shell(gdb: Gdb, run: NkRun, inferior: int) -> None:
    """Let both run until the rebooted one has its prompt and the other answers."""
    gdb("delete")
    shell, other = run.consoles[NAMES[inferior]], run.consoles[NAMES[3 - inferior]]
    gdb.start("continue")
    shell.expect(shell.prompt)
    assert shell.answers()
    assert other.answers()
    gdb.interrupt()


@inferiors
def test_a_reboot_is_an_exec_and_breakpoints_of_both_are_hit(
    gdb: Gdb, rebooting: NkRun, inferior: int
) -> None:
    gdb.inferior(inferior)
    gdb("catch exec")
    gdb("break start_kernel")
    rebooting.consoles[NAMES[inferior]].type("reboot -f\n")
    stop = gdb.resume("continue")
    assert (stop.reason, stop.inferior) == ("exec", inferior)
    listed = gdb("info breakpoints")
    assert "inf 1" in listed
    assert "inf 2" in listed
    assert gdb("info inferiors").count("process ") == 2
    stop = gdb.resume("continue")
    assert (stop.reason, stop.inferior) == ("breakpoint-hit", inferior)
    assert stop.function == "start_kernel"
    assert gdb.frames()[0] == "start_kernel"
    gdb.inferior(3 - inferior)
    assert "start_kernel" in gdb.frames()[1:]  # where it was, deep below idle
    to_the_shell(gdb, rebooting, inferior)


def test_nobody_who_does_not_ask_is_stopped_and_watchpoints_go_on(
    gdb: Gdb, rebooting: NkRun
) -> None:
    """The address is not mapped by the tables that the kernel is entered with."""
    gdb.inferior(1)
    gdb("watch system_state")  # SYSTEM_RUNNING to SYSTEM_RESTART, and up again
    rebooting.host.type("reboot -f\n")
    seen: list[int] = []
    while not seen or seen[-1] != gdb.value("(int)SYSTEM_RUNNING"):
        stop = gdb.resume("continue")
        assert stop.reason == "watchpoint-trigger"
        assert stop.inferior == 1
        seen.append(gdb.value("(int)system_state"))
    assert gdb.value("(int)SYSTEM_RESTART") in seen[:1] + seen[1:2]
    assert gdb.value("(int)SYSTEM_SCHEDULING") in seen
    to_the_shell(gdb, rebooting, 1)


@inferiors
def test_monitor_restart_leaves_the_other_where_it_is(
    gdb: Gdb, rebooting: NkRun, inferior: int
) -> None:
    other = 3 - inferior
    gdb.inferior(other)
    before = gdb("info registers"), gdb(f"monitor digest {NAMES[other]}")
    gdb.inferior(inferior)
    gdb("hbreak start_kernel")
    assert "running" in gdb(f"monitor restart {NAMES[inferior]}")
    gdb("set schedule-multiple off")
    stop = gdb.resume("continue")
    assert stop.function == "start_kernel"
    assert stop.inferior == inferior
    gdb.inferior(other)
    assert (gdb("info registers"), gdb(f"monitor digest {NAMES[other]}")) == before
    gdb("set schedule-multiple on")
    to_the_shell(gdb, rebooting, inferior)


@inferiors
def test_run_switches_the_inferior_on_again(
    rebooting: NkRun, program: str, inferior: int
) -> None:
    gdb = Gdb(GDBS[program])
    gdb(f"target extended-remote {rebooting.address}")
    gdb.alone(inferior)
    gdb("tbreak start_kernel")
    stop = gdb.resume("run")
    assert (stop.reason, stop.function) == ("breakpoint-hit", "start_kernel")
    gdb("disconnect")
    shell, other = (rebooting.consoles[NAMES[n]] for n in (inferior, 3 - inferior))
    shell.expect(shell.prompt)
    assert shell.answers()
    assert other.answers()
    gdb.close()
