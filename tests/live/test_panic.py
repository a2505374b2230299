# SPDX-License-Identifier: GPL-2.0-or-later
"""The proof: one kernel panics for good, stock gdb sees why, the other one lives."""

from collections.abc import Iterator

import pytest

from tests.live.mi import GDBS, Gdb
from tests.live.process import NkRun, build


@pytest.fixture
def wreck() -> Iterator[NkRun]:
    """Both kernels at their shells, to be ruined."""
    build()
    with NkRun() as run:
        run.wait_for_shells()
        yield run


def test_a_dead_host_is_explained_while_the_guest_lives_on(
    wreck: NkRun, program: str
) -> None:
    assert wreck.guest.answers()
    wreck.host.type("echo c > /proc/sysrq-trigger\n")
    wreck.host.expect("Kernel panic - not syncing: sysrq triggered crash")
    wreck.host.expect("end Kernel panic")
    assert wreck.guest.answers()

    gdb = Gdb(GDBS[program])
    try:
        gdb.attach(wreck.address)
        gdb.inferior(1)
        frames = gdb.frames()
        assert {"panic", "sysrq_handle_crash", "do_syscall_64"} <= {*frames}
        assert frames.index("panic") < frames.index("sysrq_handle_crash")
        assert gdb.value("panic_cpu.counter") == 0  # -1 before
        assert "sysrq triggered crash" in gdb("monitor dmesg host 60")
        assert "panic        on CPU 0" in gdb("monitor sysinfo host")
        assert "sysrq_handle_crash" in gdb("monitor bt host")
        assert "(has the CPU)" in gdb("monitor ps host")
        gdb("set schedule-multiple on")
        gdb.start("continue")
        assert wreck.guest.answers()
        gdb.interrupt()
        gdb.inferior(1)
        assert "sysrq_handle_crash" in gdb.frames()
        gdb.alone(2)
        gdb.start("continue")
        assert wreck.guest.answers()
        gdb.interrupt()
        gdb("disconnect")
    finally:
        gdb.close()
    assert wreck.guest.answers()


def test_a_kill_ends_one_partition_only(program: str) -> None:
    with NkRun("--freeze") as run:
        gdb = Gdb(GDBS[program])
        try:
            gdb.attach(run.address)
            gdb("kill inferiors 1")
            gdb.inferior(2)
            gdb.start("continue")
            run.guest.expect(run.guest.prompt)
            gdb.interrupt()
            host, guest = gdb("monitor partitions").splitlines()
            assert "shut down (killed by the debugger)" in host
            assert "shut down" not in guest
        finally:
            gdb.close()
        assert run.guest.answers()
