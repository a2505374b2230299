# SPDX-License-Identifier: GPL-2.0-or-later
"""A device that does something by itself, at a deadline in virtual time."""

from collections.abc import Callable
from typing import ClassVar

from nanokernel_vm.devices.bus import Device


def asleep() -> None:
    """Wake nobody: for a machine that looks at deadlines all the time."""


class TimedDevice(Device):
    """A device with one deadline, in absolute ticks, that the machine heeds.

    Args:
        wake: Called when the deadline has become earlier, so that who waits for the
            old one must look again.
    """

    WIRING: ClassVar[tuple[str, ...]] = ("_wake",)

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__()
        self._wake = wake
        self._deadline: int | None = None

    def deadline(self) -> int | None:
        """When it wants ``expire`` to be called, in ticks; None: never."""
        return self._deadline

    def expire(self, now: int) -> None:
        """Do what is due by ``now``; called at or after the deadline."""
        raise NotImplementedError

    def _set_deadline(self, deadline: int | None) -> None:
        before, self._deadline = self._deadline, deadline
        if deadline is not None and (before is None or deadline < before):
            self._wake()
