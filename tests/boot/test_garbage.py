# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever is in memory, asking Linux ends with an answer or with one clear line."""

import random

import pytest

from nanokernel_vm.cpu.delivery import address_space
from nanokernel_vm.linux.awareness import Awareness, NoLinuxError
from nanokernel_vm.linux.awareness.interrupts import handlers, irqs
from nanokernel_vm.linux.awareness.kernel import understood
from nanokernel_vm.linux.awareness.locks import locks
from nanokernel_vm.linux.awareness.log import dmesg
from nanokernel_vm.linux.awareness.memory import meminfo
from nanokernel_vm.linux.awareness.modules import modules
from nanokernel_vm.linux.awareness.paging import page_walk
from nanokernel_vm.linux.awareness.runqueues import runqueues
from nanokernel_vm.linux.awareness.stacks import backtraces, cpu_backtrace
from nanokernel_vm.linux.awareness.system import sysinfo
from nanokernel_vm.linux.awareness.tasks import tasks
from nanokernel_vm.memory import PAGE_SIZE, Ram, Window
from nanokernel_vm.symbols import symbol_file
from tests.boot.shells_of_pair import Shells

pytestmark = pytest.mark.boot

SEEDS = range(6)


@pytest.fixture(scope="module")
def copy(shells: Shells) -> Window:
    """The guest's memory again, to be ruined."""
    window = shells.partition("guest").window
    ram = Ram(window.end)
    ram.view[window.base : window.end] = window.ram.view[window.base : window.end]
    return Window(ram, window.base, window.size)


def test_what_has_no_end_ends(
    shells: Shells, copy: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question has as many reads of memory as sense takes, and then no more."""
    guest = next(p for p in shells.config.partitions if p.name == "guest")
    kernel = Awareness(copy, symbol_file(guest.kernel))
    address = kernel.program.symbol("init_task").address

    @understood
    def endless(kernel: Awareness) -> None:
        while True:
            kernel.program.read_u64(address)

    monkeypatch.setattr("nanokernel_vm.linux.awareness.kernel.READS_MAX", 10_000)
    with pytest.raises(NoLinuxError, match="a list has no end"):
        endless(kernel)
    assert sysinfo(kernel, shells.cpu("guest")).release


def _ruin(window: Window, chance: random.Random) -> list[tuple[int, bytes]]:
    """Overwrite words and pages that are in use; what was there."""
    used = [pa for pa in range(window.base, window.end, PAGE_SIZE) if window.word(pa)]
    before = []
    for pa in chance.choices(used, k=chance.choice([10, 300, 2000])):
        size = chance.choice([8, PAGE_SIZE])
        filler = chance.choice([bytes(size), b"\xff" * size, chance.randbytes(size)])
        place = pa + (chance.randrange(512) * 8 if size == 8 else 0)
        before.append((place, window.read(place, size)))
        window.write(place, filler)
    return before


@pytest.mark.parametrize("seed", SEEDS)
def test_ruined_memory_is_told_in_one_line(
    shells: Shells, copy: Window, seed: int
) -> None:
    guest = next(p for p in shells.config.partitions if p.name == "guest")
    kernel = Awareness(copy, symbol_file(guest.kernel))
    assert len(tasks(kernel)) > 10
    cpu = shells.cpu("guest")
    space = address_space(shells.partition("guest").engine.state, copy)
    before = _ruin(copy, random.Random(seed))
    told: list[str] = []
    for ask in (
        kernel.refresh,
        lambda: tasks(kernel, cpu),
        lambda: backtraces(kernel, cpu),
        lambda: cpu_backtrace(kernel, cpu),
        lambda: dmesg(kernel),
        lambda: locks(kernel, cpu),
        lambda: modules(kernel),
        lambda: irqs(kernel),
        lambda: handlers(kernel, lambda _: None),
        lambda: runqueues(kernel, cpu),
        lambda: meminfo(kernel),
        lambda: sysinfo(kernel, cpu),
        lambda: page_walk(kernel, space, 0x401000, 1),
    ):
        try:
            ask()
        except NoLinuxError as error:
            told.append(str(error))
    assert all(text and "\n" not in text for text in told)
    for place, data in reversed(before):
        copy.write(place, data)
