# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine in a process of its own, started as a person would: by ``nk run``."""

import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

TIMEOUT = 300.0  # seconds; bounds every wait, measures nothing
TWO_LINUXES = Path(__file__).parents[2] / "examples" / "two-linuxes.toml"
NK = Path(sys.executable).with_name("nk")


def build() -> None:
    """See to it that every kernel is there: no wait of a test covers a compilation."""
    subprocess.run([NK, "build"], check=True, stdin=subprocess.DEVNULL)


class Console:
    """A terminal on one partition's serial line."""

    def __init__(self, name: str, path: str) -> None:
        self.prompt = f"{name}# "
        self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        self._unread = ""

    def type(self, text: str) -> None:
        """Type without waiting for anything."""
        os.write(self._fd, text.encode())

    def expect(self, text: str) -> str:
        """Read to the end of ``text``; what came, with it."""
        deadline = time.monotonic() + TIMEOUT
        while text not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._fd], [], [], left)[0]:
                raise AssertionError(f"no {text!r} in {self._unread[-2000:]!r}")
            self._unread += os.read(self._fd, 4096).decode(errors="replace")
        end = self._unread.index(text) + len(text)
        came, self._unread = self._unread[:end], self._unread[end:]
        return came

    def run(self, command: str) -> str:
        """Run one command in the shell; what it printed."""
        self.type(command + "\n")
        self.expect("\n")  # the command's echo
        return self.expect(self.prompt).removesuffix(self.prompt)

    def answers(self) -> bool:
        """Whether the shell does a sum that its echo of the question does not show."""
        return "seven 7" in self.run("echo seven $((3 + 4))")

    def close(self) -> None:
        os.close(self._fd)


class NkRun:
    """``nk run``, with a console for each partition and a debug server.

    Attributes:
        address: What ``target remote`` takes.
        consoles: By partition name.
    """

    def __init__(self, *options: str, machine: Path = TWO_LINUXES) -> None:
        names = ("host", "guest")
        ptys = [word for name in names for word in ("--console", f"{name}=pty")]
        self._process = subprocess.Popen(
            [NK, "run", machine, "--gdb", "127.0.0.1:0", *ptys, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._killed = False
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            self.address = self._line(r"nk: gdb: target remote (\S+)")
            self.consoles = {
                name: Console(name, self._line(rf"nk: console of {name}: (\S+)"))
                for name in names
            }
        except BaseException:
            self._end()
            raise

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._killed = self._killed or number == signal.SIGKILL
        self._process.send_signal(number)

    @property
    def host(self) -> Console:
        """The host's console."""
        return self.consoles["host"]

    @property
    def guest(self) -> Console:
        """The guest's console."""
        return self.consoles["guest"]

    @property
    def endpoint(self) -> tuple[str, int]:
        """The server's socket address."""
        host, _, port = self.address.rpartition(":")
        return host, int(port)

    def wait_for_shells(self) -> None:
        """Read both consoles up to their first prompts."""
        for console in self.consoles.values():
            console.expect(console.prompt)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line.rstrip())
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _line(self, pattern: str) -> str:
        def found() -> re.Match[str] | None:
            matches = (re.match(pattern, line) for line in self.lines)
            return next((match for match in matches if match), None)

        with self._changed:
            self._changed.wait_for(lambda: found() or self._ended, TIMEOUT)
            match = found()
        assert match, f"no {pattern!r} in {self.lines}"
        return match[1]

    def close(self) -> Sequence[str]:
        """Ask it to stop, as Ctrl-C does; all that it has said."""
        for console in self.consoles.values():
            console.close()
        status = self._end()
        expected = -signal.SIGKILL if self._killed else 0
        assert status == expected, (status, self.lines)
        assert not [line for line in self.lines if "Traceback" in line], self.lines
        return self.lines

    def _end(self) -> int:
        self._process.send_signal(signal.SIGINT)
        try:
            status = self._process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
