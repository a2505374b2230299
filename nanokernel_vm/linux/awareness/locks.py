# SPDX-License-Identifier: GPL-2.0-or-later
"""Locks that somebody waits for: who owns them, who waits, which waits are cycles.

A sleeping lock's waiter stands on the stack of the task that waits (kernel/locking/
mutex.c, rwsem.c, semaphore.c) and is linked into the lock's list, whose head is in the
lock.  So locks are found from the stacks, with no help of a debug option.  A spinlock
that the CPU spins on is found from the CPU's registers; Linux keeps no owner of it
unless it was built with CONFIG_DEBUG_SPINLOCK.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from drgn import Object, Program, cast, container_of, sizeof
from drgn.helpers.linux.locking import RwsemLocked, rwsem_locked, rwsem_owner
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.sched import cpu_curr, task_on_cpu
from drgn.helpers.linux.slab import slab_object_info

from nanokernel_vm.linux.awareness.kernel import (
    Awareness,
    Cpu,
    clock,
    has,
    symbol_text,
    text_of,
    understood,
)
from nanokernel_vm.linux.awareness.stacks import Frame, cpu_trace, task_frames
from nanokernel_vm.linux.awareness.tasks import last_switch

_QUEUE_MAX = 4096
_OWNER_FLAGS = 7  # low bits of an owner word: struct task_struct is aligned


@dataclass(frozen=True, slots=True)
class Party:
    """A task that owns a lock or waits for it.

    Attributes:
        mode: "write" or "read"; for a lock that knows no readers "write".
        since: When it went to sleep or, for an owner, last switched: nanoseconds of
            the kernel's clock.
        age: Nanoseconds from then until now.
        caller: The function that asked for the lock; of an owner, where it is.
    """

    pid: int
    name: str
    mode: str
    since: int
    age: int
    caller: str


@dataclass(frozen=True, slots=True)
class Lock:
    """One lock that somebody waits for.

    Attributes:
        kind: "mutex", "rwsem", "semaphore" or "spinlock".
        address: Of the ``struct mutex`` or what it is.
        name: The variable, or the slab object that it is in; empty if unknown.
        state: What the lock itself says.
        owners: Who has it, as far as the lock keeps that: of a rwsem's readers one
            that may have left; of a spinlock that this CPU already has, its task.
        waiters: In the queue's order; of a spinlock, who spins.
    """

    kind: str
    address: int
    name: str
    state: str
    owners: tuple[Party, ...]
    waiters: tuple[Party, ...]


@dataclass(frozen=True, slots=True)
class Locks:
    """All of them.

    Attributes:
        cycles: Deadlocks: each a tuple of pids of which every one waits for the next,
            and the last for the first.
    """

    locks: tuple[Lock, ...]
    cycles: tuple[tuple[int, ...], ...]


class _Kind(NamedTuple):
    waiter: str
    lock: str
    head: str
    functions: tuple[str, ...]  # in which a waiter sleeps, without gcc's suffixes


_SLEEPING = {
    "mutex": _Kind(
        "struct mutex_waiter", "struct mutex", "wait_list",
        ("__mutex_lock", "__mutex_lock_common", "__ww_mutex_lock"),
    ),
    "rwsem": _Kind(
        "struct rwsem_waiter", "struct rw_semaphore", "wait_list",
        ("rwsem_down_read_slowpath", "rwsem_down_write_slowpath"),
    ),
    "semaphore": _Kind(
        "struct semaphore_waiter", "struct semaphore", "wait_list",
        ("__down", "__down_common", "___down_common", "__down_interruptible",
         "__down_killable", "__down_timeout"),
    ),
}  # fmt: skip
_SPINNING = (
    "native_queued_spin_lock_slowpath",
    "queued_spin_lock_slowpath",
    "__pv_queued_spin_lock_slowpath",
)


class _Waiter(NamedTuple):
    kind: str
    node: int  # address of its list_head
    task: Object
    mode: str
    caller: str


@understood
def locks(kernel: Awareness, cpu: Cpu = Cpu()) -> Locks:  # noqa: B008 - frozen
    """Return every lock that a task waits for or spins on, and the deadlocks."""
    survey = _Survey(kernel.program, cpu)
    found = (*survey.sleeping(), *survey.spinning())
    return Locks(found, tuple(find_cycles(found)))


def find_cycles(found: Iterable[Lock]) -> Iterator[tuple[int, ...]]:
    """Yield every cycle of tasks that wait for each other, each once."""
    waits: dict[int, set[int]] = {}
    for lock in found:
        for waiter in lock.waiters:
            owners = waits.setdefault(waiter.pid, set())
            owners.update(owner.pid for owner in lock.owners)
    seen: set[frozenset[int]] = set()
    for start in waits:
        path = _cycle_through(start, waits)
        if path and frozenset(path) not in seen:
            seen.add(frozenset(path))
            yield path


def _cycle_through(start: int, waits: dict[int, set[int]]) -> tuple[int, ...]:
    paths: list[tuple[int, ...]] = [(start,)]
    visited: set[int] = set()
    while paths:
        path = paths.pop()
        for owner in sorted(waits.get(path[-1], ())):
            if owner == start:
                return path
            if owner not in visited:
                visited.add(owner)
                paths.append((*path, owner))
    return ()


class _Survey:
    """One look at all stacks."""

    def __init__(self, program: Program, cpu: Cpu) -> None:
        self._program, self._cpu = program, cpu
        self._now = clock(program, cpu.tsc)

    def sleeping(self) -> Iterator[Lock]:
        """Yield the mutexes and semaphores."""
        waiters = {
            waiter.node: waiter
            for task in for_each_task(self._program)
            if not task_on_cpu(task) and task.stack
            for waiter in self._waiters(task)
        }
        queued: set[int] = set()
        for node, waiter in waiters.items():
            if node not in queued:
                head, nodes = _queue(self._program, node, waiters)
                queued.update(nodes)
                yield self._lock(waiter.kind, head, [waiters[n] for n in nodes])

    def _waiters(self, task: Object) -> Iterator[_Waiter]:
        frames = task_frames(task, self._cpu)
        for name, kind in _SLEEPING.items():
            index = _index(frames, kind.functions)
            if index is None:
                continue
            mode = "read" if "_read_" in frames[index].name else "write"
            caller = _caller(frames[index + 1 :])
            for node in _nodes(self._program, kind, task, frames):
                yield _Waiter(name, node, task, mode, caller)

    def _lock(self, name: str, head: int, waiters: list[_Waiter]) -> Lock:
        kind = _SLEEPING[name]
        node = Object(self._program, "struct list_head *", head)
        lock = container_of(node, kind.lock, kind.head)
        state, mode, owner = _STATES[name](lock)
        return Lock(
            kind=name,
            address=lock.value_(),
            name=name_of(self._program, lock.value_()),
            state=state,
            owners=(self._party(owner, mode),) if owner else (),
            waiters=tuple(self._party(w.task, w.mode, w.caller) for w in waiters),
        )

    def _party(self, task: Object, mode: str, caller: str = "") -> Party:
        running = bool(task_on_cpu(task))
        since = last_switch(task, running)
        return Party(
            pid=task.pid.value_(),
            name=text_of(task.comm),
            mode=mode,
            since=since,
            age=max(self._now - since, 0),
            caller=caller or _caller(task_frames(task, self._cpu)),
        )

    def spinning(self) -> Iterator[Lock]:
        """Yield the spinlock that the CPU spins on, if it does."""
        if not self._cpu.registers:
            return
        trace = cpu_trace(self._program, self._cpu.registers)
        for number, frame in enumerate(trace):
            if (frame.name or "").partition(".")[0] not in _SPINNING:
                continue
            address = frame.register("rdi")  # its argument; the loops leave it there
            frames = task_frames(cpu_curr(self._program, 0), self._cpu)[number + 1 :]
            spinner = self._party(cpu_curr(self._program, 0), "write", _caller(frames))
            yield self._spinlock(address, spinner)

    def _spinlock(self, address: int, spinner: Party) -> Lock:
        lock = Object(self._program, "raw_spinlock_t *", address)
        word = int.from_bytes(self._program.read(address, 4), "little")
        owner = _debug_owner(lock)
        if owner:
            owners: tuple[Party, ...] = (self._party(owner, "write"),)
        else:
            owners = ()
        state = f"locked, word {word:#x}" if word & 0xFF else f"free, word {word:#x}"
        name = name_of(self._program, address)
        return Lock("spinlock", address, name, state, owners, (spinner,))


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
)  # fmt: skip


def _caller(frames: Iterable[Frame]) -> str:
    """The innermost function that is not a lock's own or the scheduler's."""
    for frame in frames:
        if frame.name and not frame.name.startswith(_ASKING):
            return frame.name + (f" [{frame.module}]" if frame.module else "")
    return ""


def _nodes(
    program: Program, kind: _Kind, task: Object, frames: list[Frame]
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


def _queue(
    program: Program, node: int, waiters: dict[int, _Waiter]
) -> tuple[int, list[int]]:
    """The head of the list that a waiter is in, and the waiters in their order."""
    ring = [node]
    while (after := program.read_u64(ring[-1])) != node:
        ring.append(after)
        if len(ring) > _QUEUE_MAX:
            raise ValueError(f"the list at {node:#x} has no end")
    heads = [number for number, entry in enumerate(ring) if entry not in waiters]
    if len(heads) != 1:
        raise ValueError(f"the queue with {node:#x} has {len(heads)} heads")
    first = heads[0]
    return ring[first], ring[first + 1 :] + ring[:first]


def _mutex_state(lock: Object) -> tuple[str, str, Object | None]:
    word = lock.owner.counter.value_() if has(lock.owner, "counter") else 0
    owner = Object(lock.prog_, "struct task_struct *", word & ~_OWNER_FLAGS)
    return ("locked" if owner else "free"), "write", owner


def _rwsem_state(lock: Object) -> tuple[str, str, Object | None]:
    state = rwsem_locked(lock)
    if state is RwsemLocked.WRITE_LOCKED:
        return "locked for writing", "write", rwsem_owner(lock)
    if state is RwsemLocked.READ_LOCKED:
        readers = lock.count.counter.value_() >> 8  # kernel/locking/rwsem.c
        return f"locked by {readers} readers", "read", rwsem_owner(lock)
    return "free", "write", None


def _semaphore_state(lock: Object) -> tuple[str, str, Object | None]:
    return f"count {lock.count.value_()}", "write", None


_STATES: dict[str, Callable[[Object], tuple[str, str, Object | None]]] = {
    "mutex": _mutex_state,
    "rwsem": _rwsem_state,
    "semaphore": _semaphore_state,
}


def _debug_owner(lock: Object) -> Object | None:
    if not has(lock, "owner"):
        return None
    owner = cast("struct task_struct *", lock.owner)
    return owner if owner.value_() not in (0, (1 << 64) - 1) else None


def name_of(program: Program, address: int) -> str:
    """Return the variable at an address, or the slab object that it is in."""
    name = symbol_text(program, address)
    if name:
        return name
    try:
        info = slab_object_info(program, address)
    except Exception:  # no page, no slab: nothing to be said
        return ""
    if info is None:
        return ""
    return f"{text_of(info.slab_cache.name)} object+{address - info.address:#x}"
