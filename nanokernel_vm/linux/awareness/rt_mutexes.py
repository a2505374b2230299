# SPDX-License-Identifier: GPL-2.0-or-later
"""Locks that lend their owner their waiters' priority (kernel/locking/rtmutex.c).

PREEMPT_RT makes mutexes, rwsems and spinlocks of them; other kernels have them for
futexes and buses.  A task says itself which one it sleeps on (``pi_blocked_on``), so
that nothing is looked for on stacks but the kind.  Who waits for the readers of a
``rw_semaphore`` to leave sleeps on no such lock, and is not found.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from drgn import Object, container_of

from nanokernel_vm.linux.awareness.kernel import has
from nanokernel_vm.linux.awareness.stacks import Frame

_HAS_WAITERS = 1  # in the owner's word


class Kind(NamedTuple):
    """What is made of an ``rt_mutex_base``.

    Attributes:
        lock: Its C type.
        member: Where in it the ``rt_mutex_base`` is.
        functions: How the functions that ask for it begin.
    """

    lock: str
    member: str
    functions: tuple[str, ...]


KINDS = {
    "rt_spinlock": Kind("spinlock_t", "lock", ("rt_spin_lock",)),
    "rt_rwlock": Kind("rwlock_t", "rwbase.rtmutex", ("rt_read_lock", "rt_write_lock")),
    "mutex": Kind(
        "struct mutex", "rtmutex", ("mutex_lock", "__ww_rt_mutex", "ww_mutex")
    ),
    "rwsem": Kind(
        "struct rw_semaphore", "rwbase.rtmutex", ("down_", "__rwbase", "rwbase")
    ),
}
_PLAIN = "rt_mutex"  # none of these
# struct rwbase_rt (include/linux/rwbase_rt.h): readers may come; a writer is in
_READER_BIAS, _WRITER_BIAS = 1 << 31, 1 << 30


class Blocked(NamedTuple):
    """A task that sleeps on such a lock.

    Attributes:
        base: Address of the ``struct rt_mutex_base``.
        priority: By which the kernel sorts the waiters, lower first.
    """

    task: Object
    base: int
    priority: int


def blocked(tasks: Iterable[Object]) -> Iterator[Blocked]:
    """Yield those of ``struct task_struct *`` that sleep on one."""
    for task in tasks:
        waiter = task.pi_blocked_on if has(task, "pi_blocked_on") else None
        if waiter:
            key = waiter.tree if has(waiter, "tree") else waiter
            yield Blocked(task, waiter.lock.value_(), key.prio.value_())


def kind_of(frames: Iterable[Frame]) -> tuple[str, str]:
    """Return what a task asks for, by its stack, and whether to "read" or "write"."""
    for frame in frames:
        for name, kind in KINDS.items():
            if frame.name.startswith(kind.functions):
                return name, "read" if "_read" in frame.name else "write"
    return _PLAIN, "write"


def lock_of(kind: str, base: Object) -> Object:
    """Return the lock that a ``struct rt_mutex_base *`` is part of."""
    if kind not in KINDS:
        return base
    return container_of(base, KINDS[kind].lock, KINDS[kind].member)


def owner_of(base: Object) -> Object | None:
    """Return who has it."""
    word = base.owner.value_() & ~_HAS_WAITERS
    return Object(base.prog_, "struct task_struct *", word) if word else None


def state_of(lock: Object, owner: Object | None) -> str:
    """Return what the lock itself says."""
    if not has(lock, "rwbase"):
        return "locked" if owner else "free"
    word = lock.rwbase.readers.counter.value_() & 0xFFFF_FFFF
    if word & _WRITER_BIAS:
        return "locked for writing"
    readers = word & ~_READER_BIAS
    return f"locked by {readers} readers" if readers else "free"
