# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the partitions' consoles go: this terminal, pseudo-terminals, files."""

import asyncio
import errno
import os
import sys
import termios
import tty
from collections.abc import Callable
from typing import IO

from nanokernel_vm.board import Board
from nanokernel_vm.errors import ConfigError
from nanokernel_vm.machine import Machine

_READ_SIZE = 4096


class Consoles:
    """Connects every console.  One that is not mentioned gets a pseudo-terminal, and
    its lines appear on stdout with the partition's name before them.

    Args:
        machine: Whose consoles.
        words: ``PARTITION=stdio|pty|FILE``.
        quiet: Leave stdout alone.
    """

    def __init__(self, machine: Machine, words: tuple[str, ...], quiet: bool) -> None:
        self._machine = machine
        self._quiet = quiet
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
                        board.console.sinks.append(_Lines(board.partition.name).write)
                case path:
                    self._file(board, path)

    def close(self) -> None:
        """Give the terminal back as it was."""
        for closer in reversed(self._closers):
            closer()

    def _stdio(self, board: Board, loop: asyncio.AbstractEventLoop) -> None:
        out = sys.stdout.buffer

        def write(byte: int) -> None:
            out.write(bytes((byte,)))
            out.flush()

        board.console.sinks.append(write)
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
        print(f"nk: console of {name}: {os.ttyname(slave)}", file=sys.stderr)
        self._listen(board, loop, master)

    def _file(self, board: Board, path: str) -> None:
        try:
            file = _created(path)
        except OSError as error:
            raise ConfigError(f"--console {path}: {error.strerror}") from None
        self._closers.append(file.close)

        def write(byte: int) -> None:
            file.write(bytes((byte,)))

        board.console.sinks.append(write)

    def _listen(self, board: Board, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        def readable() -> None:
            try:
                data = os.read(fd, _READ_SIZE)
            except OSError:
                data = b""
            if data:
                self._machine.type(board, data)
            else:
                loop.remove_reader(fd)

        try:
            loop.add_reader(fd, readable)
        except (PermissionError, ValueError):
            return  # a file or /dev/null as stdin: nothing will be typed
        self._closers.append(lambda: loop.remove_reader(fd))


def _created(path: str) -> IO[bytes]:
    """Open for writing; never wait, as a FIFO makes one do that nobody reads."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOCTTY
    try:
        fd = os.open(path, flags | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        why = "nobody reads this FIFO; start its reader before"
        raise OSError(errno.ENXIO, why, path) from None
    os.set_blocking(fd, True)
    return os.fdopen(fd, "wb", buffering=0)


class _Lines:
    """Prints whole lines with a name before them, as they come from several kernels."""

    def __init__(self, name: str) -> None:
        self._prefix = f"[{name}] ".encode()
        self._line = bytearray()

    def write(self, byte: int) -> None:
        if byte == 0x0D:
            return
        self._line.append(byte)
        if byte == 0x0A:
            sys.stdout.buffer.write(self._prefix + self._line)
            sys.stdout.flush()
            self._line.clear()
