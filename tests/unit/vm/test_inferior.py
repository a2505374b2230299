# SPDX-License-Identifier: GPL-2.0-or-later
"""A partition as gdb sees it: memory by page tables, breakpoints, reasons of stops."""

import pytest

from nanokernel_vm.debug import PartitionInferior
from nanokernel_vm.partition import Condition, Outcome
from stub import amd64
from stub.errors import TargetError
from stub.stops import AtBreakpoint, AtWatchpoint, Exited, Signal, Stopped, Watch
from stub.target import BreakpointKind
from tests.guests import MS, WINDOW, Tiny

# Two pages at 1 GiB lie apart and in the wrong order; the third is not mapped, the
# fourth is read-only.
PAGES = """
main:
    mov %cr3, %rbx
    lea table(%rip), %rax
    or $3, %rax
    mov %rax, 0x3000(%rbx)           # the second page directory
    lea table(%rip), %rdi
    lea second(%rip), %rax
    or $3, %rax
    mov %rax, (%rdi)
    lea first(%rip), %rax
    or $3, %rax
    mov %rax, 8(%rdi)
    lea first(%rip), %rax
    or $1, %rax
    mov %rax, 24(%rdi)
    mov %rbx, %cr3
ready:
    mov $0x40000ffc, %ebx
    incl (%rbx)
after:
    mov $0x40001000, %ebx
    mov (%rbx), %al
behind:
    die
.data
.balign 4096
table: .skip 4096
first: .fill 1024, 4, 0x11111111
second: .fill 1024, 4, 0x22222222
"""
VA = 0x4000_0000
RIP = amd64.BY_NAME["rip"].number


@pytest.fixture
def inferior() -> PartitionInferior:
    guest = Tiny(PAGES)
    inferior = PartitionInferior(guest, None)
    inferior.insert_breakpoint(BreakpointKind.SOFTWARE, guest.label("ready"), 1)
    assert resume(inferior) is Outcome.BREAKPOINT
    inferior.remove_all()
    return inferior


def resume(inferior: PartitionInferior) -> Outcome:
    partition = inferior.partition
    inferior.prepare(stepping=False)
    return partition.run(partition.clock + 100 * MS)


def label(inferior: PartitionInferior, name: str) -> int:
    assert isinstance(inferior.partition, Tiny)
    return inferior.partition.label(name)


def test_memory_is_read_page_by_page(inferior: PartitionInferior) -> None:
    assert inferior.read_memory(VA + 0xFFE, 4) == b"\x22\x22\x11\x11"


@pytest.mark.parametrize(("offset", "length"), [(0, 0x2000), (0x1FFF, 1), (0x2000, 0)])
def test_a_read_ends_where_memory_ends(
    inferior: PartitionInferior, offset: int, length: int
) -> None:
    assert len(inferior.read_memory(VA + offset, 0x5000)) == length


@pytest.mark.parametrize("addr", [(1 << 64) - 1, 1 << 63, 1 << 47])
def test_a_read_does_not_wrap(inferior: PartitionInferior, addr: int) -> None:
    assert inferior.read_memory(addr, 16) == b""


def test_reading_sets_no_bit(inferior: PartitionInferior) -> None:
    before = inferior.partition.window.digest()
    for addr in range(VA, VA + 0x4000, 0x100):
        inferior.read_memory(addr, 0x200)
    assert inferior.partition.window.digest() == before


def test_memory_is_written_page_by_page(inferior: PartitionInferior) -> None:
    inferior.write_memory(VA + 0xFFE, b"abcd")
    window = inferior.partition.window
    assert window.read(label(inferior, "second") + 0xFFE, 2) == b"ab"
    assert window.read(label(inferior, "first"), 2) == b"cd"


def test_read_only_memory_is_written_too(inferior: PartitionInferior) -> None:
    inferior.write_memory(VA + 0x3000, b"x")
    assert inferior.read_memory(VA + 0x1000, 1) == b"x"


@pytest.mark.parametrize("addr", [VA + 0x1FFE, (1 << 64) - 2])
def test_a_write_is_done_whole_or_not_at_all(
    inferior: PartitionInferior, addr: int
) -> None:
    before = inferior.partition.window.digest()
    with pytest.raises(TargetError, match="is not mapped"):
        inferior.write_memory(addr, b"abcd")
    assert inferior.partition.window.digest() == before


def test_written_code_is_executed(inferior: PartitionInferior) -> None:
    inferior.write_memory(label(inferior, "ready"), b"\xfa\xf4")  # cli; hlt
    assert resume(inferior) is Outcome.DEAD
    assert inferior.partition.engine.state.rip == label(inferior, "ready") + 2


def test_a_watchpoint_goes_by_the_memory_not_the_address(
    inferior: PartitionInferior,
) -> None:
    inferior.insert_breakpoint(
        BreakpointKind.WRITE, label(inferior, "second") + 4092, 4
    )
    assert resume(inferior) is Outcome.WATCH
    reason = inferior.reason(Outcome.WATCH)
    assert isinstance(reason, AtWatchpoint)
    assert reason.kind is Watch.WRITE
    assert inferior.partition.engine.state.rip == label(inferior, "after")


@pytest.mark.parametrize(
    ("kind", "watch", "places"),
    [
        (BreakpointKind.WRITE, Watch.WRITE, ["after"]),
        (BreakpointKind.READ, Watch.READ, ["after", "behind"]),
        (BreakpointKind.ACCESS, Watch.ACCESS, ["after", "behind"]),
    ],
)
def test_a_watchpoint_over_two_pages(
    inferior: PartitionInferior, kind: BreakpointKind, watch: Watch, places: list[str]
) -> None:
    inferior.insert_breakpoint(kind, VA + 0xFFC, 8)
    for place in places:
        assert resume(inferior) is Outcome.WATCH
        assert inferior.partition.engine.state.rip == label(inferior, place)
        reason = inferior.reason(Outcome.WATCH)
        assert isinstance(reason, AtWatchpoint)
        assert (reason.kind, reason.addr) == (watch, VA + 0xFFC)
    inferior.remove_breakpoint(kind, VA + 0xFFC, 8)
    assert resume(inferior) is Outcome.DEAD


W, R, A = BreakpointKind.WRITE, BreakpointKind.READ, BreakpointKind.ACCESS


@pytest.mark.parametrize(
    ("kinds", "written", "read"),
    [
        ((W, R, A), Watch.WRITE, Watch.READ),
        ((R, W, A), Watch.WRITE, Watch.READ),
        ((A, W, R), Watch.ACCESS, Watch.ACCESS),
        ((R, W), Watch.WRITE, Watch.READ),
        ((W, A), Watch.WRITE, Watch.ACCESS),
        ((R, A), Watch.ACCESS, Watch.READ),
        ((R,), Watch.READ, Watch.READ),
    ],
)
def test_watchpoints_on_one_word_are_told_by_their_own_kind(
    inferior: PartitionInferior,
    kinds: tuple[BreakpointKind, ...],
    written: Watch,
    read: Watch,
) -> None:
    """What reads and writes has written; of two that match, the one set first."""
    for addr in (VA + 0xFFC, VA + 0x1000):
        for kind in kinds:
            inferior.insert_breakpoint(kind, addr, 4)
    for place, addr, expected in (
        ("after", VA + 0xFFC, written),
        ("behind", VA + 0x1000, read),
    ):
        assert resume(inferior) is Outcome.WATCH
        assert inferior.partition.engine.state.rip == label(inferior, place)
        reason = inferior.reason(Outcome.WATCH)
        assert isinstance(reason, AtWatchpoint)
        assert (reason.kind, reason.addr) == (expected, addr)
    assert resume(inferior) is Outcome.DEAD


def test_what_the_debugger_writes_is_not_told(inferior: PartitionInferior) -> None:
    inferior.insert_breakpoint(W, VA + 0x1000, 4)
    inferior.insert_breakpoint(BreakpointKind.SOFTWARE, label(inferior, "after"), 1)
    assert resume(inferior) is Outcome.BREAKPOINT
    inferior.write_memory(VA + 0xFFE, bytes(8))
    assert resume(inferior) is Outcome.DEAD


@pytest.mark.parametrize(
    ("addr", "length", "why"),
    [
        (VA, 0, "0 bytes cannot"),
        (VA, 64 << 30, "more than 1048576"),
        (1 << 47, 8, "0x800000000000 is not canonical"),
        ((1 << 47) - 4, 8, "0x800000000003 is not canonical"),
        ((1 << 64) - 4, 8, "0x10000000000000003 is not canonical"),
    ],
)
@pytest.mark.parametrize("kind", list(BreakpointKind)[2:])
def test_what_cannot_be_watched_is_refused(
    inferior: PartitionInferior, kind: BreakpointKind, addr: int, length: int, why: str
) -> None:
    with pytest.raises(TargetError, match=why):
        inferior.insert_breakpoint(kind, addr, length)
    assert resume(inferior) is Outcome.DEAD


@pytest.mark.parametrize("kind", list(BreakpointKind)[:2])
def test_there_is_no_breakpoint_where_there_can_be_no_code(
    inferior: PartitionInferior, kind: BreakpointKind
) -> None:
    with pytest.raises(TargetError, match="not canonical"):
        inferior.insert_breakpoint(kind, 1 << 47, 1)


def test_a_breakpoint_of_both_kinds_stays_until_both_are_removed(
    inferior: PartitionInferior,
) -> None:
    place = label(inferior, "after")
    for kind in (BreakpointKind.SOFTWARE, BreakpointKind.HARDWARE):
        inferior.insert_breakpoint(kind, place, 1)
    inferior.remove_breakpoint(BreakpointKind.SOFTWARE, place, 1)
    assert resume(inferior) is Outcome.BREAKPOINT
    reason = inferior.reason(Outcome.BREAKPOINT)
    assert isinstance(reason, AtBreakpoint)
    assert reason.hardware


def test_everything_can_be_removed(inferior: PartitionInferior) -> None:
    inferior.insert_breakpoint(BreakpointKind.SOFTWARE, label(inferior, "after"), 1)
    inferior.insert_breakpoint(BreakpointKind.ACCESS, VA + 0xFFC, 8)
    inferior.remove_all()
    assert resume(inferior) is Outcome.DEAD


def test_an_end_is_told_by_what_it_was(inferior: PartitionInferior) -> None:
    assert resume(inferior) is Outcome.DEAD  # halted for good
    assert inferior.reason(Outcome.DEAD) == Exited(1)
    assert not inferior.alive


def test_a_failed_partition_can_still_be_looked_at() -> None:
    guest = Tiny("main: lidt 1f(%rip)\nud2\n1: .word 0\n.quad 0")
    inferior = PartitionInferior(guest, None)
    assert resume(inferior) is Outcome.DEAD
    assert guest.condition is Condition.FAILED
    reason = inferior.reason(Outcome.DEAD)
    assert isinstance(reason, Stopped)
    assert reason.signal == Signal.SEGV
    assert inferior.alive
    assert inferior.read_memory(guest.engine.state.rip, 2) == b"\x0f\x0b"
    (thread,) = inferior.threads()
    assert "failed: triple fault" in thread.extra
    assert resume(inferior) is Outcome.DEAD  # and does not run


def test_addresses_are_physical_before_paging_is_on() -> None:
    guest = Tiny("main: die", base=WINDOW)
    inferior = PartitionInferior(guest, None)
    guest.engine.state.cr[0] &= ~(1 << 31)
    assert inferior.read_memory(guest.label("main"), 2) == b"\xfa\xf4"


def test_a_breakpoint_to_which_the_pc_was_moved_is_hit(
    inferior: PartitionInferior,
) -> None:
    place = label(inferior, "after")
    inferior.insert_breakpoint(BreakpointKind.SOFTWARE, place, 1)
    inferior.write_register(1, RIP, place.to_bytes(8, "little"))
    assert resume(inferior) is Outcome.BREAKPOINT
    assert inferior.partition.engine.state.rip == place
    assert resume(inferior) is Outcome.DEAD  # and not again


def test_a_breakpoint_where_it_stands_is_passed(inferior: PartitionInferior) -> None:
    place = label(inferior, "ready")
    inferior.insert_breakpoint(BreakpointKind.SOFTWARE, place, 1)
    inferior.write_register(1, RIP, place.to_bytes(8, "little"))
    assert resume(inferior) is Outcome.DEAD


def test_removed_breakpoints_leave_no_hooks(inferior: PartitionInferior) -> None:
    places = [label(inferior, "ready") + n for n in range(100)]
    for place in places:
        inferior.insert_breakpoint(BreakpointKind.SOFTWARE, place, 1)
    inferior.remove_all()
    assert not any(inferior.partition.engine.armed(place) for place in places)
    inferior.insert_breakpoint(BreakpointKind.SOFTWARE, label(inferior, "after"), 1)
    assert resume(inferior) is Outcome.BREAKPOINT
