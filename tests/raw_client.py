# SPDX-License-Identifier: GPL-2.0-or-later
"""A client that says exactly what a test tells it; every wait has a limit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from stub.endpoint import Endpoint, Tcp
from stub.framing import Decoder, Packet, encode

PATIENCE = 300.0  # seconds; a test that waits so long has failed
_LARGE = 1 << 20


def is_output(payload: bytes) -> bool:
    """Whether a packet is console output: text in hex, with a reply still to come."""
    return payload[:1] == b"O" and payload != b"OK"


class RawClient:
    """One connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._decoder = Decoder()

    @classmethod
    async def connect(cls, address: Endpoint) -> "RawClient":
        """Connect to a TCP port or a Unix socket."""
        if isinstance(address, Tcp):
            host, port = address.host, address.port
            return cls(*await asyncio.open_connection(host, port, limit=_LARGE))
        return cls(*await asyncio.open_unix_connection(str(address), limit=_LARGE))

    @classmethod
    @asynccontextmanager
    async def connected(cls, address: Endpoint) -> AsyncIterator["RawClient"]:
        """Connect, and hang up in the end."""
        client = await cls.connect(address)
        try:
            yield client
        finally:
            await client.leave()

    def send(self, payload: bytes) -> None:
        self.writer.write(encode(payload))

    async def receive(self) -> bytes:
        """Return the payload of the next packet; EOFError if there is none."""
        async with asyncio.timeout(PATIENCE):
            while True:
                data = await self.reader.read(1)
                if not data:
                    raise EOFError
                for event in self._decoder.feed(data):
                    if isinstance(event, Packet):
                        return event.payload

    async def ask(self, payload: bytes) -> bytes:
        self.send(payload)
        return await self.receive()

    async def hello(self) -> None:
        """Do what gdb does to begin with."""
        await self.ask(b"qSupported:multiprocess+;vContSupported+;error-message+")
        await self.ask(b"QStartNoAckMode")
        assert (await self.ask(b"?")).startswith(b"T")

    async def leave(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):  # the server was first
            await self.writer.wait_closed()

    async def gone(self) -> bool:
        """Whether the server has hung up, having sent nothing more."""
        async with asyncio.timeout(PATIENCE):
            return (await self.reader.read()).strip(b"+") == b""
