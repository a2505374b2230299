# SPDX-License-Identifier: GPL-2.0-or-later
"""Every turn of a partition ends, at the same instruction in every run.

A turn is bounded in virtual time, and since whatever leaves the processor costs some,
in work: what a partition executes or fails to execute cannot keep its neighbour or a
debugger waiting.
"""

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from nanokernel_vm.cpu.engine import ACCESS, NEVER
from nanokernel_vm.partition import BUMP, Condition, Outcome
from tests.guests import MS, Line, Tiny, pair

TURN = MS  # ticks
TURNS = 4
PAGE = 4096
# No jump for a page, each of its bytes an access to a port, and a delivery at its end
SLACK = PAGE * (1 + ACCESS) + 16 + BUMP

# Pages of NOPs at every address of the lower half: nothing is ever a jump.
STRAIGHT = """
main:
    gate 0x30, tick
    mov %cr3, %rbx
    lea tables(%rip), %rdi
    lea 0x1000(%rdi), %rsi
    lea 0x2000(%rdi), %rdx
    lea 0x3000(%rdi), %r8
    lea 3(%rdi), %rax
    mov $1, %ecx
1:  mov %rax, (%rbx,%rcx,8)
    inc %ecx
    cmp $256, %ecx
    jne 1b
    xor %ecx, %ecx
2:  lea 3(%rsi), %rax
    mov %rax, (%rdi,%rcx,8)
    lea 3(%rdx), %rax
    mov %rax, (%rsi,%rcx,8)
    lea 3(%r8), %rax
    mov %rax, (%rdx,%rcx,8)
    inc %ecx
    cmp $512, %ecx
    jne 2b
    lea {offset}(%r8), %rdi
    mov $1024, %ecx
    mov ${code}, %eax
    rep stosl
    shr $16, %eax
    mov %ax, (%r8)
    mov %rbx, %cr3
    mov $1, %eax
    shl $39, %rax
    add ${offset}, %rax
    sti
    jmp *%rax
tick:
    iretq
.bss
.balign 4096
tables: .skip 0x5000
.text
"""
FETCH = """
main:
    gate 14, main, 0x8e, 1
    {wreck}
    mov $0x100000000000, %rax
    jmp *%rax
"""
_NOT_CANONICAL = "movl $0x80000000, idt+16*14+8(%rip)"
_UNMAPPED = "movl $0x7fff, idt+16*14+8(%rip)"

PROGRAMS = {
    "NOPs": STRAIGHT.format(code="0x90909090", offset=0),
    "instructions across pages": STRAIGHT.format(code="0x00401f0f", offset=2),
    "port accesses": STRAIGHT.format(code="0xecececec", offset=0),
    "a handler that is not mapped": FETCH.format(wreck=_UNMAPPED),
    "a handler at no address": FETCH.format(wreck=_NOT_CANONICAL),
    "a fault whose handler is itself": "main: gate 6, 1f\n1: ud2",
    "a fault of the handler": "main: gate 6, f, 0x8e, 1\nf: mov $f, %rsp\nud2",
    "a trap whose handler is itself": "main: gate 3, f, 0x8e, 1\nf: int3",
    "a system call that enters itself": """
main:
    mov $EFER, %ecx
    rdmsr
    bts $0, %eax
    wrmsr
    wrmsr_label LSTAR, 1f
1:  syscall
""",
    "a jump to itself": "main: jmp main",
    "a long REP": "main: mov $1, %ecx\nshl $62, %rcx\nmov %rsp, %rdi\nrep stosb",
    "a REP on one byte": """
main:
    mov $-1, %rcx
    mov %rsp, %rsi
1:  rep lodsb
    jmp 1b
""",
    "a REP outside all memory": """
main:
    mov $1, %ecx
    shl $62, %rcx
    mov $0x200000, %edi
    rep stosb
""",
    "a REP of a port": "main: mov $-1, %rcx\nmov %rsp, %rdi\nmov $99, %edx\nrep insb",
    "accesses outside": "main: mov $0x800000, %ebx\n1: mov (%rbx), %al\njmp 1b",
    "a port in a loop": "main: out %al, $0x99\njmp main",
    "CPUID in a loop": "main: cpuid\njmp main",
    "halts that every tick ends": """
main:
    gate 0x30, tick
    sti
1:  hlt
    jmp 1b
tick:
    iretq
""",
    "interrupts without an end": "main: gate 0x30, f, 0x8f, 1\nsti\nf: hlt\njmp f",
}

# A debugger's pause comes at the entry of a block
WITHOUT_BLOCKS = {
    "a handler that is not mapped",
    "a handler at no address",
    "halts that every tick ends",
    "interrupts without an end",
}


class Storm(Line):
    """A line that is raised again as soon as it is taken, or a timer of every tick."""

    def deadline(self) -> int | None:
        """Return a moment after the last."""
        return self.times[0]

    def expire(self, now: int) -> None:
        """Be due again, one period later."""
        super().expire(now)
        self.times = [now + 100]
        del self.expired[:]


def storm(name: str) -> Tiny:
    """The program of that name, with an interrupt every 100 ticks."""
    guest = Tiny(PROGRAMS[name])
    guest.connect(Storm(0x30, 1000))
    return guest


def in_turns(guest: Tiny, run: Callable[[int], Outcome]) -> list[tuple[int, int, int]]:
    """Clock, place and deliveries at the end of each of some turns."""
    ends = []
    for n in range(1, TURNS + 1):
        outcome = run(n * TURN)
        ends.append((guest.clock, guest.engine.state.rip, guest.log.delivered))
        if outcome is Outcome.DEAD:
            break
        assert outcome is Outcome.QUANTUM
    return ends


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("make", [lambda name: Tiny(PROGRAMS[name]), storm])
def test_a_turn_ends(name: str, make: Callable[[str], Tiny]) -> None:
    guest = make(name)
    for n, (clock, _, _) in enumerate(in_turns(guest, guest.run), 1):
        assert not guest.alive or n * TURN <= clock < n * TURN + SLACK
    left = guest.log.delivered + guest.log.violated + len(guest.ports.writes)
    assert left <= guest.clock // min(BUMP, ACCESS)


class Watcher:
    """A debugger that stops and steps a guest at random places."""

    def __init__(self, guest: Tiny, seed: int) -> None:
        self._guest, self._random, self.stops = guest, random.Random(seed), 0

    def run(self, until: int) -> Outcome:
        """Run a turn in pieces."""
        guest = self._guest
        while True:
            guest.ticker.pause = guest.clock + self._random.randrange(TURN // 5)
            outcome = guest.run(until)
            guest.ticker.pause = NEVER
            if outcome is not Outcome.PAUSE:
                return outcome
            outcome = self._step(until)
            if outcome is not Outcome.STEP:
                return outcome

    def _step(self, until: int) -> Outcome:
        guest = self._guest
        for _ in range(self._random.randrange(1, 9)):
            self.stops += 1
            guest.engine.prepare(stepping=True)
            guest.ticker.steps = 2
            outcome = guest.run(until)
            guest.ticker.steps = 0
            guest.engine.prepare(stepping=False)
            if outcome is not Outcome.STEP:
                break
        return outcome


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("make", [lambda name: Tiny(PROGRAMS[name]), storm])
def test_a_turn_ends_at_the_same_instruction_under_a_debugger(
    name: str, make: Callable[[str], Tiny]
) -> None:
    plain, stopped = make(name), make(name)
    watcher = Watcher(stopped, seed=1)
    assert in_turns(stopped, watcher.run) == in_turns(plain, plain.run)
    assert stopped.window.digest() == plain.window.digest()
    assert watcher.stops or name in WITHOUT_BLOCKS


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_turn_can_be_interrupted(name: str) -> None:
    """From another thread, as by a client or a signal, however long it was to be."""
    guest = Tiny(PROGRAMS[name])
    timer = threading.Timer(0.01, guest.engine.interrupt)
    timer.start()
    outcome = guest.run(NEVER >> 1)
    assert outcome in (Outcome.INTERRUPT, Outcome.DEAD, Outcome.QUANTUM)
    timer.join()


@pytest.mark.parametrize("name", ["NOPs", "instructions across pages"])
def test_interrupts_come_in_a_run_without_jumps(name: str) -> None:
    """A page later at most."""
    guest = Tiny(PROGRAMS[name])
    times = [TURN + n * 50_000 for n in range(10)]
    guest.connect(Line(0x30, *times))
    guest.run(TURN + 600_000)
    late = [d.time - due for d, due in zip(guest.log.deliveries, times, strict=True)]
    assert all(0 <= ticks < PAGE + 16 for ticks in late), late


# -- random programs ---------------------------------------------------------------

# One byte sequence each: what ends, repeats, interrupts or wrecks a run.
PIECES = [
    bytes.fromhex(code)
    for code in (
        *("90", "0f1f4000", "48ffc0", "480fafc1", "50", "58", "9c", "fb", "fa", "f4"),
        *("eb00", "e800000000", "0f0b", "cc", "cd30", "0f05", "f3aa", "f3a4", "ac"),
        *("ec", "ee", "e499", "e6f4", "0fa2", "0f31", "48cf", "c3", "0f20d8"),
        *("0f22d8", "0f0138", "488b03", "488903", "f30f1efa", "ebfe", "7500", "e2fe"),
        *("0f0118", "f1", "9bdbe3", "0fae5c2400", "66660f1f840000000000", "31ed"),
    )
]
RANDOM = """
main:
    .irp vector, 0, 3, 6, 13, 14, 0x30
    gate \\vector, handler, 0x8e
    .endr
    mov $0x800000, %ebx
    mov $-1, %rcx
    mov $0x99, %edx
    lea area(%rip), %rdi
    mov %rdi, %rsi
    sti
    jmp code
handler:
    iretq
.balign 4096
code:
    .skip 8192, 0xcc
area:
    .skip 65536
"""
GATES = (14, 6, 13, 3, 0)


def wreck(guest: Tiny, seed: int) -> None:
    """Fill the code with pieces, and damage the gate of a vector after main's end."""
    chosen = random.Random(seed)
    code = b"".join(chosen.choice(PIECES) for _ in range(chosen.choice((4, 30, 900))))
    code += b"\xe9" + (-len(code) - 5 & 0xFFFF_FFFF).to_bytes(4, "little")
    guest.window.write(guest.label("code"), code)
    kind = chosen.randrange(4)
    handler = (b"\xcf", b"\xeb\xfe", b"\x0f\x0b", b"\xfb\x48\xcf")[kind]
    guest.window.write(guest.label("handler"), handler)


def wrecked(seed: int) -> Tiny:
    """A guest of a random program."""
    guest = Tiny(RANDOM)
    wreck(guest, seed)
    guest.connect(Storm(0x30, 5000))
    return guest


@pytest.mark.parametrize("seed", range(30))
def test_turns_of_random_programs(seed: int) -> None:
    plain, stopped = wrecked(seed), wrecked(seed)
    watcher = Watcher(stopped, seed)
    ends = in_turns(plain, plain.run)
    for n, (clock, _, _) in enumerate(ends, 1):
        assert not plain.alive or n * TURN <= clock < n * TURN + SLACK
    assert in_turns(stopped, watcher.run) == ends
    assert stopped.window.digest() == plain.window.digest()
    assert (stopped.condition, stopped.failure) == (plain.condition, plain.failure)


# -- dead stays dead ---------------------------------------------------------------

DEATHS = {
    "an interrupt that ends a halt": "main: sti\n1: hlt\nreport $1\njmp 1b",
    "an interrupt": "main: sti\n1: report $1\njmp 1b",
    "a halt for ever": "main: die\nreport $1\njmp main",
    "a fault": "main: ud2\nreport $1\njmp main",
    "a place without memory": "main: mov $0x40000000, %eax\njmp *%rax",
    "a wish": "main: out %al, $0x98\n1: hlt\nreport $1\njmp 1b",
}


@pytest.mark.parametrize("name", DEATHS)
def test_dead_stays_dead(name: str) -> None:
    guest = Tiny(DEATHS[name])
    guest.ports.actions[0x98] = lambda: guest.shut_down(restart=False)
    guest.connect(Storm(0x30, 1000))
    assert guest.run(TURN) is Outcome.DEAD
    died = guest.condition, guest.failure, guest.clock, list(guest.reports)
    assert died[0] in (Condition.FAILED, Condition.SHUT_DOWN)
    for n in range(2, 6):
        guest.type(lambda _: guest.reschedule(), b"x")
        guest.reschedule()
        assert guest.run(n * TURN) is Outcome.DEAD
    assert (guest.condition, guest.failure, guest.clock, guest.reports) == died
    assert not guest.life.inputs


# -- the neighbour -----------------------------------------------------------------

COUNTS = """
main:
    mov $0x2f8, %edx
    xor %ebx, %ebx
1:  mov %bl, %al
    and $7, %al
    add $0x30, %al
    out %al, %dx
    inc %ebx
    mov $3000, %ecx
2:  dec %ecx
    jnz 2b
    jmp 1b
"""
ROUNDS = 3


def counted(folder: Path, neighbour: str) -> tuple[bytes, int, str]:
    """What a guest printed in some rounds, its clock and memory in the end."""
    machine = pair(folder, neighbour, COUNTS)
    board, guest = machine.boards[1], machine.partitions[1]
    machine.goal = lambda: guest.clock >= ROUNDS * machine.quantum
    while not machine.goal():  # again, if the neighbour has died meanwhile
        machine.run(machine.partitions)
    return bytes(board.console.output), guest.clock, guest.window.digest()


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_neighbour_prints_as_much_as_alone(tmp_path: Path, name: str) -> None:
    alone = counted(tmp_path, "main: sti\n1: hlt\njmp 1b")
    assert len(alone[0]) > 100
    assert counted(tmp_path, PROGRAMS[name]) == alone
