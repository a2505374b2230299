# SPDX-License-Identifier: GPL-2.0-or-later
"""An event loop that waits a moment awake for a debugger's next packet.

A debugger sends packets in bursts, each as soon as it has the answer to the last.
A sleeping process takes longer to wake (some 25 us, more on a virtual machine) than
most answers take to make, so the loop polls for a short while after every packet
before it sleeps, as the Linux kernel's halt polling does (Documentation/virt/kvm/
halt-polling.rst).  It costs at most that while a packet, and nothing where none comes.
"""

import asyncio
from selectors import DefaultSelector, SelectorKey
from time import perf_counter

_AWAKE = 200e-6  # seconds; gdb's own time between two packets is mostly less


class _Selector(DefaultSelector):
    """Polls until ``awake_until`` (of ``perf_counter``) before it sleeps."""

    awake_until = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait for events as the class above does."""
        if timeout is None or timeout > 0:
            while perf_counter() < self.awake_until:
                if ready := super().select(0):
                    return ready
        return super().select(timeout)


class EagerLoop(asyncio.SelectorEventLoop):
    """Make with ``asyncio.Runner(loop_factory=EagerLoop)``."""

    def __init__(self) -> None:
        self._waiting = _Selector()
        super().__init__(self._waiting)

    def stay_awake(self) -> None:
        """Expect another packet right away."""
        self._waiting.awake_until = perf_counter() + _AWAKE
