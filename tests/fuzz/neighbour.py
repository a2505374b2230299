# SPDX-License-Identifier: GPL-2.0-or-later
"""The partition beside: it counts and prints, and must not notice anything."""

import tempfile
from functools import cache
from pathlib import Path

from nanokernel_vm.config import parse
from nanokernel_vm.machine import Machine
from nanokernel_vm.partition import Partition
from tests.fuzz.campaign import Broken
from tests.guests import WINDOW, link

NEIGHBOUR = """
main:
    mov $0x2f8, %edx
    xor %ebx, %ebx
1:  inc %ebx
    mov %ebx, kept(%rip)
    test $0xfff, %ebx
    jnz 1b
    mov %ebx, %eax
    shr $12, %eax
    and $0x3f, %al
    add $0x30, %al
    out %al, %dx
    jmp 1b
.data
kept: .long 0
.text
"""

_ALONE = f"""
[partition.neighbour]
pid = 2
base = {WINDOW:#x}
size = {WINDOW:#x}
kernel = "neighbour"
device = [{{ chip = "uart", port = 0x2f8, irq = 3 }}]
"""


@cache
def _alone() -> Machine:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "neighbour").write_bytes(link(NEIGHBOUR))
        return Machine(parse(_ALONE, Path(folder) / "machine.toml"), warp=True)


@cache
def _digest(clock: int) -> str:
    """Of its memory at ``clock``; asked for growing times, or it starts anew."""
    partition = _alone().partitions[0]
    if partition.clock > clock:
        _alone.cache_clear()
        partition = _alone().partitions[0]
    partition.run(clock)
    if partition.clock != clock:
        raise Broken(f"alone, it stands at {partition.clock}, not at {clock}")
    return partition.window.digest()


def check_neighbour(partition: Partition) -> None:
    """Compare it, as it stands, with one that was alone."""
    if not partition.alive:
        raise Broken(f"the neighbour ended: {partition.failure}")
    if partition.clock and partition.window.digest() != _digest(partition.clock):
        raise Broken(f"the neighbour is not what it is alone at {partition.clock}")
