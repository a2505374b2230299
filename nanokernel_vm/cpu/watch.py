# SPDX-License-Identifier: GPL-2.0-or-later
"""Watchpoints of one processor, by linear address; the work is done in native/watch.c.

A watchpoint is about an address, as in the debug registers (SDM vol. 3, 18.2.4) and in
QEMU and gdbserver, in whichever address space is in force.  So it can be set before
anything is mapped there, and it follows every remapping.  And it is about the memory:
what another address of the same bytes does to them is told as well, as long as the page
tables lead from the watched address to them.  That is a kernel's address in any address
space, a user's in the one that was in force when the watch was set, or in the present
one.  An alias is not seen between a remapping and the first access through the watched
address itself, or the next time that watches are set.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag

from nanokernel_vm.cpu import _interpose, _ticker
from nanokernel_vm.memory import PAGE_SIZE, Window

_NOWHERE = (1 << 64) - 1


class Access(IntFlag):
    """What is done to watched bytes; QEMU's BP_MEM_READ and BP_MEM_WRITE."""

    READ = 1
    WRITE = 2


@dataclass(frozen=True, slots=True)
class Watch:
    """Bytes to be watched.

    Attributes:
        begin: Linear address.
        length: Bytes, from 1.
        kinds: The accesses to stop after.
        places: Physical address of each page's first byte, None where there is none.
    """

    begin: int
    length: int
    kinds: Access
    places: tuple[int | None, ...]

    def same_as(self, other: "Watch | None") -> bool:
        """Whether it is the other one, though the object may have moved."""
        return other is not None and (self.begin, self.length, self.kinds) == (
            other.begin,
            other.length,
            other.kinds,
        )


def pages(begin: int, length: int) -> range:
    """The linear addresses of the pages that ``length`` bytes lie in."""
    return range(begin & -PAGE_SIZE, begin + length, PAGE_SIZE)


class Watches:
    """What is watched on one engine.

    Args:
        ticker: The engine's ticker, which stops it.
        window: Its memory.
    """

    def __init__(self, ticker: _ticker.Ticker, window: Window) -> None:
        self._ticker, self._window = ticker, window
        self._rows: tuple[Watch, ...] = ()
        self._home = 0

    def connect(self, core: _interpose.Core) -> None:
        """Let ``core`` watch what is watched, from now on."""
        self._core = core
        window, ticker = self._window, self._ticker
        core.report_to(
            *(ticker.pointer, _ticker.ON_TOUCH, _ticker.BEGIN_ANEW, _ticker.IS_ALONE),
            *(window.ram.pointer, window.base, window.size),
        )
        core.watch(self._words())

    def set(self, rows: Sequence[Watch], cr3: int) -> None:
        """Watch ``rows`` and nothing else; the order is that of preference."""
        wanted = (tuple(rows), cr3 if rows else 0)
        if wanted == (self._rows, self._home):
            return
        pending = self.take()
        self._rows, self._home = wanted
        numbers = (n for n, row in enumerate(self._rows, 1) if row.same_as(pending))
        self._ticker.watched = next(numbers, 0)
        self._core.watch(self._words())

    def _words(self) -> bytes:
        words = array("Q")
        for row in self._rows:
            words.extend(
                (row.begin, row.length, row.kinds, self._home, len(row.places))
            )
            words.extend(_NOWHERE if pa is None else pa for pa in row.places)
        return words.tobytes()

    def take(self) -> Watch | None:
        """The watch that was touched last, if that has not been told."""
        touched, self._ticker.watched = self._ticker.watched, 0
        return self._rows[touched - 1] if touched else None
