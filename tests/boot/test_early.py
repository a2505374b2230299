# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel can be asked long before it introduces itself to crash tools."""

import pytest

from nanokernel_vm.config import load
from nanokernel_vm.cpu.engine import TSC_PER_TICK
from nanokernel_vm.linux.awareness import Awareness, Cpu, find_vmcoreinfo
from nanokernel_vm.linux.awareness.log import dmesg
from nanokernel_vm.linux.awareness.system import sysinfo
from nanokernel_vm.machine import Machine
from nanokernel_vm.symbols import symbol_file
from tests.boot.shells_of_pair import EXAMPLE, NAMES

pytestmark = pytest.mark.boot

DEBUG = 7  # not for the console
GOAL = b"Kernel command line:"


@pytest.mark.parametrize("name", NAMES)
def test_the_log_is_what_the_console_has_shown(name: str) -> None:
    config = load(EXAMPLE)
    machine = Machine(config, warp=True)
    board = machine.board(name)
    assert board is not None
    board.console.watch_for(GOAL)
    machine.goal = lambda: board.console.seen(GOAL)
    machine.run(machine.partitions)
    partition = board.partition
    assert find_vmcoreinfo(partition.window) is None

    kernel = Awareness(partition.window, symbol_file(board.config.kernel))
    records = dmesg(kernel)
    lines = [str(record).rstrip() for record in records if record.level < DEBUG]
    shown = board.console.output.decode().splitlines()[:-1]  # the last is not whole
    assert len(shown) > 20
    assert [line.rstrip() for line in shown] == lines[: len(shown)]
    system = sysinfo(kernel, Cpu(tsc=partition.clock * TSC_PER_TICK))
    assert system.release.startswith("6.1")
    assert f"partition={name}" in system.command_line
    assert system.state == "booting"
