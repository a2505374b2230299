# SPDX-License-Identifier: GPL-2.0-or-later
"""The processor's clock and its stops, on small programs."""

import re
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from nanokernel_vm.cpu.engine import ACCESS, NEVER
from nanokernel_vm.partition import Condition, Outcome
from tests.guests import MS, Tiny, link

# Everything that ends, repeats or restarts a translated block.
MIXTURE = """
main:
    mov $20, %ebx
1:  call leaf
    lea buffer(%rip), %rdi
    mov $5, %ecx
    rep stosb
    xor %ecx, %ecx
    rep stosb
    test $3, %ebx
    jz 2f
    lea buffer(%rip), %rsi
    lea copy(%rip), %rdi
    mov $3, %ecx
    rep movsq
2:  fld1
    fstp %st(0)
asks:
    cpuid
    rdtsc
    mov %ebx, %ebx
    decl rounds(%rip)
    jnz 1b
    call rewrite
    call rewrite
    die
leaf:
    nop
    lock incl copy(%rip)
    ret
# Code that writes into the very block it runs in: an earlier, then a later instruction.
rewrite:
    nop
earlier:
    nop
    movb $0x90, earlier(%rip)
    nop
    incb later+1(%rip)
    nop
later:
    mov $1, %al
    ret
.data
rounds: .long 20
buffer: .skip 64
copy: .skip 64
.text
"""


def lengths(source: str, folder: Path) -> dict[int, int]:
    """Address to length of every instruction, by the disassembler's word."""
    file = folder / "guest"
    file.write_bytes(link(source))
    listing = subprocess.run(
        ["objdump", "-d", "-j", ".text", "--insn-width=16", file],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    rows = re.findall(r"^ +([0-9a-f]+):\t((?:[0-9a-f]{2} )+)", listing, re.M)
    return {int(addr, 16): len(code.split()) for addr, code in rows}


def stepped(guest: Tiny) -> list[tuple[int, int]]:
    """Step to the end: rip and clock before every instruction."""
    trace = [(guest.engine.state.rip, guest.clock)]
    while guest.alive:
        guest.engine.prepare(stepping=True)
        guest.ticker.steps = 2
        if guest.run(guest.clock + 10 * MS) is Outcome.STEP:
            trace.append((guest.engine.state.rip, guest.clock))
    return trace


def test_the_clock_is_the_sum_of_instruction_lengths(tmp_path: Path) -> None:
    table, trace = lengths(MIXTURE, tmp_path), stepped(Tiny(MIXTURE))
    table[Tiny(MIXTURE).label("asks")] += ACCESS
    wrong = [
        (hex(rip), after - before, table[rip])
        for (rip, before), (_, after) in pairwise(trace)
        if after - before != table[rip]
    ]
    assert not wrong
    assert len(trace) > 300


def test_the_clock_does_not_depend_on_stops() -> None:
    free = Tiny(MIXTURE)
    free.finish()
    trace = stepped(Tiny(MIXTURE))
    assert trace[-1][1] == free.clock - 1  # all but the halt itself


@pytest.mark.parametrize("distance", [1, 7, 50])
def test_the_clock_does_not_depend_on_pauses(distance: int) -> None:
    free, paused = Tiny(MIXTURE), Tiny(MIXTURE)
    free.finish()
    stops = 0
    while paused.alive:
        paused.ticker.pause = paused.clock + distance
        if paused.run(10 * MS) is not Outcome.PAUSE:
            continue
        stops += 1
        paused.ticker.pause = NEVER
        paused.engine.prepare(stepping=True)
        paused.ticker.steps = 2
        paused.run(10 * MS)
        paused.ticker.steps = 0
        paused.engine.prepare(stepping=False)
    assert paused.clock == free.clock
    assert paused.window.digest() == free.window.digest()
    assert stops > 20


def test_time_stamps_and_port_accesses_know_the_exact_clock() -> None:
    guest = Tiny(
        """
main:
    .rept 10; nop; .endr
first:
    rdtsc
    report %eax
    nop
again:
    rdtscp
    report %eax
second:
    out %al, $0x80
    die
"""
    )
    start = guest.clock
    guest.finish()
    tsc = [value // 5 for value in guest.reports]
    first = guest.label("first")
    assert tsc[1] - tsc[0] == ACCESS + guest.label("again") - first
    times = {port: time for port, _, time in guest.ports.writes}
    assert times[0x80] - tsc[0] == 2 * ACCESS + guest.label("second") - first
    assert tsc[0] > start


# -- breakpoints -------------------------------------------------------------------


def run_to_stop(guest: Tiny, stepping: bool = False) -> Outcome:
    """Continue as a debugger does, past the instruction that it stands at."""
    guest.ticker.passing = guest.engine.state.rip
    guest.ticker.steps = 2 if stepping else 0
    guest.engine.prepare(stepping)
    outcome = guest.run(10_000 * MS)
    guest.ticker.steps = 0
    return outcome


def stops(guest: Tiny) -> list[tuple[Outcome, int]]:
    """Continue to the end: every stop and where it was."""
    found: list[tuple[Outcome, int]] = []
    while (outcome := run_to_stop(guest)) is not Outcome.DEAD:
        found.append((outcome, guest.engine.state.rip))
    return found


LOOP = """
main:
    gate 6, undefined
    gate 3, trap
    mov $3, %ecx
again:
    dec %ecx
    jnz again
faulty:
    ud2
behind:
    int3
    die
undefined:
    addq $2, (%rsp)
    iretq
trap:
    iretq
"""


def test_a_breakpoint_stops_once_before_every_execution() -> None:
    guest = Tiny(LOOP)
    guest.engine.insert_breakpoint(guest.label("again"))
    assert stops(guest) == [(Outcome.BREAKPOINT, guest.label("again"))] * 3


def test_a_breakpoint_at_a_handler_and_at_what_faulted() -> None:
    guest = Tiny(LOOP)
    for name in ("faulty", "undefined", "behind", "trap"):
        guest.engine.insert_breakpoint(guest.label(name))
    found = [rip for _, rip in stops(guest)]
    assert found == [guest.label(n) for n in ("faulty", "undefined", "behind", "trap")]


def test_a_removed_breakpoint_stops_no_more() -> None:
    guest = Tiny(LOOP)
    guest.engine.insert_breakpoint(guest.label("again"))
    run_to_stop(guest)
    guest.engine.remove_breakpoint(guest.label("again"))
    assert stops(guest) == []
    assert not guest.engine.armed(guest.label("again"))


def test_breakpoints_that_were_removed_leave_nothing() -> None:
    guest = Tiny(LOOP)
    for place in range(2000):
        guest.engine.insert_breakpoint(place)
        guest.engine.prepare(stepping=False)
        guest.engine.remove_breakpoint(place)
        assert guest.ticker.places == 1
    guest.engine.forget_breakpoints()
    guest.engine.prepare(stepping=False)
    assert guest.ticker.places == 0


def test_an_inserted_breakpoint_is_not_in_memory() -> None:
    guest = Tiny(LOOP)
    before = guest.window.digest()
    for addr in range(guest.label("main"), guest.label("main") + 1000):
        guest.engine.insert_breakpoint(addr)
    assert guest.window.digest() == before


def test_a_breakpoint_at_a_repeated_instruction_stops_at_every_round() -> None:
    """Like a processor that is stepped over it: a round is an execution."""
    guest = Tiny(
        "main: lea buffer(%rip), %rdi; mov $2, %ecx\nhere: rep stosb\ndie\n"
        ".data\nbuffer: .quad 0"
    )
    guest.engine.insert_breakpoint(guest.label("here"))
    found = stops(guest)
    assert found == [(Outcome.BREAKPOINT, guest.label("here"))] * 3


def test_a_breakpoint_at_code_that_writes_into_its_block_stops_once() -> None:
    guest = Tiny(MIXTURE)
    writer = guest.label("earlier") + 1
    guest.engine.insert_breakpoint(writer)
    assert stops(guest) == [(Outcome.BREAKPOINT, writer)] * 2


# -- steps -------------------------------------------------------------------------


def path(guest: Tiny, count: int) -> list[int]:
    """Step ``count`` times: where every step ended."""
    found = []
    for _ in range(count):
        assert run_to_stop(guest, stepping=True) is Outcome.STEP
        found.append(guest.engine.state.rip)
    return found


def advance(guest: Tiny, name: str) -> None:
    guest.engine.insert_breakpoint(guest.label(name))
    assert run_to_stop(guest) is Outcome.BREAKPOINT
    guest.engine.remove_breakpoint(guest.label(name))


def test_a_step_into_an_exception_ends_at_the_handler() -> None:
    guest = Tiny(LOOP)
    advance(guest, "faulty")
    handler, behind = guest.label("undefined"), guest.label("behind")
    trap = guest.label("trap")
    assert path(guest, 4) == [handler, handler + 5, behind, trap]


def test_a_step_that_meets_a_breakpoint_says_so() -> None:
    guest = Tiny(LOOP)
    advance(guest, "faulty")
    guest.engine.insert_breakpoint(guest.label("undefined"))
    assert run_to_stop(guest, stepping=True) is Outcome.BREAKPOINT


def test_a_step_over_a_system_call_ends_at_its_entry() -> None:
    guest = Tiny(
        """
main:
    wrmsr_label LSTAR, entry
here:
    syscall
    die
entry:
    die
"""
    )
    advance(guest, "here")
    assert path(guest, 1) == [guest.label("entry")]


def test_a_step_of_a_halt_waits_for_what_ends_it() -> None:
    guest = Tiny("main: sti\nhere: hlt\ndie")
    advance(guest, "here")
    guest.ticker.steps = 2
    guest.engine.prepare(stepping=True)
    assert guest.run(5 * MS) is Outcome.QUANTUM
    assert guest.condition is Condition.IDLE


# -- fetches ----------------------------------------------------------------------

# 64 bytes of code end at 2 MiB; the page there is unmapped.  rdx counts what was done.
TO_THE_EDGE = """
main:
    gate 14, fault
    mov %cr3, %rbx
    movq $0, 0x2008(%rbx)
    mov %rbx, %cr3
    mov $0x200000-64, %edi
    mov %rdi, %rcx
    mov ${code}, %eax
1:  mov %eax, (%rcx)
    add $3, %rcx
    cmp $0x200000-4, %ecx
    jbe 1b
    xor %edx, %edx
    jmp *%rdi
fault:
    report 8(%rsp)
    report %edx
    die
"""


@pytest.mark.parametrize("stepping", [False, True])
def test_a_fetch_faults_behind_all_that_was_executed(stepping: bool) -> None:
    """INC RDX, 3 bytes: the last one reaches into the page that is not there."""
    guest = Tiny(TO_THE_EDGE.format(code="0x48c2ff48"), size=4 << 20)
    if stepping:
        stepped(guest)
    else:
        guest.finish()
    assert guest.reports == [0x20_0000 - 1, 21]
    assert guest.engine.state.cr[2] == 0x20_0000
