# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may use a port: the check that Unicorn leaves out of IN and OUT.

Intel SDM vol. 1, 19.5 "Protected-Mode I/O": above IOPL, a program needs a clear bit for
every port in the I/O permission bit map of the task state segment.
"""

from collections.abc import Callable

from nanokernel_vm.cpu.delivery import read_virtual
from nanokernel_vm.cpu.engine import Engine, Ports

_MAP_BASE = 102  # of the TSS: where the map begins, 16 bits


class CheckedPorts:
    """Ports behind the check.  A refused access floats and is a #GP to come.

    Args:
        ports: The port space.
        refuse: Told that the instruction at rip must have been a #GP(0).
    """

    def __init__(self, ports: Ports, refuse: Callable[[], None]) -> None:
        self._ports, self._refuse = ports, refuse
        self.engine: Engine | None = None

    def read(self, port: int, size: int) -> int:
        """IN."""
        if self._allowed(port, size):
            return self._ports.read(port, size)
        self._refuse()
        return (1 << 8 * size) - 1

    def write(self, port: int, size: int, value: int) -> None:
        """OUT."""
        if self._allowed(port, size):
            self._ports.write(port, size, value)
        else:
            self._refuse()

    def _allowed(self, port: int, size: int) -> bool:
        engine = self.engine
        if engine is None or engine.ticker.io_privileged():
            return True
        base, limit = engine.task_segment()
        start = self._word(engine, base + _MAP_BASE) + (port >> 3)
        if limit <= _MAP_BASE or start >= limit:
            return False
        bits = self._word(engine, base + start) >> (port & 7)
        return not bits & (1 << size) - 1

    @staticmethod
    def _word(engine: Engine, va: int) -> int:
        raw = read_virtual(engine.address_space(), engine.window, va, 2)
        return 0xFFFF if raw is None else int.from_bytes(raw, "little")
