# SPDX-License-Identifier: GPL-2.0-or-later
"""Deadlocks in made-up waits, and what is told of frames on a lock's way."""

from hypothesis import given
from hypothesis import strategies as st

from nanokernel_vm.linux.awareness.locks import Lock, Party, find_cycles
from nanokernel_vm.linux.awareness.stacks import Frame
from nanokernel_vm.linux.awareness.tasks import wait_channel
from nanokernel_vm.linux.awareness.waiters import caller


def party(pid: int) -> Party:
    return Party(pid, f"task{pid}", "write", 0, 0, "")


def lock(owners: list[int], waiters: list[int]) -> Lock:
    return Lock(
        "mutex", 0, "", "locked", tuple(map(party, owners)), tuple(map(party, waiters))
    )


def frame(name: str, pc: int = 1, offset: int | None = 1, module: str = "") -> Frame:
    return Frame(pc, 0, name, offset, module)


def test_two_who_wait_for_each_other_are_a_deadlock() -> None:
    assert list(find_cycles([lock([1], [2, 3]), lock([2], [1])])) == [(2, 1)]


def test_three_in_a_ring_are_one_deadlock() -> None:
    found = list(find_cycles([lock([1], [3]), lock([2], [1]), lock([3], [2, 7])]))
    assert len(found) == 1
    assert set(found[0]) == {1, 2, 3}


def test_who_locks_twice_waits_for_himself() -> None:
    assert list(find_cycles([lock([5], [5])])) == [(5,)]


def test_a_queue_is_no_deadlock() -> None:
    assert list(find_cycles([lock([1], [2, 3]), lock([], [4]), lock([2], [4])])) == []


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=20))
def test_every_deadlock_is_one_and_none_is_missed(waits: list[tuple[int, int]]) -> None:
    found = list(find_cycles(lock([owner], [waiter]) for waiter, owner in waits))
    for cycle in found:
        steps = zip(cycle, (*cycle[1:], cycle[0]), strict=True)
        assert all(step in waits for step in steps)
    left = set(waits)  # take away who waits for nobody until nothing changes
    while left != (kept := {(a, b) for a, b in left if any(b == c for c, _ in left)}):
        left = kept
    assert bool(found) == bool(left)


def test_the_caller_is_behind_the_locks_own_functions() -> None:
    names = ("schedule", "schedule_preempt_disabled", "__mutex_lock.constprop.0")
    frames = [frame(name) for name in names]
    assert caller(frames) == ""
    assert caller([*frames, frame("take", module="nk")]) == "take [nk]"


def test_the_wait_channel_is_a_function_of_its_own_outside_the_scheduler() -> None:
    frames = [
        frame("__schedule", 11),
        frame("schedule", 12),
        frame("inlined", 50, None),
    ]
    assert wait_channel(frames, range(10, 20).__contains__) == ""
    frames += [frame("do_wait", 51), frame("do_syscall_64", 52)]
    assert wait_channel(frames, range(10, 20).__contains__) == "do_wait"
