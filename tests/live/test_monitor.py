# SPDX-License-Identifier: GPL-2.0-or-later
"""Every ``monitor`` command answers, and a wrong one says what is right."""

import re

from tests.live.mi import Gdb
from tests.live.process import NkRun


def test_every_command_that_help_lists_answers(gdb: Gdb) -> None:
    arguments = {"xp": "0x1000", "translate": f"{gdb.word('$rip'):#x}"}
    names = [row.split()[0] for row in gdb("monitor help").splitlines()]
    assert {"partitions", "irqlog", "xp", "translate", "violations", "info"} < {*names}
    for name in names:
        text = gdb(f"monitor {name} {arguments.get(name, '')}")
        assert text, name
        assert "usage:" not in text, name


def test_a_wrong_command_says_what_is_right(gdb: Gdb) -> None:
    assert "monitor help" in gdb("monitor nonsense")
    assert "usage: monitor translate ADDRESS" in gdb("monitor translate")
    assert "usage: monitor xp" in gdb("monitor xp 1 2 3")
    assert "no partition nobody" in gdb("monitor irqlog nobody")


def test_info_is_of_the_selected_partition(gdb: Gdb) -> None:
    assert re.search(r"^partition +1 host", gdb("monitor info"))
    gdb.inferior(2)
    assert re.search(r"^partition +2 guest", gdb("monitor info"))


def test_the_log_names_interrupts_that_came(gdb: Gdb, machine: NkRun) -> None:
    assert "delivered, the last 3:" in gdb("monitor irqlog guest 3")
    rows = re.findall(r"vector (0x\w+) .* from (0x\w+)", gdb("monitor irqlog host 3"))
    assert len(rows) == 3


def test_neither_kernel_reaches_outside_its_own(gdb: Gdb) -> None:
    for name in ("host", "guest"):
        assert gdb(f"monitor violations {name}") == f"{name}: 0 violations\n"
