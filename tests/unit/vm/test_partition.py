# SPDX-License-Identifier: GPL-2.0-or-later
"""When a partition looks at its deadlines and takes its interrupts."""

from collections.abc import Callable

import pytest

from nanokernel_vm.cpu.engine import ACCESS
from nanokernel_vm.partition import BUMP, POLL, Condition, Outcome
from tests.guests import MS, Line, Tiny

# A handler that reports its number and the IF bit it interrupted.
HANDLER = """
timer:
    report $0x7
    push %rax
    mov 24(%rsp), %rax      # rflags
    shr $9, %eax
    and $1, %eax
    report %eax
    pop %rax
    iretq
end_of_timer:
"""
IDLE = (
    """
main:
    gate 0x30, timer
    sti
1:  hlt
    report $0x1
    cmpl $3, rounds(%rip)
    je 2f
    incl rounds(%rip)
    jmp 1b
2:  die
"""
    + HANDLER
    + """
.data
rounds: .long 1
"""
)
BUSY = (
    """
main:
    gate 0x30, timer
    sti
    mov $200000, %ecx
1:  dec %ecx
    jnz 1b
    die
"""
    + HANDLER
)


def test_an_interrupt_ends_a_halt() -> None:
    guest, line = Tiny(IDLE), Line(0x30, MS, 2 * MS, 5 * MS)
    guest.connect(line)
    assert guest.finish() == [7, 1, 1] * 3
    assert line.expired == [MS, 2 * MS, 5 * MS]
    assert [d.time for d in guest.log.deliveries] == [MS, 2 * MS, 5 * MS]
    assert guest.condition is Condition.SHUT_DOWN
    assert guest.failure.startswith("halted with interrupts off")


def test_an_idle_partition_waits_as_long_as_it_is_told() -> None:
    guest = Tiny(IDLE)
    guest.connect(Line(0x30))
    assert guest.run(MS) is Outcome.QUANTUM
    assert guest.condition is Condition.IDLE
    assert guest.clock == MS
    assert guest.run(7 * MS) is Outcome.QUANTUM
    assert guest.clock == 7 * MS


def test_a_running_partition_is_interrupted_at_the_first_jump_after_the_deadline() -> (
    None
):
    guest = Tiny(BUSY)
    guest.connect(Line(0x30, 100_000))
    assert guest.finish() == [7, 1]
    (delivered,) = guest.log.deliveries
    assert 100_000 <= delivered.time < 100_010  # the loop is 4 bytes
    assert delivered.cpl == 0


def test_a_delivery_moves_the_clock() -> None:
    plain, interrupted = Tiny(BUSY), Tiny(BUSY)
    interrupted.connect(Line(0x30, 100_000))
    plain.finish()
    interrupted.finish()
    handler = interrupted.label("end_of_timer") - interrupted.label("timer")
    assert interrupted.clock - plain.clock == BUMP + handler + 2 * ACCESS


MASKED = (
    """
main:
    gate 0x30, timer
    mov $1000, %ecx
1:  dec %ecx
    jnz 1b
    sti
    mov $100000, %ecx
2:  dec %ecx
    jnz 2b
    die
"""
    + HANDLER
)


def test_a_masked_interrupt_is_tried_again() -> None:
    guest = Tiny(MASKED)
    guest.connect(Line(0x30, 2000))
    assert guest.finish() == [7, 1]
    (delivered,) = guest.log.deliveries
    assert 2000 + POLL <= delivered.time < 2000 + POLL + 20


@pytest.mark.parametrize("later", [(), (30 * MS,)])
def test_a_halt_does_not_sleep_over_a_pending_interrupt(later: tuple[int, ...]) -> None:
    """It was masked when it came, and the halt begins before it is tried again."""
    guest = Tiny(
        """
main:
    gate 0x30, timer
    mov $1000, %ecx
1:  dec %ecx
    jnz 1b
    sti
    hlt
    die
"""
        + HANDLER
    )
    guest.connect(Line(0x30, 2000, *later))
    guest.finish()
    assert guest.log.deliveries[0].time < 2000 + POLL


class Pair(Line):
    """Two interrupts at once: the second is still there when the first is taken."""

    def __init__(self, *times: int) -> None:
        super().__init__(0x30, *times)
        self.left = 0

    def expire(self, now: int) -> None:
        super().expire(now)
        self.left = 2

    def acknowledge(self) -> int:
        self.left -= 1
        self.output = self.left > 0
        return self.vector


def outcomes_in_slices(guest: Tiny, slices: Callable[[int], int]) -> list[int]:
    while guest.run(slices(guest.clock)) is not Outcome.DEAD:
        pass
    return [d.time for d in guest.log.deliveries]


@pytest.mark.parametrize("slice_", [100, 1234, 50_000])
def test_the_second_of_two_interrupts_does_not_depend_on_slices(slice_: int) -> None:
    whole, sliced = Tiny(BUSY), Tiny(BUSY)
    whole.connect(Pair(100_000))
    sliced.connect(Pair(100_000))
    whole.finish()
    times = outcomes_in_slices(sliced, lambda now: now + slice_)
    assert times == [d.time for d in whole.log.deliveries]
    assert len(times) == 2
    assert times[1] - times[0] < POLL + BUMP + 2 * ACCESS + 100
    assert sliced.clock == whole.clock


SHUT_DOWN = """
main:
    gate 3, trap
    out %al, $0x99
behind:
    int3
    mov $1000000, %ecx
2:  dec %ecx
    jnz 2b
    die
trap:
    mov $1000000, %ecx
1:  dec %ecx
    jnz 1b
    report $1
    iretq
"""


@pytest.mark.parametrize("stops", [False, True])
def test_a_shut_down_comes_at_once_whatever_follows(stops: bool) -> None:
    """An exception, or a debugger's stop, does not put it off."""
    guest = Tiny(SHUT_DOWN)
    guest.ports.actions[0x99] = lambda: guest.shut_down(restart=False)
    if stops:
        guest.engine.insert_breakpoint(guest.label("behind"))
        guest.engine.prepare(stepping=False)
        assert guest.run(1000 * MS) is Outcome.BREAKPOINT
        guest.engine.remove_breakpoint(guest.label("behind"))
    assert guest.run(1000 * MS) is Outcome.DEAD
    assert guest.condition is Condition.SHUT_DOWN
    assert guest.clock < MS
    assert guest.reports == []
