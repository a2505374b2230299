# SPDX-License-Identifier: GPL-2.0-or-later
"""``generate-core-file``: what gdb saves of a partition is what gdb finds in it."""

import os
import subprocess
from pathlib import Path

from nanokernel_vm.config import load
from nanokernel_vm.symbols import symbol_file
from tests.live.mi import GDBS, Gdb
from tests.live.process import TIMEOUT, TWO_LINUXES

WORDS = ("init_task.comm", "jiffies", "*(unsigned long *)$rsp", "linux_banner", "$rip")


def _symbols(number: int) -> Path:
    config = load(TWO_LINUXES).partitions[number - 1]
    return symbol_file(config.kernel, config.symbols)


def _offline(program: str, number: int, core: Path) -> list[str]:
    """What a gdb without a server says of the core."""
    asked = [f"p {word}" for word in WORDS]
    commands = [word for line in ("bt -10", *asked) for word in ("-ex", line)]
    files = [os.fspath(_symbols(number)), os.fspath(core)]
    line = [str(GDBS[program]), "-nx", "-batch", "-iex", "set width 0", *commands]
    done = subprocess.run(
        [*line, *files], capture_output=True, text=True, timeout=TIMEOUT, check=True
    )
    assert "warning: Memory" not in done.stderr
    return done.stdout.splitlines()


# All memory goes through the protocol, so that each is slow: not all four of them.
_NUMBERS = {"distribution": 2, "newest": 1}


def test_a_core_file_is_the_partition(gdb: Gdb, program: str, tmp_path: Path) -> None:
    number = _NUMBERS[program]
    gdb.inferior(number)
    asked = ("bt -10", *(f"p {word}" for word in WORDS))
    live = [line for command in asked for line in gdb(command).splitlines()]
    core = tmp_path / "core"
    said = gdb(f"generate-core-file {core}")
    assert "Saved corefile" in said
    assert "warning" not in said
    offline = _offline(program, number, core)
    core.unlink()
    values = [line.partition(" = ")[2] for line in live if line[:1] == "$"]
    assert len(values) == len(WORDS)
    assert [line.partition(" = ")[2] for line in offline if line[:1] == "$"] == values
    frames = [line for line in live if line[:1] == "#"]
    assert frames
    assert [line for line in offline if line[:1] == "#"][-len(frames) :] == frames
