# SPDX-License-Identifier: GPL-2.0-or-later
"""The outer end of a partition's serial line: what it printed, and who is listening."""

from collections.abc import Callable

_KEEP = 1 << 20


class Console:
    """Collects what a UART transmits and passes it on.

    Attributes:
        output: The last megabyte that was printed.
        sinks: Called with each byte, in the machine's thread.
    """

    def __init__(self) -> None:
        self.output = bytearray()
        self.sinks: list[Callable[[int], None]] = []
        self._goals: dict[bytes, bool] = {}
        self._each_life: set[bytes] = set()

    def transmit(self, byte: int) -> None:
        """Take a byte from the UART."""
        self.output.append(byte)
        for goal, seen in self._goals.items():
            if not seen and byte == goal[-1]:
                self._goals[goal] = self.output.endswith(goal)
        for sink in self.sinks:
            sink(byte)
        if len(self.output) > 2 * _KEEP:
            del self.output[:-_KEEP]

    def watch_for(self, text: bytes, *, each_life: bool = False) -> None:
        """Take note when ``text`` has been printed, from now on or in this life."""
        self._goals[text] = False
        if each_life:
            self._each_life.add(text)

    def begin_life(self) -> None:
        """The partition has been switched on."""
        self._goals.update(dict.fromkeys(self._each_life, False))

    def forget(self, text: bytes) -> None:
        """Watch for ``text`` no more."""
        self._goals.pop(text, None)
        self._each_life.discard(text)

    def seen(self, text: bytes) -> bool:
        """Whether ``text`` has been printed since ``watch_for``."""
        return self._goals.get(text, False)
