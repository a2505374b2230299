# SPDX-License-Identifier: GPL-2.0-or-later
"""What the pretty printers say, from plain numbers."""

from collections.abc import Callable, Iterator

NODES_MAX = 1000  # of a list; a longer one is cut

_STATES = "RSDTtXZPI"  # fs/proc/array.c: task_state_array
_REPORT = 0x7F
_NOLOAD = 0x402  # TASK_IDLE = TASK_UNINTERRUPTIBLE | TASK_NOLOAD
_OWNER_FLAGS = 7

_FLAGS = (
    (0, "CF"), (2, "PF"), (4, "AF"), (6, "ZF"), (7, "SF"), (8, "TF"), (9, "IF"),
    (10, "DF"), (11, "OF"), (14, "NT"), (16, "RF"), (18, "AC"),
)  # fmt: skip


class BrokenList(Exception):
    """A list does not close; the text says where."""


def nodes(head: int, pair: Callable[[int], tuple[int, int]]) -> Iterator[int]:
    """Yield the addresses of a ``list_head``'s other nodes.

    Args:
        head: Where to begin; not yielded.
        pair: ``next`` and ``prev`` of the node at an address.

    Raises:
        BrokenList: A node's ``prev`` is not the node before it.
    """
    before, node = head, pair(head)[0]
    for _ in range(NODES_MAX):
        after, back = pair(node)
        if back != before:
            raise BrokenList(
                f"{node:#x}'s prev is {back:#x}, not {before:#x} that links to it"
            )
        if node == head:
            return
        yield node
        before, node = node, after


def chain(first: int, after: Callable[[int], int]) -> Iterator[int]:
    """Yield the addresses of an ``hlist``'s nodes, to the null at its end."""
    node = first
    for _ in range(NODES_MAX):
        if not node:
            return
        yield node
        node = after(node)


def count(number: int, noun: str) -> str:
    """A number of things, said so if it was cut."""
    more = " or more" if number >= NODES_MAX else ""
    return f"{number}{more} {noun}" + ("" if number == 1 else "s")


def cpu_list(words: list[int], limit: int | None = None) -> str:
    """A bitmap as a list of ranges: ``0-3,6``; ``none`` if no bit is set.

    Args:
        words: 64 bits each, the lowest first.
        limit: How many bits have a meaning.
    """
    bits = [
        number * 64 + bit
        for number, word in enumerate(words)
        for bit in range(64)
        if word >> bit & 1 and (limit is None or number * 64 + bit < limit)
    ]
    ranges: list[list[int]] = []
    for bit in bits:
        if ranges and ranges[-1][1] == bit - 1:
            ranges[-1][1] = bit
        else:
            ranges.append([bit, bit])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in ranges) or "none"


def state(word: int, exit_state: int) -> str:
    """A task's state as ps(1) has it."""
    if word == _NOLOAD:
        return "I"
    return _STATES[((word | exit_state) & _REPORT).bit_length()]


def owner(word: int) -> int:
    """The task in a mutex's or rwsem's owner word."""
    return word & ~_OWNER_FLAGS & (1 << 64) - 1


def spinlock(word: int) -> str:
    """A queued spinlock's word (include/asm-generic/qspinlock_types.h)."""
    if not word:
        return "unlocked"
    parts = ["locked"] if word & 0xFF else ["unlocked"]
    if word & 0xFF00:
        parts.append("one waits")
    if word >> 18:
        parts.append(f"queue ends at CPU {(word >> 18) - 1}")
    return ", ".join(parts)


def rwsem(count: int) -> str:
    """A rw_semaphore's count (kernel/locking/rwsem.c: RWSEM_WRITER_LOCKED ...)."""
    waits = ", others wait" if count & 2 else ""
    if count & 1:
        return f"locked for writing{waits}"
    readers = count >> 8 & (1 << 55) - 1
    return (f"locked by {readers} readers" if readers else "unlocked") + waits


def flags(word: int) -> str:
    """RFLAGS."""
    return " ".join(name for bit, name in _FLAGS if word >> bit & 1)


def origin(orig_ax: int, cs: int) -> str:
    """What made a ``pt_regs`` (arch/x86/entry/entry_64.S: orig_ax)."""
    signed = orig_ax - (1 << 64) if orig_ax >> 63 else orig_ax
    where = "user" if cs & 3 else "kernel"
    if cs & 3 and signed >= 0:
        return f"{where}, system call or error code {signed}"
    return f"{where}, interrupt or exception" + (f" ({signed})" if signed != -1 else "")
