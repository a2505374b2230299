# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the partitions' consoles go: this terminal, pseudo-terminals, files.

Sinks are called in the machine's thread, which none of them may end or keep waiting.
"""

import asyncio
import errno
import os
import sys
import termios
import tty
from collections.abc import Callable

from nanokernel_vm.board import Board
from nanokernel_vm.cli.outlet import Outlet
from nanokernel_vm.errors import ConfigError
from nanokernel_vm.machine import Machine

_READ_SIZE = 4096
_LATER = 0.1  # seconds until a kernel that does not read is asked again
_LINE = 4096  # bytes of a line that are kept until its end comes


class Consoles:
    """Connects every console.  One that is not mentioned gets a pseudo-terminal, and
    its lines appear on stdout with the partition's name before them.

    Args:
        machine: Whose consoles.
        words: ``PARTITION=stdio|pty|FILE``.
        quiet: Leave stdout alone.
        say: Tells the user.
    """

    def __init__(
        self,
        machine: Machine,
        words: tuple[str, ...],
        quiet: bool,
        say: Callable[[str], None],
    ) -> None:
        self._machine, self._say = machine, say
        self._quiet = quiet or sys.__stdout__ is None
        self._stdout: Outlet | None = None
        self._closed = False
        self._closers: list[Callable[[], object]] = []
        self._choices: dict[str, str] = {}
        for word in words:
            name, equals, where = word.partition("=")
            if machine.board(name) is None or not equals or not where:
                names = ", ".join(p.name for p in machine.partitions)
                raise ConfigError(
                    f"--console {word}: write NAME=stdio|pty|FILE; there are {names}"
                )
            self._choices[name] = where
        if list(self._choices.values()).count("stdio") > 1:
            raise ConfigError("--console: only one partition can have stdio")

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connect; input is read by ``loop``."""
        for board in self._machine.boards:
            match self._choices.get(board.partition.name, ""):
                case "stdio":
                    self._stdio(board, loop)
                case "pty":
                    self._pty(board, loop)
                case "":
                    self._pty(board, loop)
                    if not self._quiet:
                        lines = _Lines(board.partition.name, self._out())
                        board.console.sinks.append(lines.write)
                case path:
                    self._file(board, path)

    def close(self) -> None:
        """Give the terminal back as it was; wait for what is still to be written."""
        self._closed = True
        for closer in reversed(self._closers):
            closer()

    def _out(self) -> Outlet:
        if self._stdout is None:
            self._stdout = Outlet(sys.stdout.fileno(), "stdout")
            self._closers.append(self._stdout.close)
        return self._stdout

    def _stdio(self, board: Board, loop: asyncio.AbstractEventLoop) -> None:
        if sys.__stdout__ is None:
            self._say("stdout is closed: the output is lost")
        else:
            board.console.sinks.append(_bytes(self._out()))
        if sys.stdin is None:
            return
        fd = sys.stdin.fileno()
        if os.isatty(fd):
            before = termios.tcgetattr(fd)
            tty.setcbreak(
                fd
            )  # Ctrl-C still ends nk; use a pty to type it to the kernel
            self._closers.append(lambda: termios.tcsetattr(fd, termios.TCSANOW, before))
        self._listen(board, loop, fd)

    def _pty(self, board: Board, loop: asyncio.AbstractEventLoop) -> None:
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        self._closers += [lambda: os.close(master), lambda: os.close(slave)]

        def write(byte: int) -> None:
            try:
                os.write(master, bytes((byte,)))
            except BlockingIOError:
                termios.tcflush(slave, termios.TCIFLUSH)  # nobody reads: drop the old

        board.console.sinks.append(write)
        name = board.partition.name
        self._say(f"console of {name}: {os.ttyname(slave)}")
        self._listen(board, loop, master)

    def _file(self, board: Board, path: str) -> None:
        try:
            fd = _created(path)
        except OSError as error:
            raise ConfigError(f"--console {path}: {error.strerror}") from None
        outlet = Outlet(fd, path)
        self._closers.append(outlet.close)
        board.console.sinks.append(_bytes(outlet))

    def _listen(self, board: Board, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        def readable() -> None:
            if not self._machine.listens(board):
                loop.remove_reader(fd)
                loop.call_later(_LATER, listen)
                return
            try:
                data = os.read(fd, _READ_SIZE)
            except OSError:
                data = b""
            if data:
                self._machine.type(board, data)
            else:
                loop.remove_reader(fd)

        def listen() -> None:
            if not self._closed:
                loop.add_reader(fd, readable)

        try:
            listen()
        except (PermissionError, ValueError):
            return  # a file or /dev/null as stdin: nothing will be typed
        self._closers.append(lambda: loop.remove_reader(fd))


def _created(path: str) -> int:
    """Open for writing; never wait, as a FIFO makes one do that nobody reads."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOCTTY
    try:
        return os.open(path, flags | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        why = "nobody reads this FIFO; start its reader before"
        raise OSError(errno.ENXIO, why, path) from None


def _bytes(outlet: Outlet) -> Callable[[int], None]:
    return lambda byte: outlet.write(bytes((byte,)))


class _Lines:
    """Prints whole lines with a name before them, as they come from several kernels.

    A line that does not end is printed in pieces.
    """

    def __init__(self, name: str, outlet: Outlet) -> None:
        self._prefix, self._outlet = f"[{name}] ".encode(), outlet
        self._line = bytearray()

    def write(self, byte: int) -> None:
        if byte == 0x0D:
            return
        self._line.append(byte)
        if byte == 0x0A or len(self._line) >= _LINE:
            end = b"" if byte == 0x0A else b"\n"
            self._outlet.write(self._prefix + self._line + end)
            self._line.clear()
