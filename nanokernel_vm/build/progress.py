# SPDX-License-Identifier: GPL-2.0-or-later
"""One line on stderr for long work: what, how far, for how long, how much longer.

On a terminal the line is rewritten in place; elsewhere a line appears when the work
starts, every ``QUIET_INTERVAL`` seconds, and when it ends.
"""

import sys
import time
from types import TracebackType
from typing import Self, TextIO

LIVE_INTERVAL = 0.1
QUIET_INTERVAL = 15.0


class Progress:
    """Progress of one piece of work, as a context manager.

    Args:
        what: The work, as in "guest kernel: compile".
        total: How many units it takes, 0 if unknown.
        unit: What is counted, as in "files"; "B" counts bytes and prints MB.
    """

    def __init__(
        self, what: str, total: int = 0, unit: str = "", stream: TextIO | None = None
    ) -> None:
        """Name the work; the clock starts here."""
        self._what, self._total, self._unit = what, total, unit
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._done = 0
        self._started = self._shown = time.monotonic()

    def __enter__(self) -> Self:
        """Show that the work has begun."""
        self._show("..." if not self._live else "")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Show how it ended."""
        self._show("failed" if kind else "done", last=True)

    def at(self, done: int, total: int | None = None) -> None:
        """Say that ``done`` units are finished."""
        self._done = done
        self._total = self._total if total is None else total
        interval = LIVE_INTERVAL if self._live else QUIET_INTERVAL
        if time.monotonic() - self._shown >= interval:
            self._show()

    def _show(self, end: str = "", *, last: bool = False) -> None:
        self._shown = time.monotonic()
        words = [self._what, self._count(), self._times(last), end]
        line = "  ".join(word for word in words if word)
        if self._live:
            self._stream.write(f"\r\x1b[K{line}" + "\n" * last)
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()

    def _count(self) -> str:
        if not self._done:
            return ""
        scale, unit = (1_000_000, "MB") if self._unit == "B" else (1, self._unit)
        done = f"{self._done // scale}"
        if not self._total:
            return f"{done} {unit}"
        percent = min(100 * self._done // self._total, 100)
        return f"{done}/{self._total // scale} {unit} ({percent} %)"

    def _times(self, last: bool) -> str:
        elapsed = time.monotonic() - self._started
        text = f"{elapsed:.0f} s" if elapsed >= 1 else ""
        if last or not 0 < self._done < self._total or elapsed < 2:
            return text
        left = elapsed * (self._total - self._done) / self._done
        return f"{text}, about {left:.0f} s to go"
