# SPDX-License-Identifier: GPL-2.0-or-later
"""Where an interrupt may not come yet, it comes neither sooner nor later when stepped.

STI and MOV SS keep it away for one instruction (SDM vol. 3, 6.8.3), POPF and IRET do
not, HLT waits for it, REP can be interrupted.
"""

import random
from collections import Counter

import pytest

from nanokernel_vm.debug import PartitionInferior
from nanokernel_vm.partition import Outcome
from tests.guests import MS, WINDOW, Line, Tiny

_END = 10 * MS
_TIMES = range(1777, 710_000, 1777)  # ticks; prime, so as to come everywhere
_SOURCE = """
main:
    gate 0x30, irq
    gate 3, trap
    sti
    mov $150, %ecx
1:  mov $KDS, %eax
    mov %eax, %ss
    mov %esp, %edx
    cli
    mov %rsp, %rsi
    sti
    nop
    pushfq
    popfq
    cli
    pushfq
    orq $0x200, (%rsp)
    popfq
    test $15, %cl
    jnz 2f
    sti
    hlt
2:  int3
    xor %eax, %eax
    lea user_stack-64(%rip), %rdi
    push %rcx
    mov $40, %ecx
    rep stosb
    pop %rcx
    dec %ecx
    jnz 1b
    report $7
    die
irq:
    push %rax
    mov 8(%rsp), %rax
    report %eax
    pop %rax
trap:
    iretq
"""


def _guest() -> Tiny:
    guest = Tiny(_SOURCE)
    guest.connect(Line(0x30, *_TIMES))
    return guest


def _seen(guest: Tiny) -> tuple[object, ...]:
    assert not guest.alive
    log, ram = guest.log, guest.window.read(0, WINDOW)
    assert log.delivered > 150  # INT3 and interrupts
    return guest.clock, guest.failure, guest.reports, list(log.deliveries), ram


@pytest.mark.parametrize("share", [1.0, 0.9, 0.5])
def test_steps_and_breakpoints_move_no_interrupt(share: float) -> None:
    plain = _guest()
    plain.run(_END)
    watched, chance = _guest(), random.Random(share)
    inferior = PartitionInferior(watched, None)
    places, stops = [watched.engine.state.rip], Counter[Outcome]()
    while watched.alive:
        place = chance.choice(places[-64:])  # some instructions back: soon again
        stepping = len(places) < 1000 or chance.random() < share
        if not stepping:
            watched.engine.insert_breakpoint(place)
        inferior.prepare(stepping)
        stops[watched.run(_END)] += 1
        watched.ticker.steps = 0
        watched.engine.remove_breakpoint(place)
        places.append(watched.engine.state.rip)
    assert stops[Outcome.STEP] > 1000 * share
    assert share == 1.0 or stops[Outcome.BREAKPOINT] > 50
    assert _seen(watched) == _seen(plain)
