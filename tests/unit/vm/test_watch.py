# SPDX-License-Identifier: GPL-2.0-or-later
"""Watchpoints: what is seen, once, right after its instruction, and what is not."""

import pytest

from nanokernel_vm.cpu.watch import Access, Watch, pages
from nanokernel_vm.partition import Outcome
from tests.guests import Tiny, symbols
from tests.unit.vm.test_engine import MIXTURE, path, run_to_stop, stops


def watch(guest: Tiny, kinds: Access, begin: int, length: int) -> None:
    """Watch bytes that are where their address says."""
    row = Watch(begin, length, kinds, tuple(pages(begin, length)))
    guest.engine.watch([row])


WATCHED = """
main:
    lea area(%rip), %rdi
    mov $0x11, %eax
    mov %rax, 8(%rdi)
after_store:
    mov 8(%rdi), %rbx
after_load:
    incl 8(%rdi)
after_inc:
    movups %xmm0, (%rdi)
after_vector:
    lea 16(%rdi), %rsp
    push %rax
after_push:
    call leaf
leaf:
    lea area(%rip), %rdi
    mov $3, %ecx
    rep stosq
after_rep:
    mov %al, -1(%rdi)
after_byte:
    die
.data
.balign 16
area: .skip 64
"""
STORES = ("after_store", "after_inc", "after_vector", "after_push")


@pytest.mark.parametrize("offset", [0, 3, 4, 7])
def test_a_watchpoint_stops_once_after_each_store(offset: int) -> None:
    """Also of one that is wider and begins before the watched byte."""
    guest = Tiny(WATCHED)
    watch(guest, Access.WRITE, guest.label("area") + 8 + offset, 1)
    found = stops(guest)
    assert {outcome for outcome, _ in found} == {Outcome.WATCH}
    places = [rip for _, rip in found]
    narrow = {"after_inc"} if offset > 3 else set()
    expected = [guest.label(name) for name in STORES if name not in narrow]
    assert places[:-1] == expected
    assert guest.label("leaf") < places[-1] < guest.label("after_rep")


def test_a_watchpoint_does_not_see_its_neighbours() -> None:
    guest = Tiny(WATCHED)
    watch(guest, Access.READ | Access.WRITE, guest.label("area") + 24, 8)
    assert stops(guest) == []


def test_reads_and_writes_are_told_apart() -> None:
    guest = Tiny(WATCHED)
    watch(guest, Access.READ, guest.label("area") + 8, 8)
    places = [rip for _, rip in stops(guest)]
    assert places == [guest.label("after_load"), guest.label("after_inc")]


def test_a_watchpoint_that_was_removed_before_it_was_told_is_forgotten() -> None:
    guest = Tiny(WATCHED)
    watch(guest, Access.WRITE, guest.label("area") + 8, 8)
    assert run_to_stop(guest) is Outcome.WATCH
    guest.ticker.watched = 1  # as after a store at the end of a slice
    guest.engine.watch(())
    assert path(guest, 1) == [guest.label("after_load")]


def test_a_watchpoint_is_told_with_its_address() -> None:
    guest = Tiny(WATCHED)
    place = guest.label("area") + 8
    watch(guest, Access.WRITE, place, 8)
    run_to_stop(guest)
    assert guest.ticker.address == place
    assert guest.ticker.watched_write


# -- the object, wherever it is --------------------------------------------------------

# A page at 1 GiB, by a table of its own; page faults there are served as Linux serves
# them: a page of zeros on the first touch, a copy on a write to what is read-only.
_MAPPED = """
.macro map page, rights
    lea \\page(%rip), %rax
    or $\\rights, %rax
    mov %rax, table(%rip)
    invlpg (%rdi)
.endm
.macro map_next page, rights
    lea \\page(%rip), %rax
    or $\\rights, %rax
    mov %rax, table+8(%rip)
.endm
main:
    gate 14, fault
    mov %cr3, %rbx
    lea table(%rip), %rax
    or $3, %rax
    mov %rax, 0x3000(%rbx)
    mov %rbx, %cr3
    mov %cr0, %rax
    bts $16, %rax                   # WP: read-only for ring 0, too
    mov %rax, %cr0
    mov $0x40000000, %edi
    lea first(%rip), %rsi
    lea second(%rip), %rdx
start:
    {body}
    die
fault:
    push %rax
    testb $1, 8(%rsp)
    jz 1f
    mov first+8(%rip), %rax         # copy on write
    mov %rax, second+8(%rip)
    map second, 3
    jmp 2f
1:  map first, 3
2:  pop %rax
    add $8, %rsp
    iretq
.data
.balign 4096
table: .skip 4096
first: .fill 512, 8, 5
second: .fill 512, 8, 6
.text
"""
VA = 0x4000_0000


def mapped(body: str) -> Tiny:
    return Tiny(_MAPPED.replace("{body}", body))


def started(body: str) -> Tiny:
    """A guest that is about to run ``body``."""
    guest = mapped(body)
    guest.engine.insert_breakpoint(guest.label("start"))
    assert run_to_stop(guest) is Outcome.BREAKPOINT
    guest.engine.remove_breakpoint(guest.label("start"))
    return guest


def told(guest: Tiny, kinds: Access, begin: int, length: int) -> list[str]:
    """Watch before anything is mapped; the labels of all stops to the end."""
    rows = [Watch(begin, length, kinds, (None,) * len(pages(begin, length)))]
    guest.engine.watch(rows)
    found = stops(guest)
    assert {outcome for outcome, _ in found} <= {Outcome.WATCH}
    names = {guest.label(name): name for name in symbols(guest.source)}
    assert names.keys() >= {rip for _, rip in found}, found
    return [names[rip] for _, rip in found]


BODIES = {
    "not mapped yet": ("movq $7, 8(%rdi)\nhit1:\n", ["hit1"]),
    "copied on write": (
        "map first, 1\nmov 8(%rdi), %rax\nincq 8(%rdi)\nhit1: incq 8(%rdi)\nhit2:\n",
        ["hit1", "hit2"],
    ),
    "mapped elsewhere": (
        "map first, 3\nmovq $7, 8(%rdi)\nhit1: map second, 3\nmovq $8, 8(%rdi)\n"
        "hit2: nop\n",
        ["hit1", "hit2"],
    ),
    "through another address": (
        "map first, 3\nmov (%rdi), %rax\nmovq $7, 8(%rsi)\nhit1: map second, 3\n"
        "mov (%rdi), %rax\nmovq $8, 8(%rdx)\nhit2: nop\n",
        ["hit1", "hit2"],
    ),
    "not where it was": (
        "map first, 3\nmovq $7, 8(%rdi)\nhit1: map second, 3\nmovq $7, 8(%rsi)\n"
        "mov (%rdi), %rax\nmovq $7, 8(%rsi)\n",
        ["hit1"],
    ),
    "not where nothing leads any more": (
        "map first, 3\nmovq $7, 8(%rdi)\nhit1: map first, 0\nmovq $7, 8(%rsi)\n",
        ["hit1"],
    ),
    "an alias that is in the TLB": (
        "mov (%rdx), %rax\nmov %rax, (%rdx)\nmap second, 3\nmov (%rdi), %rax\n"
        "movq $7, 8(%rdx)\nhit1: nop\n",
        ["hit1"],
    ),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_watchpoint_follows_its_object(case: str) -> None:
    body, expected = BODIES[case]
    assert told(mapped(body), Access.WRITE, VA + 8, 8) == expected


@pytest.mark.parametrize(
    ("access", "kinds"),
    [
        ("movq $-1, 0xffc(%rdi)", Access.WRITE),
        ("mov 0xffc(%rdi), %rbx", Access.READ),
        ("incq 0xffc(%rdi)", Access.WRITE),
        ("lock incq 0xffc(%rdi)", Access.READ),
        ("movups %xmm0, 0xff4(%rdi)", Access.WRITE),
        ("movups 0xff4(%rdi), %xmm0", Access.READ),
    ],
)
@pytest.mark.parametrize("offset", [0xFFC, 0xFFF, 0x1000, 0x1003])
def test_an_access_over_two_pages(access: str, kinds: Access, offset: int) -> None:
    body = f"map first, 3\nmap_next second, 3\n{access}\nhit1: nop\n"
    assert told(mapped(body), kinds, VA + offset, 1) == ["hit1"]
    for beside in (0xFF3, 0x1004):
        assert told(mapped(body), kinds, VA + beside, 1) == []


@pytest.mark.parametrize("offset", [0, 1, 3, 0xFF9, 0xFFD])
@pytest.mark.parametrize("byte", range(8))
def test_a_read_and_write_happens_once(offset: int, byte: int) -> None:
    """Aligned or not, whichever of its bytes is watched."""
    body = f"map first, 3\nmap_next second, 3\nincq {offset}(%rdi)\nhit1: nop\n"
    plain, guest = mapped(body), mapped(body)
    plain.finish()
    assert told(guest, Access.WRITE, VA + offset + byte, 1) == ["hit1"]
    assert guest.window.digest() == plain.window.digest()
    assert guest.clock == plain.clock


@pytest.mark.parametrize("offset", [1, 3, 5])
@pytest.mark.parametrize(
    ("access", "kinds"),
    [
        ("movl {}(%rdi), %ebx", Access.READ),
        ("movl %ebx, {}(%rdi)", Access.WRITE),
        ("addl %ebx, {}(%rdi)", Access.READ | Access.WRITE),
    ],
)
def test_neighbours_of_what_is_not_aligned(
    offset: int, access: str, kinds: Access
) -> None:
    body = f"map first, 3\n{access.format(16 + offset)}\n"
    for beside in (15 + offset, 20 + offset):
        assert told(mapped(body), kinds, VA + beside, 1) == []


def test_what_an_instruction_touches_before_it_faults_is_told_when_it_is_done() -> None:
    body = "lea first+8(%rip), %rsi\nadd $8, %rdi\nmovsq\nhit1: nop\n"
    guest = mapped(body)
    watch(guest, Access.READ, guest.label("first") + 8, 8)
    assert stops(guest) == [(Outcome.WATCH, guest.label("hit1"))]


# -- stores that no instruction does ---------------------------------------------------


@pytest.mark.parametrize("word", range(1, 7))
def test_what_a_delivery_pushes_is_told_at_the_handler(word: int) -> None:
    """The error code and the five words of a frame."""
    guest = started("movq $7, 8(%rdi)\n")
    watch(guest, Access.WRITE, guest.label("stack") - 8 * word, 8)
    assert run_to_stop(guest) is Outcome.WATCH
    assert guest.engine.state.rip == guest.label("fault")
    assert guest.ticker.address == guest.label("stack") - 8 * word


def test_a_frame_over_two_pages_is_told() -> None:
    guest = started(
        "map first, 3\nmap_next second, 3\nlea 0x1010(%rdi), %rsp\n"
        "mov 0x2000(%rdi), %al"
    )
    watch(guest, Access.WRITE, VA + 0xFF8, 8)
    assert run_to_stop(guest) is Outcome.WATCH
    assert guest.engine.state.rip == guest.label("fault")


def test_what_is_stored_from_outside_is_told() -> None:
    guest = mapped("map first, 3\nmov 8(%rdi), %rax\nhere: nop\n")
    guest.engine.insert_breakpoint(guest.label("here"))
    rows = [Watch(VA + 8, 8, Access.WRITE, (None,))]
    guest.engine.watch(rows)
    assert run_to_stop(guest) is Outcome.BREAKPOINT
    guest.window.write(guest.label("first") + 4, bytes(4))  # not yet
    assert not guest.ticker.watched
    guest.window.write(guest.label("first") + 4, bytes(8))
    assert run_to_stop(guest) is Outcome.WATCH
    assert guest.engine.touched == rows[0]
    assert guest.engine.state.rip == guest.label("here")
    assert run_to_stop(guest) is Outcome.DEAD


def test_what_was_not_told_yet_outlasts_that_watches_are_set_anew() -> None:
    """As gdb does at every stop, in whatever order."""
    guest = mapped("map first, 3\nmov 8(%rdi), %rax\nhere: nop\n")
    guest.engine.insert_breakpoint(guest.label("here"))
    first, other = (Watch(VA + n, 4, Access.WRITE, (None,)) for n in (8, 16))
    guest.engine.watch([first, other])
    assert run_to_stop(guest) is Outcome.BREAKPOINT
    guest.window.write(guest.label("first") + 16, bytes(4))
    again = Watch(VA + 16, 4, Access.WRITE, (guest.label("first"),))
    guest.engine.watch([again, first])
    assert run_to_stop(guest) is Outcome.WATCH
    assert guest.engine.touched == again


# -- with other stops ------------------------------------------------------------------


def test_a_watchpoint_comes_before_a_fault_of_fetching() -> None:
    """The call pushes what is watched, and goes where nothing is."""
    guest = started("mov $0x80000000, %eax\ncall *%rax\n")
    watch(guest, Access.WRITE, guest.label("stack") - 8, 8)
    guest.engine.insert_breakpoint(0x8000_0000)
    assert run_to_stop(guest) is Outcome.WATCH
    assert guest.engine.state.rip == 0x8000_0000
    guest.ticker.passing = (1 << 64) - 1
    assert guest.run(1 << 40) is Outcome.BREAKPOINT


def test_a_step_that_touches_is_one_step() -> None:
    guest = mapped("map first, 3\nhere: incq 8(%rdi)\nhit1: nop\nbehind: nop\n")
    guest.engine.insert_breakpoint(guest.label("here"))
    assert run_to_stop(guest) is Outcome.BREAKPOINT
    watch(guest, Access.WRITE, VA + 8, 8)
    assert run_to_stop(guest, stepping=True) is Outcome.WATCH
    assert guest.engine.state.rip == guest.label("hit1")
    assert path(guest, 1) == [guest.label("behind")]


def test_a_breakpoint_at_what_touches_and_behind_it() -> None:
    guest = mapped("map first, 3\nhere: incq 8(%rdi)\nhit1: nop\n")
    guest.engine.insert_breakpoint(guest.label("here"))
    guest.engine.insert_breakpoint(guest.label("hit1"))
    watch(guest, Access.WRITE, VA + 8, 8)
    here, hit = guest.label("here"), guest.label("hit1")
    assert stops(guest) == [(Outcome.BREAKPOINT, here), (Outcome.WATCH, hit)]


# -- and nothing else ------------------------------------------------------------------


def states(guest: Tiny) -> tuple[object, ...]:
    return guest.clock, guest.reports, guest.window.digest()


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("buffer", Access.WRITE),
        ("copy", Access.READ),
        ("copy", Access.WRITE),
        ("rounds", Access.READ),
        ("rounds", Access.WRITE),
        ("earlier", Access.WRITE),
        ("later", Access.READ | Access.WRITE),
    ],
)
def test_the_run_is_the_same_run(name: str, kinds: Access) -> None:
    plain, guest = Tiny(MIXTURE), Tiny(MIXTURE)
    plain.finish()
    watch(guest, kinds, guest.label(name), 4)
    assert stops(guest)
    assert states(guest) == states(plain)


# Accessed, and that bit cleared without telling the processor: as long as the TLB has
# the page, no access sets it again.
_AGED = """
    map first, 3
    mov (%rdi), %rax
    andb $~0x20, table(%rip)
here:
    mov (%rdi), %rax
    mov %rax, 0x100(%rdi)
    movzbl table(%rip), %eax
    report %eax
"""


@pytest.mark.parametrize("kinds", [Access.READ, Access.WRITE])
@pytest.mark.parametrize("offset", [0x200, 0x100, 0])
def test_watching_fills_no_tlb(kinds: Access, offset: int) -> None:
    plain, guest = mapped(_AGED), mapped(_AGED)
    plain.finish()
    guest.engine.insert_breakpoint(guest.label("here"))
    assert run_to_stop(guest) is Outcome.BREAKPOINT
    for row in (offset, offset + 1):
        guest.engine.watch([Watch(VA + row, 8, kinds, (guest.label("first"),))])
        guest.engine.watch(())
    guest.engine.watch([Watch(VA + offset, 8, kinds, (guest.label("first"),))])
    while run_to_stop(guest) is Outcome.WATCH:
        guest.engine.watch(())
    assert states(guest) == states(plain)
