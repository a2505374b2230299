# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiters of sleeping locks, found on the stacks of the tasks that wait.

A waiter is a local variable of the function in which its task sleeps, linked into the
lock's list, whose head is in the lock (kernel/locking/mutex.c, rwsem.c, semaphore.c).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from drgn import Object, Program, sizeof

from nanokernel_vm.linux.awareness.stacks import Frame

_QUEUE_MAX = 4096


class Kind(NamedTuple):
    """One kind of lock.

    Attributes:
        waiter: C type of what stands on the stack.
        lock: C type of the lock.
        head: The list's head in it.
        functions: In which a waiter sleeps, without the suffixes that gcc appends.
    """

    waiter: str
    lock: str
    head: str
    functions: tuple[str, ...]


SLEEPING = {
    "mutex": Kind(
        "struct mutex_waiter", "struct mutex", "wait_list",
        ("__mutex_lock", "__mutex_lock_common", "__ww_mutex_lock"),
    ),
    "rwsem": Kind(
        "struct rwsem_waiter", "struct rw_semaphore", "wait_list",
        ("rwsem_down_read_slowpath", "rwsem_down_write_slowpath"),
    ),
    "semaphore": Kind(
        "struct semaphore_waiter", "struct semaphore", "wait_list",
        ("__down", "__down_common", "___down_common", "__down_interruptible",
         "__down_killable", "__down_timeout"),
    ),
}  # fmt: skip


class Waiter(NamedTuple):
    """A task in a lock's queue.

    Attributes:
        kind: A key of ``SLEEPING``.
        node: Address of its ``list_head``, which it begins with.
        mode: "write" or "read".
        caller: The function that asked for the lock.
    """

    kind: str
    node: int
    task: Object
    mode: str
    caller: str


def waiters(task: Object, frames: list[Frame]) -> Iterator[Waiter]:
    """Yield what a ``struct task_struct *`` that sleeps has on its stack."""
    for name, kind in SLEEPING.items():
        index = _index(frames, kind.functions)
        if index is None:
            continue
        mode = "read" if "_read_" in frames[index].name else "write"
        asked = caller(frames[index + 1 :])
        for node in _nodes(task.prog_, kind, task, frames):
            yield Waiter(name, node, task, mode, asked)


def _index(frames: list[Frame], functions: tuple[str, ...]) -> int | None:
    """The outermost of these functions in the innermost run of them."""
    hits = [
        number
        for number, frame in enumerate(frames)
        if frame.name.partition(".")[0] in functions
    ]
    return hits[-1] if hits else None


# How the functions between a lock's user and the scheduler begin.
_ASKING = (
    "__mutex", "mutex_lock", "__ww_mutex", "ww_mutex", "down", "__down", "rwsem",
    "_raw_spin", "__raw_spin", "do_raw_spin", "spin_lock", "queued_spin",
    "native_queued", "__pv_queued", "schedule", "__schedule", "context_switch",
    "rt_mutex", "__rt_mutex", "__ww_rt_mutex", "rt_spin", "rt_read", "rt_write",
    "rtlock", "rwbase", "__rwbase",
)  # fmt: skip


def caller(frames: Iterable[Frame]) -> str:
    """Return the innermost function that is not a lock's own or the scheduler's."""
    for frame in frames:
        if frame.name and not frame.name.startswith(_ASKING):
            return frame.name + (f" [{frame.module}]" if frame.module else "")
    return ""


def _nodes(
    program: Program, kind: Kind, task: Object, frames: list[Frame]
) -> Iterator[int]:
    """Find a task's waiters on its stack: the task's address, in a list that agrees."""
    waiter = program.type(kind.waiter)
    offset = next(m.offset for m in waiter.members if m.name == "task")
    start = frames[0].sp & ~7
    end = task.stack.value_() + _stack_size(program)
    data = memoryview(program.read(start, end - start)).cast("Q")
    wanted = task.value_()
    for index, word in enumerate(data):
        node = start + 8 * index - offset
        if word == wanted and node >= start and _linked(program, node):
            yield node


def _stack_size(program: Program) -> int:
    return sizeof(program["init_stack"]) if "init_stack" in program else 0x4000


def _linked(program: Program, node: int) -> bool:
    try:
        after, before = program.read_u64(node), program.read_u64(node + 8)
        backs = program.read_u64(after + 8), program.read_u64(before)
    except Exception:  # no list: garbage may lead anywhere
        return False
    return backs == (node, node)


def queue(
    program: Program, node: int, known: Mapping[int, Waiter]
) -> tuple[int, list[int]]:
    """Return the head of the list that a waiter is in, and the nodes in order.

    Raises:
        ValueError: It is no list of known waiters with one head.
    """
    ring = [node]
    while (after := program.read_u64(ring[-1])) != node:
        ring.append(after)
        if len(ring) > _QUEUE_MAX:
            raise ValueError(f"the list at {node:#x} has no end")
    heads = [number for number, entry in enumerate(ring) if entry not in known]
    if len(heads) != 1:
        raise ValueError(f"the queue with {node:#x} has {len(heads)} heads")
    first = heads[0]
    return ring[first], ring[first + 1 :] + ring[:first]
