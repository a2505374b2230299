# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine of two tiny guests, described and loaded as any other."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nanokernel_vm.config import parse
from nanokernel_vm.machine import Machine
from tests.guests import link

_PARTITION = """
[partition.{name}]
pid = {pid}
base = {base:#x}
size = 0x20_0000
kernel = "{name}"
device = [{{ chip = "uart", port = {port:#x}, irq = {irq} }}{more}]
"""

Build = Callable[..., Machine]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Make a machine of two programs: host below, with a PC's clock, and guest."""

    def machine(host: str, guest: str, warp: bool = True, quantum: int = 4) -> Machine:
        (tmp_path / "host").write_bytes(link(host))
        (tmp_path / "guest").write_bytes(link(guest))
        pc = ', { chip = "pic" }, { chip = "pit" }'
        text = (
            f"[machine]\nquantum_ms = {quantum}\n"
            + _PARTITION.format(name="host", pid=1, base=0, port=0x3F8, irq=4, more=pc)
            + _PARTITION.format(
                name="guest", pid=2, base=0x20_0000, port=0x2F8, irq=3, more=""
            )
        )
        return Machine(parse(text, tmp_path / "machine.toml"), warp=warp)

    return machine
