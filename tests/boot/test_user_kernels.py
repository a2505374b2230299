# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels that users have, booted as they lie in /boot, with Linux's own defaults."""

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nanokernel_vm.build import user_kernel
from nanokernel_vm.debug.monitor import COMMANDS
from nanokernel_vm.linux.elf import ElfImage
from nanokernel_vm.triage import Report
from nanokernel_vm.triage.report import Kind
from tests import kernels
from tests.failures.copies import Booted, core, in_a_copy

pytestmark = pytest.mark.boot

NK = Path(sys.executable).with_name("nk")

# Two who read one terminal: the one has its mutex while it sleeps, the other waits.
_READERS = "setsid cat /dev/ttyS0 & setsid cat /dev/ttyS0 & sleep 1"
_TEXT = "0xffffffff81000000"
_ARGUMENTS = {
    "bt": "-a", "pte": _TEXT, "translate": _TEXT, "xp": "0x1000000 16",
}  # fmt: skip


@pytest.fixture(scope="module", params=kernels.NAMES)
def kernel(request: pytest.FixtureRequest) -> Path:
    return kernels.vmlinuz(str(request.param))


@pytest.fixture(scope="module")
def user(kernel: Path) -> Booted:
    return Booted(partial(kernels.description, kernel=kernel))


def run(machine: Booted, command: str) -> str:
    """Type a command at the host's shell; what it prints."""
    board = machine.machine.board("host")
    assert board is not None
    start = len(board.console.output)
    machine.type("host", f"{command}; echo that''s-all\n")
    machine.run_to({"host": "thats-all"})
    text = board.console.output[start:].decode(errors="replace")
    return text.partition("\n")[2].rpartition("thats-all")[0]


def ask(machine: Booted, line: str) -> Any:
    """What the monitor says of the host, as data."""
    answer = json.loads(machine.monitor.run(machine.partition("host"), f"{line} -j"))
    assert "error" not in answer, answer
    return answer


def test_it_runs_as_everybody_runs_it(user: Booted) -> None:
    told = run(user, "cat /sys/devices/system/cpu/vulnerabilities/meltdown")
    assert "Mitigation: PTI" in told
    assert run(user, "cat /proc/cmdline").strip() == kernels.COMMAND_LINE


def test_nothing_is_moved_at_random(user: Booted, kernel: Path) -> None:
    told = run(user, "grep -w -m 1 _text /proc/kallsyms")
    text = ElfImage.open(user_kernel.image(kernel)).section(".text")
    assert int(told.split()[0], 16) == text.addr
    found = ask(user, f"pte {0xFFFF_8880_0100_0000:#x}")
    assert found["physical"] == 0x0100_0000  # by the direct map


def test_tasks_are_those_of_proc(user: Booted) -> None:
    text = run(user, "cat /proc/[0-9]*/stat 2>/dev/null")
    told = re.findall(r"^(\d+) \((.*)\) (\w) (\d+)", text, re.MULTILINE)
    told = [row for row in told if row[1] != "cat"]
    assert len(told) > 10
    read = {row["pid"]: row for row in ask(user, "ps")}
    for pid, task, _, parent in told:
        assert task.startswith(read[int(pid)]["name"])
        assert int(parent) == read[int(pid)]["parent"]


def test_the_log_is_dmesg(user: Booted) -> None:
    told = [line.rstrip() for line in run(user, "dmesg").splitlines()]
    read = user.monitor.run(user.partition("host"), "dmesg").splitlines()
    lines = [line.rstrip() for line in read]
    assert len(told) > 50
    assert lines[: len(told)] == told


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers(user: Booted, name: str) -> None:
    line = f"{name} {_ARGUMENTS.get(name, '')}"
    assert ask(user, line) is not None
    assert user.monitor.run(user.partition("host"), line)


def test_stacks_go_down_to_user_space(user: Booted) -> None:
    stacks = {row["pid"]: row["frames"] for row in ask(user, "bt -a")}
    names = [frame["name"] for frame in stacks[1]]
    assert names.index("schedule") < names.index("do_wait")
    assert names[-1] == ""
    assert [frame["name"] for frame in stacks[2]][-2:] == ["kthreadd", "ret_from_fork"]


def test_who_waits_for_a_mutex(user: Booted) -> None:
    def look(copy: Booted) -> str:
        run(copy, _READERS)
        return json.dumps(ask(copy, "locks"))

    answer = json.loads(in_a_copy(user, look))
    (lock,) = answer["locks"]
    assert (lock["kind"], lock["state"]) == ("mutex", "locked")
    assert [party["name"] for party in lock["owners"]] == ["cat"]
    (waiter,) = lock["waiters"]
    assert (waiter["name"], waiter["caller"]) == ("cat", "n_tty_read")
    assert answer["cycles"] == answer["broken"] == []


def test_triage_of_a_kernel_that_is_well(user: Booted) -> None:
    report = user.report("host")
    assert report.well, report
    assert report.release == run(user, "uname -r").strip()


def test_triage_of_a_panic(user: Booted) -> None:
    def fail(copy: Booted) -> str:
        copy.type("host", "echo c > /proc/sysrq-trigger\n")
        copy.run_to({"host": "---[ end Kernel panic"})
        return json.dumps(copy.report("host").to_dict())

    report = Report.from_dict(json.loads(in_a_copy(user, fail)))
    assert report.findings[0].kind is Kind.PANIC
    assert report.findings[0].functions == ("sysrq_handle_crash",)
    assert not report.problems
    assert "sysrq_handle_crash+" in " ".join(report.stacks[0].frames)


def test_triage_of_a_core_finds_the_symbols_by_build(
    user: Booted, tmp_path: Path
) -> None:
    path = tmp_path / "core"
    path.write_bytes(core(user.partition("host")))
    done = subprocess.run(
        [NK, "triage", "--core", path, "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    assert report["release"] == user.report("host").release
    assert report["problems"] == []
