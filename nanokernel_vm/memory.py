# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine's RAM, one mapping, and the window of it that a partition owns.

Physical addresses throughout.  A window answers for its own bytes only: outside it is
an empty bus, which reads all ones and swallows writes.
"""

import ctypes
import hashlib
import mmap
from collections.abc import Callable
from contextlib import suppress

from nanokernel_vm.errors import LoadError

PAGE_SIZE = 0x1000


class Ram:
    """Physical memory of the whole machine, from address 0.

    Args:
        size: Bytes.
    """

    def __init__(self, size: int) -> None:
        # Private, so that a forked copy of the machine has RAM of its own.
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        try:
            self._map = mmap.mmap(-1, size, flags=flags)
        except OSError as error:
            raise LoadError(
                f"no room for a machine of {size >> 20} MiB: {error.strerror}; "
                "give its partitions less"
            ) from None
        with suppress(OSError):  # a kernel without them
            self._map.madvise(mmap.MADV_HUGEPAGE)
        self.size = size
        self.view = memoryview(self._map)
        self.words = self.view.cast("Q")
        self._anchor = ctypes.c_char.from_buffer(self._map)
        self.pointer = ctypes.addressof(self._anchor)

    def clear(self, base: int, size: int) -> None:
        """Let whole pages read zero; the computer has theirs back."""
        self._map.madvise(mmap.MADV_DONTNEED, base, size)


class Window:
    """The part of RAM that belongs to one partition.

    Args:
        ram: All memory of the machine.
        base: Physical address of the first byte.
        size: Bytes.

    Attributes:
        written: Called with address and length after each write that did not come from
            the processor, which may have translated what was there.
    """

    def __init__(self, ram: Ram, base: int, size: int) -> None:
        self.ram, self.base, self.size = ram, base, size
        self.written: Callable[[int, int], None] = lambda pa, length: None
        self.end = base + size
        self._view, self._words = ram.view, ram.words

    def __contains__(self, pa: int) -> bool:
        return self.base <= pa < self.end

    def pieces(self) -> tuple[range]:
        """The physical addresses that it has."""
        return (range(self.base, self.end),)

    def word(self, pa: int) -> int:
        """Read the aligned 8-byte word at ``pa``; all ones outside the window."""
        if self.base <= pa < self.end:
            return self._words[pa >> 3]
        return 0xFFFF_FFFF_FFFF_FFFF

    def read(self, pa: int, length: int) -> bytes:
        """Read ``length`` bytes, all ones where they lie outside the window."""
        if self.base <= pa and pa + length <= self.end:
            return bytes(self._view[pa : pa + length])
        return bytes(
            self._view[a] if self.base <= a < self.end else 0xFF
            for a in range(pa, pa + length)
        )

    def write(self, pa: int, data: bytes) -> None:
        """Write ``data``; bytes outside the window vanish."""
        if self.base <= pa and pa + len(data) <= self.end:
            self._view[pa : pa + len(data)] = data
            self.written(pa, len(data))
            return
        first, last = max(pa, self.base), min(pa + len(data), self.end)
        if first < last:
            self.write(first, data[first - pa : last - pa])

    def clear(self) -> None:
        """Let all of it read zero, for a processor that has not seen any of it."""
        self.ram.clear(self.base, self.size)

    def digest(self) -> str:
        """SHA-256 of the window's bytes, in hex."""
        return hashlib.sha256(self._view[self.base : self.end]).hexdigest()
