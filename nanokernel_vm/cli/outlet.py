# SPDX-License-Identifier: GPL-2.0-or-later
"""Output that never ends, stops or delays who writes it."""

import logging
import os
import select
import threading

LIMIT = 1 << 18  # bytes that may wait for a slow reader
_PIECE = 4096  # bytes of one write: PIPE_BUF
_PATIENCE = 1.0  # seconds without progress after which a reader is given up at the end

_LOG = logging.getLogger(__name__)


def drop_output() -> None:
    """Write nowhere what is still buffered: Python would try once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


class Outlet:
    """Writes to a descriptor, from a thread of its own.

    A file that is full or a pipe that nobody reads on loses what comes, one that is
    read too slowly some of it; either is said once.

    Args:
        fd: Left open in the end.
        name: Of it, for the user; empty: who could be told reads this very output.
    """

    def __init__(self, fd: int, name: str = "") -> None:
        self._fd, self._name = fd, name
        self._changed = threading.Condition()
        self._waiting = bytearray()
        self._closing = self._gone = self._warned = False
        threading.Thread(target=self._run, name=f"to {name}", daemon=True).start()

    def write(self, data: bytes) -> None:
        """Have ``data`` written soon; from any thread, never waits."""
        with self._changed:
            if self._gone:
                return
            if len(self._waiting) + len(data) > LIMIT:
                self._warn("is not read fast enough: some of the output is lost")
                return
            if not self._waiting:
                self._changed.notify()
            self._waiting += data

    def close(self) -> None:
        """Wait until all is written, or nobody takes it."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            while self._waiting and self._changed.wait(_PATIENCE):
                pass

    def _run(self) -> None:
        while data := self._next():
            try:
                written = os.write(self._fd, data)
            except BlockingIOError:
                select.select((), (self._fd,), ())
                continue
            except OSError as error:
                self._lose(error.strerror or str(error))
                return
            with self._changed:
                del self._waiting[:written]
                self._changed.notify_all()

    def _next(self) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            return bytes(self._waiting[:_PIECE])

    def _lose(self, why: str) -> None:
        with self._changed:
            self._gone = True
            self._waiting.clear()
            self._changed.notify_all()
            self._warn(f"{why}: the output is lost from here on")

    def _warn(self, what: str) -> None:
        if self._name and not self._warned:
            self._warned = True
            _LOG.warning("%s: %s", self._name, what)


class Voice(logging.Handler):
    """What nk says on stderr, and logs there, in any thread: a line each."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._outlet = Outlet(2)

    def say(self, text: str) -> None:
        """Tell the user."""
        self._outlet.write(f"nk: {text}\n".encode(errors="replace"))

    def emit(self, record: logging.LogRecord) -> None:
        """Say what was logged."""
        self.say(self.format(record))

    def close(self) -> None:
        """Wait until all was said."""
        self._outlet.close()
        super().close()
