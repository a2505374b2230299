# SPDX-License-Identifier: GPL-2.0-or-later
"""One engine of two dies, in whatever way: the other partition's run is the same."""

from functools import cache
from pathlib import Path

import pytest

from nanokernel_vm.clock import TICKS_PER_MS
from nanokernel_vm.cpu.engine import Engine
from nanokernel_vm.machine import End, Machine
from nanokernel_vm.memory import Window
from nanokernel_vm.partition import Condition, Outcome
from tests.boot.perturb import fingerprint
from tests.guests import pair, symbols
from tests.unit.vm.crashes import SOURCE, WAYS, Way, give_back

END = 50 * TICKS_PER_MS
# Counts in memory, rewrites its own code, and prints a star every 2^16 rounds.
BUSY = """
main:
    mov $0x2f8, %edx
1:  incl %ecx
    mov %ecx, count(%rip)
    test $0xffff, %ecx
    jnz 1b
    incb 2f+1(%rip)
2:  mov $0, %ah
    mov $'*', %al
    out %al, %dx
    jmp 1b
count: .long 0
"""


class Victim:
    """The first partition of a pair, by the labels of its program."""

    def __init__(self, machine: Machine, source: str) -> None:
        self._symbols = symbols(source)
        self.partition = machine.partitions[0]
        self.window: Window = self.partition.window
        self.engine: Engine = self.partition.engine

    def label(self, name: str) -> int:
        return self._symbols[name] + self.window.base


def _to_the_end(machine: Machine) -> dict[str, object]:
    """What is to be seen of the neighbour."""
    machine.goal = lambda: machine.partitions[1].clock >= END
    assert machine.run(machine.partitions) is End.REACHED
    return {k: v for k, v in fingerprint(machine).items() if k.startswith("guest")}


@cache
def _beside_the_living(folder: Path) -> dict[str, object]:
    return _to_the_end(pair(folder, "main: 1: jmp 1b".replace(" 1:", "\n1:"), BUSY))


def _take(machine: Machine, victim: Victim, way: Way) -> None:
    """Stop where memory can be taken away, and do it."""
    victim.engine.insert_breakpoint(victim.label("taken"))
    victim.engine.prepare(stepping=False)
    stop = machine.run(machine.partitions)
    assert stop == (victim.partition, Outcome.BREAKPOINT)
    victim.engine.remove_breakpoint(victim.label("taken"))
    way.take(victim)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_neighbours_run_is_the_same_run(
    way: Way, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = SOURCE.format(body=way.body)
    machine = pair(tmp_path, source, BUSY)
    victim = Victim(machine, source)
    way.arrange(victim)
    if "taken:" in source:
        _take(machine, victim, way)
    assert machine.run(machine.partitions) == (victim.partition, Outcome.DEAD)
    assert victim.partition.condition is Condition.FAILED
    give_back(victim)
    found = _to_the_end(machine)
    assert found == _beside_the_living(tmp_path_factory.getbasetemp())
    assert str(found["guest console"]).count("*") > 2
