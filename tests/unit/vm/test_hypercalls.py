# SPDX-License-Identifier: GPL-2.0-or-later
"""What each hypercall does, and what it answers to nonsense."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanokernel_vm.abi.frame import FRAME_REVISION
from nanokernel_vm.abi.layout import IRQ_LINES, Error, Hypercall, IrqLine
from nanokernel_vm.clock import TICKS_PER_SECOND
from nanokernel_vm.cpu.delivery import Gate
from nanokernel_vm.nanokernel.hypercalls import KERNEL_CS, Guest

EPOCH = 1_000_000


class Recorder:
    """A partition that takes note of what is wanted of it."""

    def __init__(self) -> None:
        self.ticks = 0
        self.ended: list[bool] = []
        self.rescheduled = 0
        self.memory = b"oops: no init found\n"

    def now(self) -> int:
        return self.ticks

    def read_virtual(self, va: int, length: int) -> bytes | None:
        piece = self.memory[va : va + length]
        return piece if len(piece) == length else None

    def shut_down(self, restart: bool) -> None:
        self.ended.append(restart)

    def reschedule(self) -> None:
        self.rescheduled += 1


@pytest.fixture
def caller() -> Recorder:
    return Recorder()


@pytest.fixture
def guest(caller: Recorder) -> Guest:
    return Guest(caller, EPOCH)


def test_every_function_has_a_handler(guest: Guest) -> None:
    assert set(guest._table) == set(Hypercall)


def test_what_is_no_function_is_refused(guest: Guest) -> None:
    for function in (0, max(Hypercall) + 1, 1 << 63, Hypercall.SET_GATE | 1 << 32):
        assert guest.call(function, 0, 0, 0) == Error.ENOSYS


@given(
    function=st.sampled_from(Hypercall),
    arguments=st.tuples(*(st.integers(0, (1 << 64) - 1),) * 3),
)
def test_no_arguments_raise(function: int, arguments: tuple[int, int, int]) -> None:
    result = Guest(Recorder(), EPOCH).call(function, *arguments)
    assert result >= 0 or result in set(Error)


def test_a_gate(guest: Guest) -> None:
    word = 0xF | 3 << 4 | 5 << 8
    assert guest.call(Hypercall.SET_GATE, 3, 0xFFFF_FFFF_8100_0000, word) == 0
    handler = Gate(0xFFFF_FFFF_8100_0000, KERNEL_CS, trap=True, dpl=3, ist=5)
    assert guest.gates == {3: handler}


@pytest.mark.parametrize(("vector", "kind"), [(256, 0xE), (3, 0), (3, 0xC)])
def test_no_such_gate(guest: Guest, vector: int, kind: int) -> None:
    assert guest.call(Hypercall.SET_GATE, vector, 0x1000, kind) == Error.EINVAL
    assert not guest.gates


def test_a_system_call_entry(guest: Guest) -> None:
    guest.call(Hypercall.SET_SYSCALL, 0x1000, 0x700, 0)
    assert guest.syscall == (0x1000, 0x700)


def test_lines_are_masked_let_through_and_ended(guest: Guest, caller: Recorder) -> None:
    guest.lines.pulse(3)
    guest.call(Hypercall.UNMASK_IRQ, 3, 0, 0)
    assert guest.lines.output
    assert caller.rescheduled == 1  # it may interrupt at once
    guest.call(Hypercall.MASK_IRQ, 3, 0, 0)
    assert not guest.lines.output
    guest.call(Hypercall.UNMASK_IRQ, 3, 0, 0)
    guest.lines.acknowledge()
    guest.lines.pulse(3)
    assert not guest.lines.output
    guest.call(Hypercall.END_IRQ, 3, 0, 0)
    assert guest.lines.output


@pytest.mark.parametrize(
    "function", [Hypercall.MASK_IRQ, Hypercall.UNMASK_IRQ, Hypercall.END_IRQ]
)
def test_no_such_line(guest: Guest, function: int) -> None:
    assert guest.call(function, IRQ_LINES, 0, 0) == Error.EINVAL


def test_the_timer_interrupts_once_at_its_time(guest: Guest, caller: Recorder) -> None:
    guest.call(Hypercall.UNMASK_IRQ, IrqLine.TIMER, 0, 0)
    caller.ticks = 1000
    guest.call(Hypercall.SET_TIMER, 1_000_001, 0, 0)  # ns; a tick is 2.5
    assert guest.deadline() == 1000 + 400_001  # never early
    guest.expire(401_000)
    assert not guest.lines.output
    guest.expire(401_001)
    assert guest.lines.output
    assert guest.deadline() is None


def test_a_timer_that_is_due_asks_to_be_looked_at(
    guest: Guest, caller: Recorder
) -> None:
    guest.call(Hypercall.SET_TIMER, 100, 0, 0)
    before = caller.rescheduled
    guest.expire(1000)
    assert caller.rescheduled == before + 1


def test_a_timer_is_replaced_and_stopped(guest: Guest) -> None:
    guest.call(Hypercall.SET_TIMER, 5000, 0, 0)
    guest.call(Hypercall.SET_TIMER, 100, 0, 0)
    assert guest.deadline() == 40
    guest.call(Hypercall.SET_TIMER, 0, 0, 0)
    assert guest.deadline() is None


def test_the_clocks(guest: Guest, caller: Recorder) -> None:
    caller.ticks = TICKS_PER_SECOND * 3 // 2
    assert guest.call(Hypercall.READ_CLOCK, 0, 0, 0) == 1_500_000_000
    wall = guest.call(Hypercall.READ_WALL_CLOCK, 0, 0, 0)
    assert wall == EPOCH * 1_000_000_000 + 1_500_000_000


def test_the_end(guest: Guest, caller: Recorder) -> None:
    guest.call(Hypercall.SHUT_DOWN, 0, 0, 0)
    guest.call(Hypercall.RESTART, 0, 0, 0)
    assert caller.ended == [False, True]


def test_a_panic_report(guest: Guest) -> None:
    assert guest.call(Hypercall.REPORT_PANIC, 6, 14, 0) == 0
    assert guest.panic == "no init found"


@pytest.mark.parametrize(
    ("addr", "length", "error"), [(0, 4097, Error.EINVAL), (10, 100, Error.EFAULT)]
)
def test_a_panic_report_that_cannot_be_read(
    guest: Guest, addr: int, length: int, error: int
) -> None:
    assert guest.call(Hypercall.REPORT_PANIC, addr, length, 0) == error
    assert not guest.panic


def test_frames_are_plain_until_others_are_asked_for(guest: Guest) -> None:
    assert guest.frames is None
    assert guest.call(Hypercall.USE_FRAMES, FRAME_REVISION, 0x4000, 0) == 0
    assert guest.frames is not None
    assert guest.frames.stack_size == 0x4000


@pytest.mark.parametrize(
    ("revision", "stack_size"),
    [
        (FRAME_REVISION + 1, 0x4000),
        (0, 0x4000),
        (FRAME_REVISION, 0),
        (FRAME_REVISION, 0x800),
        (FRAME_REVISION, 0x6000),
    ],
)
def test_no_such_frames(guest: Guest, revision: int, stack_size: int) -> None:
    call = guest.call(Hypercall.USE_FRAMES, revision, stack_size, 0)
    assert call == Error.EINVAL
    assert guest.frames is None
