# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's kernel in a partition of its own, and the same file on a PC."""

import subprocess
from dataclasses import replace

import pytest

from nanokernel_vm import build
from nanokernel_vm.abi import layout as abi
from nanokernel_vm.clock import TICKS_PER_SECOND
from nanokernel_vm.config import Artifact
from nanokernel_vm.partition import Condition
from tests.boot.shell import PROMPT, Shell, partition

pytestmark = pytest.mark.boot


@pytest.fixture
def shell() -> Shell:
    """The guest, at its prompt."""
    shell = Shell(partition("guest"))
    shell.wait(PROMPT)
    return shell


def test_it_stays_in_its_window_and_at_its_ports(shell: Shell) -> None:
    shell.ask("cat /proc/*/maps /proc/iomem /proc/ioports; find /sys -type f | wc -l")
    assert list(shell.partition.log.violations) == []


def test_it_finds_its_memory_where_its_window_is(shell: Shell) -> None:
    config = shell.board.config
    ram = [
        [int(edge, 16) for edge in line.split(" : ")[0].split("-")]
        for line in shell.ask("cat /proc/iomem").splitlines()
        if line.endswith("System RAM")
    ]
    assert ram[0][0] >= config.base
    assert ram[-1][1] == config.base + config.size - 1


def test_it_registers_every_vector_and_its_syscall_entry(shell: Shell) -> None:
    guest = shell.board.guest
    assert guest is not None
    assert set(guest.gates) == set(range(256))
    assert guest.gates[8].ist
    assert guest.gates[3].dpl == guest.gates[4].dpl == 3
    assert guest.syscall is not None
    bringup_idt = 32 * 16  # startup_64_setup_env() in head64.c loads it
    assert shell.partition.engine.state.idt.limit == bringup_idt - 1


def test_its_time_is_the_nanokernel_s(shell: Shell) -> None:
    source = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    assert shell.ask(f"cat {source}") == "nanokernel"
    before = shell.partition.clock
    started, ended = shell.ask("date +%s; sleep 100; date +%s", 110).split()
    passed = (shell.partition.clock - before) / TICKS_PER_SECOND
    assert int(ended) - int(started) in (100, 101)
    assert 100 < passed < 101
    now = shell.machine.config.epoch + shell.partition.clock // TICKS_PER_SECOND
    assert now - 2 < int(ended) <= now


def test_it_has_no_tick_when_idle(shell: Shell) -> None:
    before = shell.partition.log.delivered
    shell.ask("sleep 60", 70)
    assert shell.partition.log.delivered - before < 60 * 20


@pytest.mark.parametrize(
    ("command", "restarts"),
    [
        ("poweroff -f", False),
        ("halt -f", False),
        ("reboot -f", True),
        ("echo b > /proc/sysrq-trigger", True),
    ],
)
def test_it_ends_its_partition_only(shell: Shell, command: str, restarts: bool) -> None:
    shell.type(command)
    shell.run_to_its_end()
    assert shell.partition.condition is Condition.SHUT_DOWN
    assert shell.partition.restart_wanted is restarts


def test_it_reports_a_panic(shell: Shell) -> None:
    shell.type("echo c > /proc/sysrq-trigger")
    shell.wait(b"end Kernel panic")
    guest = shell.board.guest
    assert guest is not None
    assert guest.panic == "sysrq triggered crash"


def test_faults_and_signals_reach_their_handlers(shell: Shell) -> None:
    assert shell.ask("sh -c 'kill -SEGV $$'; echo $?").split()[-1] == "139"
    assert shell.ask("sh -c 'trap \"echo caught\" USR1; kill -USR1 $$'") == "caught"
    assert shell.ask("(sleep 100 & kill $!; wait $!; echo $?)").split()[-1] == "143"


def test_it_refuses_another_revision_of_the_interface(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(abi, "REVISION", abi.REVISION + 1)
    shell = Shell(partition("guest"))
    shell.run_to_its_end()
    assert shell.partition.condition is Condition.SHUT_DOWN
    assert shell.board.guest is not None
    assert shell.board.guest.panic == "unknown nanokernel revision"


def test_the_same_kernel_runs_on_a_pc() -> None:
    config = replace(
        partition("host"),
        kernel=Artifact("guest"),
        cmdline="console=ttyS0 nolapic noapic partition=guest",
    )
    shell = Shell(config)
    shell.wait(PROMPT)
    assert "XT-PIC" in shell.ask("cat /proc/interrupts")


def test_its_debug_information_leads_to_its_sources() -> None:
    commands = ("list nk_report_panic", "list entry_SYSCALL_64")
    options = [word for command in commands for word in ("-ex", command)]
    listing = subprocess.check_output(
        ["gdb", "-nx", "-batch", *options, build.ensure("guest")], text=True
    )
    assert "NK_HC_REPORT_PANIC" in listing
    assert "swapgs" in listing
