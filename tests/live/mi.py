# SPDX-License-Identifier: GPL-2.0-or-later
"""A real gdb, driven through its machine interface by pygdbmi."""

import itertools
import json
import os
import re
import shutil
import signal
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from pygdbmi.constants import GdbTimeoutError
from pygdbmi.gdbcontroller import GdbController

from tests.live.process import TIMEOUT

Record = dict[str, Any]

_AT_ONCE = 1e-6  # pygdbmi would linger for more output by default
_STREAMS = {"console", "target", "log"}

GDBS = {
    "distribution": Path("/usr/bin/gdb"),
    "newest": Path(sys.executable).with_name("gdb"),  # of gdb-for-pwndbg
}


class GdbError(Exception):
    """gdb refused a command; the text is gdb's."""


class Stop:
    """Why and where gdb said that the machine stopped."""

    def __init__(self, payload: Record) -> None:
        self.payload = payload

    @property
    def reason(self) -> str:
        """The manual's "reason", for instance ``breakpoint-hit``."""
        return str(self.payload.get("reason", ""))

    @property
    def function(self) -> str:
        """The innermost frame's function."""
        return str(self.payload["frame"].get("func", ""))

    @property
    def pc(self) -> int:
        """The innermost frame's address."""
        return int(self.payload["frame"]["addr"], 16)

    @property
    def inferior(self) -> int:
        """The inferior: each has one thread, numbered as they appeared."""
        return int(self.payload["thread-id"])

    @property
    def signal(self) -> str:
        """The signal's name."""
        return str(self.payload.get("signal-name", ""))

    def __repr__(self) -> str:
        return f"Stop({self.payload})"


class Gdb:
    """One gdb.  Call it with a console command to get what it prints.

    Args:
        program: Which gdb.
    """

    def __init__(self, program: Path) -> None:
        self._controller = GdbController(
            [str(program), "-nx", "-q", "--interpreter=mi3"],
            time_to_check_for_additional_output_sec=_AT_ONCE,
        )
        self._tokens = itertools.count(1)
        self._records: deque[Record] = deque()
        self._stops: deque[Stop] = deque()
        self.running = False
        self("set confirm off")
        self("set pagination off")
        self("set width 0")
        self("set remotetimeout 60")  # seconds; its 2 are nothing on a busy computer

    @property
    def pid(self) -> int:
        """The process to send a Ctrl-C to."""
        process = self._controller.gdb_process
        assert process is not None
        return process.pid

    def attach(self, address: str) -> str:
        """Do what a person does, and nothing else."""
        return self(f"target remote {address}")

    def __call__(self, command: str) -> str:
        """Run a console command; all that it printed.  Raises GdbError."""
        self._stops.clear()
        return self._console(command)

    def resume(self, command: str) -> Stop:
        """Run a command that lets the machine run, to the stop that follows."""
        self.start(command)
        return self.stop()

    def start(self, command: str) -> None:
        """Let the machine run and come back at once."""
        self._stops.clear()
        self.running = True
        try:
            self._console(command)
        except GdbError:
            self.running = False
            raise

    def stop(self) -> Stop:
        """Wait for the machine to stop."""
        while not self._stops:
            self._next()
        self.running = False
        return self._stops[-1]

    def interrupt(self) -> Stop:
        """Press Ctrl-C in gdb and wait for the machine to stop."""
        os.kill(self.pid, signal.SIGINT)
        return self.stop()

    def value(self, expression: str) -> int:
        """Evaluate to a whole number."""
        text = self(f"output/d {expression}")
        return int(text.split()[0])

    def word(self, expression: str) -> int:
        """Evaluate to an unsigned 64-bit number, an address for instance."""
        return int(self(f"output/u (unsigned long long)({expression})").split()[0])

    def inferior(self, number: int) -> None:
        """Select an inferior, and let the server know.

        gdb tells the server only with the next packet of an inferior's own, which a
        ``monitor`` command is not, and which cached registers save it from.
        """
        self(f"inferior {number}")
        self("maint flush register-cache")
        self("info registers rip")

    def frames(self) -> list[str]:
        """The function names of the backtrace, innermost first."""
        frame = r"^#\d+ +(?:0x\w+ in )?(<signal handler called>|[\w.?]+)"
        return re.findall(frame, self("bt 64"), re.MULTILINE)

    def alone(self, number: int) -> None:
        """Make ``number`` current, and the only one that runs from now on."""
        self.inferior(number)
        self("set schedule-multiple off")

    def close(self) -> None:
        """Leave; an attached gdb detaches first."""
        if self.running:
            self.interrupt()
        process = self._controller.gdb_process
        self._controller.exit()
        assert process is None or process.wait(TIMEOUT) != -signal.SIGABRT

    def kill(self) -> None:
        """End gdb with no chance to say goodbye."""
        os.kill(self.pid, signal.SIGKILL)
        self._controller.exit()

    def _console(self, command: str) -> str:
        token = next(self._tokens)
        line = f"{token}-interpreter-exec console {json.dumps(command)}"
        self._controller.write(line, TIMEOUT, read_response=False)
        text, result = [], None
        while result is None:
            record = self._next()
            if record["type"] in _STREAMS:
                text.append(str(record["payload"]))
            elif record["type"] == "result" and record["token"] == token:
                result = record
        if result["message"] == "error":
            raise GdbError(f"{command}: {result['payload']['msg']}")
        return "".join(text)

    def _next(self) -> Record:
        deadline = time.monotonic() + TIMEOUT
        while not self._records:
            if time.monotonic() > deadline:
                raise GdbTimeoutError("gdb is silent")
            self._records.extend(self._controller.get_gdb_response(TIMEOUT))
        record = self._records.popleft()
        if record["type"] == "notify" and record["message"] == "stopped":
            self._stops.append(Stop(record["payload"] or {}))
        return record


def available(program: Path) -> bool:
    """Whether this gdb is there."""
    return shutil.which(program) is not None
