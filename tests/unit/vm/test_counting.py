# SPDX-License-Identifier: GPL-2.0-or-later
"""Blocks that count their entries make the same run as a hook that counts all."""

import ctypes
import mmap
import random
import threading
from collections.abc import Callable

import pytest

from nanokernel_vm.cpu import _interpose, counting, engine
from nanokernel_vm.cpu.proof import adopt
from nanokernel_vm.digest import canonical
from nanokernel_vm.partition import Outcome
from tests.guests import MS, Line, Tiny
from tests.unit.vm.test_engine import MIXTURE

# Transfers within a page, over the end of one and into the next, and an IRQ in between.
PAGES = """
main:
    gate 0x20, tick
    sti
    mov $3000, %ebx
1:  call near_end
    dec %ebx
    jnz 1b
    die
tick:
    incl ticks(%rip)
    iretq
.balign 4096
.skip 4087
near_end:
    mov $2, %eax
    dec %eax
    movabs $0x1122334455667788, %rax    # lies in two pages
    test %ebx, %ebx
    jnz 2f
    nop
2:  ret
.data
ticks: .long 0
.text
"""
SPIN = "main: inc %rax; jmp main"

Use = Callable[[bool], None]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Let engines to come count in blocks, or not."""
    return lambda inlining: monkeypatch.setattr(engine, "can_count", lambda: inlining)


def _guest(source: str) -> Tiny:
    guest = Tiny(source)
    guest.connect(Line(0x20, *range(500, 40_000, 777)))
    return guest


def _end(guest: Tiny) -> tuple[str, str, str]:
    state = canonical(guest.engine.plain()), canonical(guest.plain())
    return *state, guest.window.digest()


def _cut(guest: Tiny, seed: int) -> None:
    """Run to the end with a slice's or a debugger's end anywhere."""
    chance = random.Random(seed)
    while guest.alive:
        guest.engine.prepare(stepping=chance.random() < 0.1)
        guest.ticker.steps = 2 if guest.ticker.everywhere else 0
        if chance.random() < 0.5:
            guest.ticker.pause = guest.clock + chance.randrange(300)
        guest.run(guest.clock + chance.randrange(2000))
        guest.ticker.pause = engine.NEVER


@pytest.mark.parametrize("source", [MIXTURE, PAGES], ids=["mixture", "pages"])
@pytest.mark.parametrize("seed", range(4))
def test_both_ways_are_the_same_run(use: Use, source: str, seed: int) -> None:
    ends, asked = [], []
    for inlining, cut in ((False, False), (True, False), (False, True), (True, True)):
        use(inlining)
        guest = _guest(source)
        if cut:
            _cut(guest, seed)
        else:
            guest.finish()
        ends.append(_end(guest))
        asked.append(guest.ticker.asked)
    assert all(end == ends[0] for end in ends)
    assert asked[1] < asked[0] / 2


@pytest.mark.parametrize("inlining", [True, False])
def test_another_thread_stops_a_loop(use: Use, inlining: bool) -> None:
    use(inlining)
    guest = Tiny(SPIN)
    guest.run(MS)
    stopper = threading.Timer(0.01, guest.engine.interrupt)
    stopper.start()
    outcome = guest.run(engine.NEVER)
    stopper.join()
    assert outcome is Outcome.INTERRUPT


def test_what_a_device_raises_ends_the_run(use: Use) -> None:
    clocks = set()
    for inlining in (False, True):
        use(inlining)
        guest = Tiny("main: out %al, $0x80\n1: inc %rax; jmp 1b")
        guest.ports.actions[0x80] = _fail
        with pytest.raises(ZeroDivisionError):
            guest.run(engine.NEVER)
        assert guest.engine.state.rip == guest.label("main") + 2
        clocks.add(guest.clock)
    assert len(clocks) == 1


def _fail() -> None:
    raise ZeroDivisionError


def test_the_installed_one_counts() -> None:
    assert counting.can_count()
    assert Tiny(SPIN).engine.core.inlining


class _Deaf(_interpose.Core):
    """Counts nothing in blocks."""

    @property
    def inlining(self) -> bool:
        return False

    @inlining.setter
    def inlining(self, value: bool) -> None: ...


class _Nowhere(_interpose.Core):
    """Counts where nothing may be written, and dies of it."""

    def connect(self, stops: int, account: int, on_block: int, base: int, /) -> None:
        self.place = mmap.mmap(-1, mmap.PAGESIZE)
        at = ctypes.addressof(ctypes.c_char.from_buffer(self.place))
        super().connect(stops, at, on_block, base)
        libc = ctypes.CDLL(None)
        libc.mprotect(ctypes.c_void_p(at), mmap.PAGESIZE, mmap.PROT_READ)


@pytest.mark.parametrize("kind", [_Deaf, _Nowhere])
def test_one_that_cannot_is_let_be(
    kind: type[_interpose.Core], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanokernel_vm.cpu.proof.Core", kind)
    monkeypatch.setattr(counting, "adopt", adopt)
    assert not counting.can_count.__wrapped__()
