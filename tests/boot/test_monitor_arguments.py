# SPDX-License-Identifier: GPL-2.0-or-later
"""``monitor`` commands about real kernels answer every number at an edge."""

import json

import pytest

from nanokernel_vm.debug.monitor import COMMANDS, Monitor
from nanokernel_vm.symbols import symbol_file
from tests.boot.shells_of_pair import NAMES, Shells

pytestmark = pytest.mark.boot

NUMBERS = [
    s * (1 << n) + d for n in (0, 31, 32, 63, 64) for s in (1, -1) for d in (-1, 0)
]
WORDS = [*map(str, NUMBERS), "0x" + "f" * 5000, "9" * 5000]
TAKES = [name for name, command in COMMANDS.items() if command.parameters]


@pytest.mark.parametrize("partition", NAMES)
@pytest.mark.parametrize("name", TAKES)
def test_every_number_is_answered(shells: Shells, name: str, partition: str) -> None:
    files = {p.name: symbol_file(p.kernel) for p in shells.config.partitions}
    monitor, current = Monitor(shells.machine, files), shells.partition(partition)
    before = current.window.digest()
    for word in WORDS:
        for line in (f"{name} {word}", f"{name} 0 {word}", f"{name} {word} 1"):
            assert json.loads(monitor.run(current, f"{line} -j")) is not None
            assert monitor.run(current, line)[-1:] in ("", "\n")  # dmesg 0 is empty
    assert current.window.digest() == before
