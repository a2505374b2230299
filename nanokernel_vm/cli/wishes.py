# SPDX-License-Identifier: GPL-2.0-or-later
"""A signal as a wish to stop, never as an exception in the middle of something.

asyncio's own handlers would do but for their end: closing the loop leaves Python's
KeyboardInterrupt behind for whatever still has to be said.
"""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def heard(
    loop: asyncio.AbstractEventLoop, stop: Callable[[], object]
) -> Iterator[None]:
    """Call ``stop`` in ``loop`` at a signal; before and behind, it ends the process.

    Python's C handler writes a byte for each, whatever the process does just then.
    """
    receive, send = socket.socketpair()
    with receive, send:
        receive.setblocking(False)
        send.setblocking(False)

        def hear() -> None:
            receive.recv(4096)
            stop()

        loop.add_reader(receive, hear)
        signal.set_wakeup_fd(send.fileno(), warn_on_full_buffer=False)
        for number in _NUMBERS:
            signal.signal(number, _noted)
        try:
            yield
        finally:
            for number in _NUMBERS:
                signal.signal(number, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            loop.remove_reader(receive)


def _noted(_number: int, _frame: FrameType | None) -> None:
    """The byte is written already."""
