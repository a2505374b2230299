# SPDX-License-Identifier: GPL-2.0-or-later
"""The monitor commands on a machine of two tiny guests, one of them dead."""

import json
import re
from collections.abc import Callable

import pytest

from nanokernel_vm.debug.monitor import COMMANDS, Monitor
from nanokernel_vm.machine import Machine
from tests.unit.vm.conftest import Build

# Three exceptions, two accesses to what is somebody else's, then a triple fault.
HOST = """
main:
    gate 3, trap
    int3
    int3
    int3
    mov $0x77, %al
    out %al, $0x99
    mov $0x300000, %rbx
here:
    mov (%rbx), %al
    lidt 1f(%rip)
    ud2
1:  .word 0
    .quad 0
trap:
    iretq
"""
ASLEEP = "main: sti\nhlt"

Ask = Callable[..., str]


@pytest.fixture
def machine(build: Build) -> Machine:
    machine = build(HOST, ASLEEP)
    machine.run(machine.partitions)
    return machine


@pytest.fixture
def ask(machine: Machine) -> Ask:
    """Type a command with the host, or another partition, selected."""
    monitor = Monitor(machine)

    def answer(line: str, pid: int = 1) -> str:
        text = monitor.run(machine.partitions[pid - 1], line)
        assert text.endswith("\n")
        return text

    return answer


def test_help_lists_every_command(ask: Ask) -> None:
    listed = [line.split()[0] for line in ask("help").splitlines()]
    assert listed == list(COMMANDS)
    assert {"partitions", "irqlog", "xp", "translate", "violations", "info"} <= set(
        listed
    )


@pytest.mark.parametrize(
    "line",
    [
        "frobnicate",
        "xp",
        "xp zero",
        "xp 0 0",
        "xp 0 99999999",
        "xp 0 0 0",
        "translate",
        "translate x",
        "irqlog nobody",
        "violations nobody",
        "info 1 2",
        "xp 0 0 0 0",
        "xp -p",
        "xp -p 3 0",
        "translate host",
        "dmesg host 1 2",
        "bt x",
        "bt -7",
        "irqlog -7",
        "dmesg host -7",
        "frames -7",
        "pte",
        "xp host guest 0",
    ],
)
def test_a_wrong_command_is_told_what_to_do(ask: Ask, line: str) -> None:
    assert re.search("monitor help|usage: monitor|there are host, guest", ask(line))


def test_an_empty_line_is_a_plea_for_help(ask: Ask) -> None:
    assert ask("") == ask("help")


def test_a_partition_may_be_named_first_or_behind_p(ask: Ask) -> None:
    for pid in (1, 2):
        for line in ("info guest", "info 2", "info -p 2", "info -p guest"):
            assert ask(line, pid) == ask("info", 2)
    assert ask("xp 2 0x200000 16") == ask("xp 0x200000 16", 2)
    assert ask("xp guest 0x200000") == ask("xp 0x200000", 2)
    assert ask("xp 2 16") == ask("xp 0x2 0x10")  # not the partition: it may be address


def test_every_answer_has_a_json_form(ask: Ask) -> None:
    for name in ("help", "partitions", "info", "irqlog", "violations", "digest"):
        assert json.loads(ask(f"{name} -j"))
    assert bytes.fromhex(json.loads(ask("xp -j 0 16"))["data"])
    assert json.loads(ask("translate -j 0x123456"))["physical"] == 0x123456
    assert "missing" in json.loads(ask("xp -j"))["error"]


@pytest.mark.parametrize(
    "line", ["dmesg", "ps", "bt -a", "modules", "locks", "irq", "runq", "meminfo"]
)
def test_where_no_linux_is_that_is_said(ask: Ask, line: str) -> None:
    assert ask(line) == "host has no symbol file\n"
    assert json.loads(ask(f"{line} -j")) == {"error": "host has no symbol file"}


def test_partitions(ask: Ask) -> None:
    host, guest = ask("partitions").splitlines()
    assert host.startswith("1 host")
    assert "failed (triple fault at 0x1" in host
    assert "0x00200000-0x003fffff" in guest


def test_irqlog(ask: Ask, machine: Machine) -> None:
    heading, *rows = ask("irqlog").splitlines()
    assert heading == "host: 3 delivered, the last 3:"
    assert all("vector 0x03" in row and "cpl 0" in row for row in rows)
    assert ask("irqlog 1").splitlines()[1:] == rows[-1:]
    assert ask("irqlog host", pid=2) == ask("irqlog")
    assert ask("irqlog host 2", pid=2).splitlines()[1:] == rows[-2:]
    assert ask("irqlog 0").count("\n") == 1
    assert ask("irqlog", pid=2).startswith("guest: 0 delivered")


def test_irqlog_takes_a_number_or_a_partition(ask: Ask) -> None:
    assert ask("irqlog 2").startswith("host: 3 delivered, the last 2")
    assert ask("irqlog guest").startswith("guest:")


def test_violations(ask: Ask) -> None:
    heading, port, memory = ask("violations").splitlines()
    assert heading == "host: 2 violations"
    assert "port 0x99/1 write of 0x77" in port
    assert "memory 0x300000/1 read" in memory


def test_xp_shows_physical_memory_of_the_partition_only(
    ask: Ask, machine: Machine
) -> None:
    machine.partitions[0].window.write(0x1_0000, b"Nanokernel\0\xff 12345")
    row = ask("xp 0x10000 18").splitlines()
    assert row[0].startswith("0x0000010000  4e 61 6e 6f 6b 65")
    assert row[0].endswith("Nanokernel.. 123")
    assert len(row) == 2
    assert "outside host's memory" in ask("xp 0x200000")
    assert "outside host's memory" in ask("xp 0x1ffff0 0x20")
    assert "outside guest's memory" in ask("xp 0", pid=2)


def test_translate_tells_every_level(ask: Ask) -> None:
    rows = ask("translate 0x123456").splitlines()
    assert [row[:3] for row in rows[:-1]] == ["PGD", "PUD", "PMD"]
    assert rows[-1] == "0x123456 is physical 0x123456 (swx), 0xdcbaa bytes left"


def test_translate_tells_why_not(ask: Ask) -> None:
    assert "is not mapped: PGD 0x0 is not present" in ask("translate 0x8000000000")
    assert "is not canonical" in ask("translate 0x800000000000")


def test_info(ask: Ask) -> None:
    text = ask("info")
    assert "partition    1 host, failed" in text
    assert "interrupts   3 delivered" in text
    assert "violations   2" in text
    assert "initrd       none" in text
