# SPDX-License-Identifier: GPL-2.0-or-later
"""Standard input and output as one connection: for ``target remote | COMMAND``."""

import asyncio
import os
import socket
import stat
from abc import ABC, abstractmethod
from typing import Protocol


class Transport(Protocol):
    """What a connection needs of a transport; asyncio's own have it."""

    def write(self, data: bytes) -> None:
        """Send, without waiting."""

    def is_closing(self) -> bool:
        """Whether what is written would be lost."""

    def write_eof(self) -> None:
        """Send no more after what has been written."""

    def abort(self) -> None:
        """Hang up at once."""

    def pause_reading(self) -> None:
        """Read no more for now."""

    def resume_reading(self) -> None:
        """Read again."""


class Receiver(asyncio.Protocol, ABC):
    """A protocol that is content with any ``Transport``."""

    @abstractmethod
    def join(self, transport: Transport) -> None:
        """Write to ``transport`` from now on."""


async def open_stdio(connection: Receiver) -> None:
    """Serve on descriptors 0 and 1; gdb's ``target remote |`` makes them one socket."""
    loop = asyncio.get_running_loop()
    if stat.S_ISSOCK(os.fstat(0).st_mode):
        both = socket.socket(fileno=os.dup(0))
        await loop.create_connection(lambda: connection, sock=both)
        return
    pipes = _Pipes(connection)
    output = os.fdopen(os.dup(1), "wb", buffering=0)
    await loop.connect_write_pipe(lambda: _Output(pipes), output)
    input_ = os.fdopen(os.dup(0), "rb", buffering=0)
    await loop.connect_read_pipe(lambda: pipes, input_)


class _Output(asyncio.BaseProtocol):
    """The output pipe's end of ``_Pipes``."""

    def __init__(self, pipes: "_Pipes") -> None:
        self._pipes = pipes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        if isinstance(transport, asyncio.WriteTransport):
            self._pipes.output = transport

    def pause_writing(self) -> None:
        """Pass on."""
        self._pipes.connection.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        self._pipes.connection.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other half, too: the reader is gone."""
        self._pipes.input.close()


class _Pipes(asyncio.Protocol):
    """Standard input and output as one transport; the input's protocol at once."""

    output: asyncio.WriteTransport
    input: asyncio.ReadTransport

    def __init__(self, connection: Receiver) -> None:
        self.connection = connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; both are there now."""
        if isinstance(transport, asyncio.ReadTransport):
            self.input = transport
        self.connection.join(self)

    def data_received(self, data: bytes) -> None:
        """Pass on."""
        self.connection.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other half, too."""
        self.output.close()
        self.connection.connection_lost(exc)

    def write(self, data: bytes) -> None:
        """Write to the output."""
        self.output.write(data)

    def is_closing(self) -> bool:
        """Whether the output is."""
        return self.output.is_closing()

    def write_eof(self) -> None:
        """Close the output after all has been written."""
        self.output.close()

    def abort(self) -> None:
        """Close both at once."""
        self.output.abort()

    def pause_reading(self) -> None:
        """Read no more for now."""
        self.input.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self.input.resume_reading()
