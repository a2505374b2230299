# SPDX-License-Identifier: GPL-2.0-or-later
"""The proof: one kernel panics for good, stock gdb sees why, the other one lives."""

import json
from collections.abc import Iterator

import pytest

from tests.live.busy import PROJECT, SCRIPTS
from tests.live.mi import GDBS, Gdb
from tests.live.process import NkRun, build

USER_END = 1 << 47


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
        _unwound_as_by_drgn(gdb)
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


def _unwound_as_by_drgn(gdb: Gdb) -> None:
    """To the outermost frame, with the scripts."""
    gdb(f"source {SCRIPTS}")
    gdb(f"python import json, sys; sys.path.insert(0, '{PROJECT}')")
    gdb("python from tests.live.in_gdb.walk import levels")
    ours = [
        (rip, rsp)
        for rip, rsp, _ in json.loads(gdb("python print(json.dumps(levels()))"))
    ]
    (task,) = json.loads(gdb("monitor bt host -j"))
    drgns = [(f["pc"], f["sp"]) for f in task["frames"] if f["offset"] is not None]
    assert ours[: len(drgns)] == drgns
    assert [rip < USER_END for rip, _ in ours[len(drgns) :]] == [True]


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
