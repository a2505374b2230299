# SPDX-License-Identifier: GPL-2.0-or-later
"""Locks that somebody waits for: who owns them, who waits, which waits are cycles.

Sleeping locks are found from the waiters on the stacks, with no help of a debug option;
where they are rt_mutexes (PREEMPT_RT), from what the tasks say themselves.  A spinlock
that the CPU spins on is found from the CPU's registers; Linux keeps no owner of it
unless it was built with CONFIG_DEBUG_SPINLOCK.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from drgn import Object, Program, cast, container_of
from drgn.helpers.linux.cpumask import for_each_online_cpu
from drgn.helpers.linux.locking import RwsemLocked, rwsem_locked, rwsem_owner
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.sched import task_on_cpu
from drgn.helpers.linux.slab import slab_object_info

from nanokernel_vm.linux.awareness import rt_mutexes
from nanokernel_vm.linux.awareness.kernel import (
    Awareness,
    Cpu,
    clock,
    current_task,
    has,
    symbol_text,
    text_of,
    understood,
)
from nanokernel_vm.linux.awareness.stacks import cpu_trace, task_frames
from nanokernel_vm.linux.awareness.tasks import last_switch
from nanokernel_vm.linux.awareness.waiters import (
    SLEEPING,
    Waiter,
    caller,
    queue,
    waiters,
)

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
        kind: "mutex", "rwsem", "semaphore", "spinlock", "rt_mutex"; under PREEMPT_RT
            "rt_spinlock" and "rt_rwlock" for those that sleep.
        address: Of the ``struct mutex`` or what it is.
        name: The variable, or the slab object that it is in; empty if unknown.
        state: What the lock itself says.
        owners: Who has it, as far as the lock keeps that: of a rwsem's readers one
            that may have left; of a spinlock, where there is one CPU, who spins.
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
        broken: Locks whose queues make no sense, in words.
    """

    locks: tuple[Lock, ...]
    cycles: tuple[tuple[int, ...], ...]
    broken: tuple[str, ...] = ()


_SPINNING = (
    "native_queued_spin_lock_slowpath",
    "queued_spin_lock_slowpath",
    "__pv_queued_spin_lock_slowpath",
)


@understood
def locks(kernel: Awareness, cpu: Cpu = Cpu()) -> Locks:  # noqa: B008 - frozen
    """Return every lock that a task waits for or spins on, and the deadlocks."""
    survey = _Survey(kernel.program, cpu)
    found = (*survey.sleeping(), *survey.inheriting(), *survey.spinning())
    return Locks(found, tuple(find_cycles(found)), tuple(survey.broken))


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
        self.broken: list[str] = []

    def sleeping(self) -> Iterator[Lock]:
        """Yield the mutexes and semaphores."""
        known = {
            waiter.node: waiter
            for task in for_each_task(self._program)
            if not task_on_cpu(task) and task.stack
            for waiter in waiters(task, task_frames(task, self._cpu))
        }
        queued: set[int] = set()
        for node, waiter in known.items():
            if node in queued:
                continue
            try:
                head, nodes = queue(self._program, node, known)
                lock = self._lock(waiter.kind, head, [known[n] for n in nodes])
            except Exception as exc:  # one broken queue must not hide the others
                pid = waiter.task.pid.value_()
                self.broken.append(f"{waiter.kind} that {pid} waits for: {exc}")
            else:
                queued.update(nodes)
                yield lock

    def inheriting(self) -> Iterator[Lock]:
        """Yield the rt_mutexes, and what PREEMPT_RT makes of them."""
        queues: dict[int, list[rt_mutexes.Blocked]] = {}
        for row in rt_mutexes.blocked(for_each_task(self._program)):
            queues.setdefault(row.base, []).append(row)
        for address, rows in queues.items():
            try:
                yield self._rt_lock(address, rows)
            except Exception as exc:  # one broken lock must not hide the others
                self.broken.append(f"rt_mutex at {address:#x}: {exc}")

    def _rt_lock(self, address: int, rows: Sequence[rt_mutexes.Blocked]) -> Lock:
        base = Object(self._program, "struct rt_mutex_base *", address)
        waiters, kind = [], ""
        for row in rows:
            frames = task_frames(row.task, self._cpu)
            kind, mode = rt_mutexes.kind_of(frames)
            party = self._party(row.task, mode, caller(frames))
            waiters.append((row.priority, party.since, party))
        lock, owner = rt_mutexes.lock_of(kind, base), rt_mutexes.owner_of(base)
        return Lock(
            kind=kind,
            address=lock.value_(),
            name=name_of(self._program, lock.value_()),
            state=rt_mutexes.state_of(lock, owner),
            owners=(self._party(owner, "write"),) if owner else (),
            waiters=tuple(row[-1] for row in sorted(waiters, key=lambda row: row[:2])),
        )

    def _lock(self, name: str, head: int, waiters: list[Waiter]) -> Lock:
        kind = SLEEPING[name]
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

    def _party(self, task: Object, mode: str, where: str = "") -> Party:
        running = bool(task_on_cpu(task))
        since = last_switch(task, running)
        return Party(
            pid=task.pid.value_(),
            name=text_of(task.comm),
            mode=mode,
            since=since,
            age=max(self._now - since, 0),
            caller=where or caller(task_frames(task, self._cpu)),
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
            frames = task_frames(current_task(self._program), self._cpu)[number + 1 :]
            spinner = self._party(current_task(self._program), "write", caller(frames))
            yield self._spinlock(address, spinner)

    def _spinlock(self, address: int, spinner: Party) -> Lock:
        lock = Object(self._program, "raw_spinlock_t *", address)
        word = int.from_bytes(self._program.read(address, 4), "little")
        owner = _debug_owner(lock)
        if owner:
            owners: tuple[Party, ...] = (self._party(owner, "write"),)
        else:
            owners = (spinner,) if word & 0xFF and self._alone() else ()
        state = f"locked, word {word:#x}" if word & 0xFF else f"free, word {word:#x}"
        name = name_of(self._program, address)
        return Lock("spinlock", address, name, state, owners, (spinner,))

    def _alone(self) -> bool:
        """Whether no other CPU could have a lock: then it is a deadlock.

        This CPU has it itself, or a task that sleeps with it, which is forbidden.
        """
        return len(list(for_each_online_cpu(self._program))) == 1


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
