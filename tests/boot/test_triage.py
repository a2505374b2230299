# SPDX-License-Identifier: GPL-2.0-or-later
"""Real failures of the stock host: each report names what and where."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from nanokernel_vm.linux.awareness import Awareness, Cpu
from nanokernel_vm.symbols import symbol_file
from nanokernel_vm.triage import Kind, Report, Subject, examine
from nanokernel_vm.triage.core import Core
from tests.failures.copies import Booted, core, in_a_copy

pytestmark = pytest.mark.boot

_M = "[nk_fail]"
Wait = Callable[[Booted], None]


def _goes_on(booted: Booted) -> None:
    booted.run_to({"host": "went on"})


def _hangs(booted: Booted) -> None:
    _goes_on(booted)
    booted.pass_time(11)


def _panics(booted: Booted) -> None:
    booted.run_to({"host": "---[ end Kernel panic"})


def _spins(booted: Booted) -> None:
    booted.pass_time(1.5)


def _is_over(booted: Booted) -> None:
    _goes_on(booted)
    booted.pass_time(5)


def _is_seen_stalling(booted: Booted) -> None:
    booted.run_to({"host": "detected stalls"})
    _is_seen(booted)


def _is_seen(booted: Booted) -> None:
    booted.run_to({"host": "</TASK>"})


# how the module is told to fail: until when to run, what the report must say
FAILURES: dict[str, tuple[Wait, Kind, tuple[str, ...]]] = {
    "deadlock": (_hangs, Kind.DEADLOCK, ("take_a_then_b", "take_b_then_a")),
    "spin": (_spins, Kind.INTERRUPTS_OFF, ("fail_spin",)),
    "null": (_goes_on, Kind.NULL_POINTER, ("fail_null",)),
    "after-free": (_goes_on, Kind.USE_AFTER_FREE, ("fail_after_free",)),
    "stack": (_panics, Kind.STACK_OVERFLOW, ("fail_stack",)),
    "list": (_goes_on, Kind.LIST_CORRUPTION, ("fail_list",)),
    "hang": (_hangs, Kind.HUNG_TASK, ("wait_for_nothing",)),
    "bug": (_goes_on, Kind.BUG, ("fail_bug",)),
    "memory": (_panics, Kind.OUT_OF_MEMORY, ("take_all_memory",)),
    "lockup": (_is_seen, Kind.SOFT_LOCKUP, ("fail_lockup",)),
    "keep": (_spins, Kind.SOFT_LOCKUP, ("fail_keep",)),  # nobody has seen it yet
    "busy-wait": (_spins, Kind.INTERRUPTS_OFF, ("fail_busy_wait",)),
    "stall": (_is_seen_stalling, Kind.RCU_STALL, ("sleep_as_reader",)),
    "slow": (_is_over, Kind.HUNG_TASK, ("wait_too_long",)),  # has gone since
    "warning": (_goes_on, Kind.WARNING, ("fail_warning",)),
}
# The kernel's own watchdog would take its time.
BEFORE = {
    "lockup": "echo 1 >/proc/sys/kernel/watchdog_thresh; ",
    "stall": "echo 3 >/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout; ",
    "slow": "echo 1 >/proc/sys/kernel/hung_task_timeout_secs; ",
}

DEAD = [
    how
    for how, row in FAILURES.items()
    if row[0] not in (_goes_on, _hangs, _is_over, _is_seen_stalling)
]


def fail(how: str, before: str, booted: Booted) -> str:
    """Make the host fail; both partitions' reports as JSON."""
    booted.type("host", f"{before}insmod /nk_fail.ko how={how}; echo we''nt on\n")
    FAILURES[how][0](booted)
    return _reports(booted, ("host", "guest") if how in DEAD else ("host",))


def _reports(booted: Booted, names: Sequence[str] = ("host", "guest")) -> str:
    return json.dumps({name: booted.report(name).to_dict() for name in names})


def _read(text: str) -> dict[str, Report]:
    return {name: Report.from_dict(row) for name, row in json.loads(text).items()}


@pytest.fixture(scope="module")
def reports(booted: Booted) -> dict[str, dict[str, Report]]:
    """By failure and partition."""
    return {
        how: _read(in_a_copy(booted, partial(fail, how, BEFORE.get(how, ""))))
        for how in FAILURES
    }


@pytest.mark.parametrize("how", FAILURES)
def test_the_cause_and_the_place_are_named(
    reports: dict[str, dict[str, Report]], how: str
) -> None:
    report, (_, kind, functions) = reports[how]["host"], FAILURES[how]
    first = report.findings[0]
    assert (first.kind, first.functions) == (
        kind,
        tuple(f"{name} {_M}" for name in functions),
    )
    assert report.problems == ()
    assert report.release.endswith("-cloud-amd64")
    assert any(name.startswith("nk_fail") for name in report.modules)
    assert report.dmesg
    assert report.interrupts
    assert report.memory
    assert report.stacks[0].title.startswith("CPU")


@pytest.mark.parametrize("how", DEAD)
def test_the_guest_beside_it_is_well(
    reports: dict[str, dict[str, Report]], how: str
) -> None:
    guest = reports[how]["guest"]
    assert (guest.findings, guest.signature, guest.problems) == ((), "", ())
    assert guest.verdict == "running, nothing wrong"


def test_a_healthy_pair_has_no_cause_and_is_not_touched(booted: Booted) -> None:
    def look(booted: Booted) -> str:
        before = [p.window.digest() for p in booted.machine.partitions]
        text = _reports(booted)
        assert [p.window.digest() for p in booted.machine.partitions] == before
        return text

    found = _read(in_a_copy(booted, look))
    assert [r.verdict for r in found.values()] == ["running, nothing wrong"] * 2
    assert not any(r.wrong for r in found.values())


def test_the_guests_panic_is_the_guests(booted: Booted) -> None:
    def panic(booted: Booted) -> str:
        booted.type("guest", "echo c > /proc/sysrq-trigger\n")
        booted.run_to({"guest": "---[ end Kernel panic"})
        return _reports(booted)

    found = _read(in_a_copy(booted, panic))
    assert not found["host"].wrong
    (finding,) = found["guest"].findings
    assert finding.kind is Kind.PANIC
    assert finding.functions == ("sysrq_handle_crash",)


def test_each_failure_has_a_signature_of_its_own(
    reports: dict[str, dict[str, Report]],
) -> None:
    signatures = {rows["host"].signature for rows in reports.values()}
    assert len(signatures) == len(FAILURES)


def test_before_and_after_the_watchdog_has_spoken_it_is_the_same(
    booted: Booted, reports: dict[str, dict[str, Report]]
) -> None:
    def wait(booted: Booted) -> str:
        booted.type("host", f"{BEFORE['lockup']}insmod /nk_fail.ko how=keep\n")
        _is_seen(booted)
        return _reports(booted, ["host"])

    after, before = _read(in_a_copy(booted, wait))["host"], reports["keep"]["host"]
    assert "stuck for" in after.verdict
    assert "stuck for" not in before.verdict
    assert after.signature == before.signature


def test_what_is_told_of_each(reports: dict[str, dict[str, Report]]) -> None:
    host = {how: rows["host"] for how, rows in reports.items()}
    cycle = host["deadlock"].findings[0]
    assert [line.partition(" waits in ")[0][:5] for line in cycle.evidence] == [
        "nk_ab",
        "nk_ba",
    ]
    assert "mutex lock_b" in cycle.evidence[0]
    assert "mutex lock_a" in cycle.evidence[1]
    assert {"take_a_then_b", "take_b_then_a"} <= _functions(host["deadlock"])
    assert "for 11 s" in host["hang"].findings[0].what
    assert "free object of kmalloc-128" in host["after-free"].findings[0].evidence[0]
    assert "fail_spin" in _functions(host["spin"])
    assert host["spin"].registers["eflags"] & 1 << 9 == 0
    memory = host["memory"].memory
    assert memory is not None
    assert memory.other > memory.total // 2
    assert "deadlocked on memory" in host["memory"].findings[0].what
    assert "nk_reads" in host["stall"].verdict
    assert [f.kind for f in host["stall"].findings] == [Kind.RCU_STALL, Kind.WARNING]
    assert "Voluntary context switch" in host["stall"].findings[1].what
    assert len(host["slow"].findings) == 1
    assert "nk_slow (86) was blocked for 3 s" in host["slow"].verdict
    assert [f.kind for f in host["stack"].findings] == [Kind.STACK_OVERFLOW, Kind.PANIC]


def test_a_core_of_the_same_memory_tells_the_same(
    booted: Booted, reports: dict[str, dict[str, Report]], tmp_path: Path
) -> None:
    file = tmp_path / "vmcore"

    def dump(booted: Booted) -> str:
        text = fail("deadlock", "", booted)
        file.write_bytes(core(booted.partition("host")))
        return text

    live = _read(in_a_copy(booted, dump))["host"]
    nk = Path(sys.executable).with_name("nk")
    done = subprocess.run([nk, "triage", "--core", file, "--json"], capture_output=True)
    (row,) = json.loads(done.stdout)
    dead = Report.from_dict(row)
    assert done.returncode == 4
    assert dead.signature == live.signature == reports["deadlock"]["host"].signature
    assert dead.findings[0].functions == live.findings[0].functions
    assert [s.frames for s in dead.stacks] == [s.frames for s in live.stacks]
    assert (dead.memory, dead.modules, dead.dmesg, dead.registers["rip"]) == (
        live.memory, live.modules, live.dmesg, live.registers["rip"],
    )  # fmt: skip
    assert (dead.delivered, dead.interrupts) == (None, ())


def test_a_core_without_registers_lacks_the_cpus_stack_only(
    booted: Booted, tmp_path: Path
) -> None:
    file = tmp_path / "vmcore"
    file.write_bytes(core(booted.partition("guest"), with_registers=False))
    symbols = symbol_file(booted.config.partitions[1].kernel)
    memory = Core(file)
    report = examine(Subject("core", Awareness(memory, symbols), Cpu(memory.registers)))
    assert report.problems == ("CPU's stack: the core has no registers",)
    assert not report.wrong
    assert report.dmesg


def _functions(report: Report) -> set[str]:
    frames = (frame for stack in report.stacks for frame in stack.frames)
    return {frame.split()[1].partition("+")[0] for frame in frames}


def test_another_run_of_the_same_failure_has_the_same_signature(
    booted: Booted, reports: dict[str, dict[str, Report]]
) -> None:
    """Other tasks before it, another length of the log, other addresses."""
    before = "dmesg >/tmp/log; for i in 1 2 3; do cat /tmp/log >/tmp/$i; done; "

    def fail_and_wait(how: str, booted: Booted) -> str:
        fail(how, before, booted)
        for _ in range(5):  # until the kernel itself complains of hung tasks
            booted.pass_time(50)
        return _reports(booted, ["host"])

    for how in ("after-free", "deadlock"):
        again = _read(in_a_copy(booted, partial(fail_and_wait, how)))["host"]
        assert len(again.findings) == 1
        once = reports[how]["host"]
        assert again.signature == once.signature
        assert again.findings[0].time != once.findings[0].time
    assert any("blocked for more than 120 seconds" in line for line in again.dmesg)
