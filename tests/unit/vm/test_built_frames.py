# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames as Linux moves them, without Linux."""

import struct

import pytest

from nanokernel_vm.abi.frame import (
    FRAME_SIZE,
    HARDWARE_SIZE,
    WORD_OFFSETS,
    Class,
    Hardware,
)
from nanokernel_vm.debug.monitor.frames import answer, text
from nanokernel_vm.nanokernel import frames as module
from nanokernel_vm.nanokernel.frames import LOG_LENGTH, REMEMBERED, Frames

STACK = 0x4000
PARENT, CHILD = 0xFFFF_C900_0000_4000, 0xFFFF_C900_0000_8000
TOP = STACK - FRAME_SIZE
USER = Hardware(0x40_1000, 0x33, 0x246, 0x7FFE_0000, 0x2B)
KERNEL = Hardware(0xFFFF_FFFF_8100_0000, 0x10, 0x46, PARENT + 0x3000, 0x18)
IRET_AT = 0xFFFF_FFFF_81A0_0000


class Memory:
    """A guest's stacks."""

    def __init__(self) -> None:
        self.bytes: dict[int, int] = dict(enumerate(b"\x48\xcf", IRET_AT))
        self.time = 0
        self.frames = Frames(self, STACK)

    def now(self) -> int:
        return self.time

    def read_virtual(self, va: int, length: int) -> bytes | None:
        found = [self.bytes.get(va + i) for i in range(length)]
        return None if None in found else bytes(b for b in found if b is not None)

    def write(self, va: int, data: bytes) -> None:
        self.bytes.update(enumerate(data, va))

    def build(self, at: int, hardware: Hardware = USER, vector: int = 0x100) -> int:
        words = self.frames.words(vector, at, hardware)
        self.write(at, struct.pack("<11Q", *hardware, *words))
        self.frames.built()
        return at

    def copy(self, source: int, to: int) -> int:
        data = self.read_virtual(source, FRAME_SIZE)
        assert data is not None
        self.write(to, data)
        return to

    def set(self, at: int, **fields: int) -> None:
        for name, value in fields.items():
            place = at + 8 * Hardware._fields.index(name)
            self.write(place, struct.pack("<Q", value))

    def counts(self) -> dict[Class, int]:
        return {kind: n for kind, n in self.frames.counts.items() if n}


@pytest.fixture
def guest() -> Memory:
    return Memory()


def test_a_frame_comes_back(guest: Memory) -> None:
    at = guest.build(PARENT + TOP)
    assert len(guest.frames.out) == 1
    assert guest.frames.returns(at) == ""
    assert guest.counts() == {Class.SAME: 1}
    assert len(guest.frames.out) == 0
    assert list(guest.frames.log) == []


def test_nested_frames_come_back_in_turn(guest: Memory) -> None:
    outer = guest.build(PARENT + TOP)
    inner = guest.build(PARENT + 0x2000, KERNEL, 0x30)
    assert [guest.frames.returns(inner), guest.frames.returns(outer)] == ["", ""]
    assert guest.counts() == {Class.SAME: 2}
    assert guest.frames.switched == guest.frames.unwound == 0


def test_fork_s_child_returns_through_a_copy(guest: Memory) -> None:
    parent = guest.build(PARENT + TOP)
    child = guest.copy(parent, CHILD + TOP)
    guest.frames.returns(parent)
    guest.frames.returns(child)
    assert guest.counts() == {Class.SAME: 1, Class.COPY: 1}
    assert guest.frames.log[-1].changed == ()


def test_a_thread_returns_to_a_stack_of_its_own(guest: Memory) -> None:
    parent = guest.build(PARENT + TOP)
    child = guest.copy(parent, CHILD + TOP)
    guest.set(child, sp=0x7000_0000)
    guest.frames.returns(child)
    assert guest.counts() == {Class.COPY: 1}
    assert guest.frames.log[-1].changed == ("sp",)
    assert len(guest.frames.out) == 1


@pytest.mark.parametrize(
    "fields", [{"ip": 1}, {"ip": 1, "sp": 2}, {"flags": 0x346}, {"cs": 0x23}]
)
def test_a_rewritten_frame_says_what_was_rewritten(
    guest: Memory, fields: dict[str, int]
) -> None:
    at = guest.build(PARENT + TOP)
    guest.set(at, **fields)
    assert guest.frames.returns(at) == ""
    assert guest.counts() == {Class.REWRITTEN: 1}
    assert guest.frames.log[-1].changed == tuple(fields)
    assert guest.frames.causes == {(Class.REWRITTEN, 0x100, tuple(fields)): 1}


def test_a_frame_moved_down_its_stack(guest: Memory) -> None:
    at = guest.build(PARENT + 0x2000, KERNEL, 3)
    guest.frames.returns(guest.copy(at, at - 96))
    assert guest.counts() == {Class.MOVED: 1}
    assert len(guest.frames.out) == 0


def test_a_kernel_thread_s_first_exec(guest: Memory) -> None:
    at = PARENT + TOP
    guest.write(at, struct.pack("<5Q", *USER) + bytes(FRAME_SIZE - HARDWARE_SIZE))
    assert guest.frames.returns(at) == ""
    assert guest.counts() == {Class.UNBORN: 1}


@pytest.mark.parametrize("word", WORD_OFFSETS._fields)
def test_every_damaged_word_is_found(guest: Memory, word: str) -> None:
    at = guest.build(PARENT + TOP)
    place = at + getattr(WORD_OFFSETS, word)
    guest.bytes[place] ^= 1
    why = guest.frames.returns(at)
    assert f"corrupt interrupt frame at {at:#x}" in why
    assert "expected 0x" in why
    assert "found 0x" in why
    assert guest.counts() == {Class.CORRUPT: 1}


def test_a_frame_that_is_not_mapped(guest: Memory) -> None:
    assert guest.frames.returns(0x1000).endswith("0x1000: not mapped")
    assert guest.counts() == {Class.CORRUPT: 1}


def test_a_frame_returns_once(guest: Memory) -> None:
    at = guest.build(PARENT + TOP)
    child = guest.copy(at, CHILD + TOP)
    for frame in (at, at, child, child):
        assert guest.frames.returns(frame) == ""
    assert guest.counts() == {Class.SAME: 1, Class.COPY: 1, Class.REPLAYED: 2}


def test_an_exited_task_s_frame_is_given_up_with_its_stack(guest: Memory) -> None:
    guest.build(CHILD + TOP)
    guest.build(CHILD + 0x2000, KERNEL, 0x30)
    guest.build(CHILD + TOP)
    assert guest.frames.abandoned == 2
    assert len(guest.frames.out) == 1


def test_a_copy_overlays_what_was_left_on_its_stack(guest: Memory) -> None:
    guest.build(CHILD + TOP)
    parent = guest.build(PARENT + TOP)
    guest.frames.returns(guest.copy(parent, CHILD + TOP))
    assert guest.frames.abandoned == 1


def test_what_lies_below_a_return_is_unwound(guest: Memory) -> None:
    at = guest.build(PARENT + TOP)
    guest.build(PARENT + 0x2000, KERNEL, 14)
    guest.frames.returns(at)
    assert guest.frames.unwound == 1
    assert len(guest.frames.out) == 0


def test_another_stack_s_frame_returns_first(guest: Memory) -> None:
    one = guest.build(PARENT + TOP)
    other = guest.build(CHILD + TOP)
    guest.frames.returns(one)
    assert guest.frames.switched == 1
    guest.frames.returns(other)
    assert guest.frames.switched == 1
    assert guest.counts() == {Class.SAME: 2}


@pytest.mark.parametrize("copied", [False, True])
def test_an_iret_that_faults_has_not_returned(guest: Memory, copied: bool) -> None:
    at = guest.build(PARENT + TOP)
    if copied:
        at = guest.copy(at, CHILD + TOP)
    guest.set(at, cs=0x1234)
    guest.frames.returns(at)
    fault = KERNEL._replace(ip=IRET_AT, sp=at)
    guest.build(at - 0x100, fault, 13)
    guest.set(at, cs=0x33, ip=0x40_5000)
    assert guest.frames.returns(at) == ""
    assert guest.frames.refused == 1
    kind = Class.COPY if copied else Class.REWRITTEN
    assert guest.counts() == {kind: 2}


@pytest.mark.parametrize(
    "fault",
    [
        KERNEL._replace(ip=IRET_AT, sp=PARENT + TOP - 8),
        KERNEL._replace(ip=IRET_AT + 1, sp=PARENT + TOP),
        USER._replace(sp=PARENT + TOP),
    ],
)
def test_another_fault_takes_nothing_back(guest: Memory, fault: Hardware) -> None:
    at = guest.build(PARENT + TOP)
    guest.frames.returns(at)
    guest.build(at - 0x100, fault, 13)
    assert guest.frames.refused == 0
    guest.frames.returns(at)
    assert guest.counts() == {Class.SAME: 1, Class.REPLAYED: 1}


def test_nothing_grows_for_ever(guest: Memory) -> None:
    for _ in range(LOG_LENGTH + REMEMBERED):
        at = guest.build(PARENT + TOP)
        guest.set(at, ip=1)
        guest.frames.returns(at)
    assert len(guest.frames.log) == LOG_LENGTH
    assert len(guest.frames._back) == REMEMBERED
    assert guest.frames.counts[Class.REWRITTEN] == LOG_LENGTH + REMEMBERED


def test_the_report_counts_and_lists(guest: Memory) -> None:
    at = guest.build(PARENT + TOP)
    guest.set(at, ip=0x40_2000)
    guest.time = 400_000_000
    guest.frames.returns(at)
    lines = list(text(answer("guest", guest.frames, 5)))
    assert lines[0] == "guest: 1 frames built, 0 are out"
    assert [line.split()[:2] for line in lines[1:8]] == [
        [str(int(kind is Class.REWRITTEN)), kind.value] for kind in Class
    ]
    assert lines[-2] == "the last 1 that were not the same:"
    assert lines[-1] == (
        "    1.000000 s  rewritten  #1 vector 0x100  at 0xffffc90000007fa8  "
        "to 0x0000000000402000 cpl 3  changed ip"
    )
    assert list(text(answer("guest", guest.frames, 0)))[-1].startswith("the last 0")


def test_the_report_of_plain_frames() -> None:
    lines = list(text(answer("host", None, 5)))
    assert lines == ["host: plain frames, which nobody follows"]


# -- what a guest can make grow ------------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let only few frames be out."""
    monkeypatch.setattr(module, "OUT", 8)
    monkeypatch.setattr(module, "CAUSES", 8)
    return 8


def sizes(frames: Frames) -> list[int]:
    """Everything that is kept of stacks and frames."""
    kept = (frames._out, frames._stacks, frames._copied, frames.causes, frames._back)
    return [len(table) for table in kept]


@pytest.mark.parametrize("distance", [STACK, 0x100])
def test_frames_on_ever_new_stacks(guest: Memory, few: int, distance: int) -> None:
    """Or far down on one that is as large as the guest says."""
    guest.frames.stack_size = STACK if distance == STACK else 1 << 63
    for n in range(1000, 0, -1):
        guest.build(CHILD + n * distance + TOP % 0x100)
    frames = guest.frames
    assert max(sizes(frames)) <= few
    assert sum(map(len, frames._stacks.values())) == len(frames.out) == few
    assert frames.forgotten == 1000 - few


def test_returns_through_copies_on_ever_new_stacks(guest: Memory, few: int) -> None:
    original = guest.build(PARENT + TOP)
    for n in range(1000):
        guest.frames.returns(guest.copy(original, CHILD + n * STACK + TOP))
    assert max(sizes(guest.frames)) <= few


def test_returns_for_ever_new_reasons(guest: Memory, few: int) -> None:
    for vector in range(1000):
        at = guest.build(PARENT + TOP, vector=vector)
        guest.set(at, ip=1)
        guest.frames.returns(at)
    assert len(guest.frames.causes) == few
    assert guest.frames.counts[Class.REWRITTEN] == 1000


def test_stacks_without_frames_are_not_kept(guest: Memory) -> None:
    for n in range(100):
        assert guest.frames.returns(guest.build(CHILD + n * STACK + TOP)) == ""
    assert sizes(guest.frames)[:2] == [0, 0]


def test_a_frame_that_was_forgotten_returns(guest: Memory, few: int) -> None:
    """It may be the first process's, which waits since the beginning."""
    first = guest.build(PARENT + TOP)
    for n in range(2 * few):
        guest.build(CHILD + n * STACK + TOP)
    assert guest.frames.returns(first) == ""
    assert guest.frames.counts[Class.SAME] == 1
    assert guest.frames.counts[Class.REPLAYED] == 0
