# SPDX-License-Identifier: GPL-2.0-or-later
"""Every ``monitor`` command answers, and a wrong one says what is right."""

import json
import re

import pytest

from tests.live.mi import Gdb
from tests.live.process import NkRun

SWITCHES = {"kill", "restart", "reset", "power-on", "power-off"}


def test_every_command_that_help_lists_answers(gdb: Gdb) -> None:
    pc = f"{gdb.word('$rip'):#x}"
    arguments = {"xp": "0x1000", "translate": pc, "pte": pc, "bt": "-a"}
    names = [row.split()[0] for row in gdb("monitor help").splitlines()]
    assert {"partitions", "irqlog", "xp", "translate", "violations", "info"} < {*names}
    assert {"dmesg", "ps", "bt", "modules", "locks", "irq", "runq"} < {*names}
    assert {"meminfo", "pte", "sysinfo", "handlers"} < {*names}
    for name in {*names} - SWITCHES:
        text = gdb(f"monitor {name} {arguments.get(name, '')}")
        assert text, name
        assert "usage:" not in text, name
        assert "no sense" not in text, name
        rows = json.loads(gdb(f"monitor {name} -j {arguments.get(name, '')}"))
        assert "error" not in rows, name


def test_a_wrong_command_says_what_is_right(gdb: Gdb) -> None:
    assert "monitor help" in gdb("monitor nonsense")
    assert "usage: monitor translate [PARTITION] ADDRESS" in gdb("monitor translate")
    assert "usage: monitor xp" in gdb("monitor xp 1 2 3 4")
    assert "no partition nobody" in gdb("monitor irqlog nobody")


def test_info_is_of_the_selected_partition(gdb: Gdb) -> None:
    assert re.search(r"^partition +1 host", gdb("monitor info"))
    gdb.inferior(2)
    assert re.search(r"^partition +2 guest", gdb("monitor info"))


@pytest.mark.parametrize("name", ["host", "guest"])
def test_each_partition_is_reached_whichever_is_selected(gdb: Gdb, name: str) -> None:
    gdb.inferior(1)
    first = gdb(f"monitor sysinfo {name}")
    gdb.inferior(2)
    assert gdb(f"monitor sysinfo {name}") == first
    assert f"Linux {name} 6.1" in first
    for line in ("info", "ps", "xp 0x10000000", "pte 0", "dmesg 3"):
        word, *rest = line.split()
        number = {"host": 1, "guest": 2}[name]
        by_name = gdb(" ".join(["monitor", word, name, *rest]))
        assert gdb(f"monitor {line} -p {number}") == by_name


def test_linux_is_not_asked_while_it_runs(gdb: Gdb, machine: NkRun) -> None:
    gdb("detach inferiors 2")
    assert "guest is detached and runs" in gdb("monitor ps guest")
    assert json.loads(gdb("monitor ps guest -j")).keys() == {"error"}
    assert "swapper/0" in gdb("monitor bt host -a")
    gdb("detach")
    gdb("inferior 1")
    gdb.attach(machine.address)


def test_the_log_names_interrupts_that_came(gdb: Gdb, machine: NkRun) -> None:
    assert "delivered, the last 3:" in gdb("monitor irqlog guest 3")
    rows = re.findall(r"vector (0x\w+) .* from (0x\w+)", gdb("monitor irqlog host 3"))
    assert len(rows) == 3


def test_neither_kernel_reaches_outside_its_own(gdb: Gdb) -> None:
    for name in ("host", "guest"):
        assert gdb(f"monitor violations {name}") == f"{name}: 0 violations\n"
