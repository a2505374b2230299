# SPDX-License-Identifier: GPL-2.0-or-later
"""The asyncio driver: sockets, pipes, and who is served.  The only file that waits.

Callbacks rather than streams, for latency: a reply leaves in the same turn of
the loop that brought its packet.  One client is served at a time; another is
told so and turned away, one that comes while the last is being cleaned up
after waits for that.  When a client goes, however it goes, the machine runs on.
"""

import asyncio
import errno
import logging
import os
import socket
import stat
from collections import deque
from collections.abc import Awaitable
from typing import Protocol, cast

from stub.conversation import Conversation
from stub.dispatch import name_of
from stub.eager import EagerLoop
from stub.endpoint import Endpoint, Stdio, Tcp, Unix, parse_endpoint
from stub.errors import EndpointError
from stub.handlers import PACKETS
from stub.outcomes import Close, Outcome
from stub.session import Session
from stub.stops import StopReason
from stub.target import Machine

__all__ = ["Server", "parse_endpoint", "serve"]

LOG = logging.getLogger(__name__)

_BUSY = b"E.another client is debugging this machine; it must detach first"
_PREAMBLE = (b"qSupported", b"vCont?")
_WRITE_BUFFER = 1 << 20
_LINGER = 2.0  # seconds for a client to hang up after the last reply


class _Transport(Protocol):
    """What a connection needs of a transport."""

    def write(self, data: bytes) -> None: ...
    def write_eof(self) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Connection(asyncio.Protocol):
    """One client, from its first byte to the end of its last run."""

    _transport: _Transport

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._run: asyncio.Future[StopReason] | None = None
        self.conversation = Conversation(self, PACKETS.session(server.machine))
        self._admitted = False
        self.lost = False
        loop = asyncio.get_running_loop()
        self._loop = loop if isinstance(loop, EagerLoop) else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set up the socket."""
        transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        transport.set_write_buffer_limits(_WRITE_BUFFER)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.join(transport)

    def join(self, transport: _Transport) -> None:
        """Write to ``transport``."""
        self._transport = transport
        self._server.welcome(self)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on; with the first, ask to be served.

        Not before: who says nothing keeps nobody out, and the loop may learn
        of this client before it learns that the last one has gone.
        """
        if not self._admitted:
            self._admitted = True
            self._server.admit(self)
        self.conversation.feed(data)
        if self._loop is not None:
            self._loop.stay_awake()

    def pause_writing(self) -> None:
        """Stop reading requests while replies pile up."""
        self._transport.pause_reading()
        self.conversation.congested(True)

    def resume_writing(self) -> None:
        """Go on where ``pause_writing`` stopped."""
        self._transport.resume_reading()
        self.conversation.congested(False)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the run, then the session."""
        self.lost = True
        self.conversation.lost()
        if self._run is None:
            self._server.release(self)
        else:
            self.interrupt()

    def write(self, data: bytes) -> None:
        """Send."""
        self._transport.write(data)

    def close(self) -> None:
        """Hang up when all is sent.

        The client does it: closing with an acknowledgement of his unread would
        reset the connection, and the reply, which tells why, might be lost.
        """
        self._transport.write_eof()
        asyncio.get_running_loop().call_later(_LINGER, self._transport.abort)

    def abort(self) -> None:
        """Hang up at once."""
        self._transport.abort()

    def watch(self, run: Awaitable[StopReason]) -> None:
        """Report to the conversation when ``run`` has ended."""
        self._run = asyncio.ensure_future(run)
        self._run.add_done_callback(self._ran)

    def interrupt(self) -> None:
        """Stop the run.

        A coroutine just handed over has not begun: let it, or ^C is lost.
        """
        asyncio.get_running_loop().call_soon(self._server.machine.interrupt)

    def _ran(self, run: asyncio.Future[StopReason]) -> None:
        self._run = None
        if not run.cancelled():
            run.exception()  # mark it as seen: a lost client's run may fail
            self.conversation.ran(run.result)
        if self.lost and self._run is None:
            self._server.release(self)


class Server:
    """Serves one machine at one endpoint.

    Attributes:
        machine: What is served.
        address: Where: with the port chosen if 0 was asked for.
    """

    def __init__(self, machine: Machine, address: Endpoint) -> None:
        self.machine = machine
        self.address = address
        self._listener: asyncio.AbstractServer | None = None
        self._connections: set[Connection] = set()
        self._holder: Connection | None = None
        self._waiting: deque[Connection] = deque()
        self._closing = False
        self._closed = asyncio.Event()

    async def start(self) -> None:
        """Begin to listen; EndpointError says why that cannot be."""
        try:
            await self._listen()
        except (OSError, UnicodeError) as error:  # UnicodeError: no host's name
            raise EndpointError(_explain(self.address, error)) from None

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        match self.address:
            case Tcp(host, port):
                listener = await loop.create_server(self._connection, host, port)
                self._listener = listener
                self.address = Tcp(*listener.sockets[0].getsockname()[:2])
            case Unix(path):
                _refuse_if_served(path)
                self._listener = await loop.create_unix_server(self._connection, path)
                os.chmod(path, 0o600)
            case Stdio():
                await _open_stdio(self._connection())

    def _connection(self) -> Connection:
        return Connection(self)

    def welcome(self, connection: Connection) -> None:
        """Take note of a new connection."""
        self._connections.add(connection)

    def admit(self, connection: Connection) -> None:
        """Serve a new client, let it wait, or turn it away."""
        conversation = connection.conversation
        if self._holder is None:
            self._holder = connection
            session = conversation.session
            conversation.begin(lambda payload: PACKETS.dispatch(session, payload))
        elif self._holder.lost:
            self._waiting.append(connection)
        else:
            conversation.begin(_turn_away)

    def release(self, connection: Connection) -> None:
        """Let the machine go on after a client, and the next one in."""
        self._connections.discard(connection)
        if connection is self._holder:
            self._holder = None
            self._end(connection.conversation.session)
            waiting, self._waiting = self._waiting, deque()
            for candidate in waiting:
                if not candidate.lost:
                    self.admit(candidate)
        if isinstance(self.address, Stdio):
            self.close()
        self._check_closed()

    def _end(self, session: Session) -> None:
        try:
            session.close(run_on=not self._closing)
        except Exception:
            LOG.exception("the machine could not be let go")

    def close(self) -> None:
        """Stop serving: no new clients, and an end to the one there is."""
        if self._closing:
            return
        self._closing = True
        if self._listener is not None:
            self._listener.close()
            if isinstance(self.address, Unix):
                _unlink(self.address.path)
        if self._holder is not None and self._holder.conversation.running:
            self.machine.interrupt()  # now: the caller may wait for the machine next
        for connection in tuple(self._connections):
            connection.abort()
        self._check_closed()

    async def wait_closed(self) -> None:
        """Wait until the last client is gone (with stdio: the only one)."""
        await self._closed.wait()

    def _check_closed(self) -> None:
        if self._closing and not self._connections:
            self._closed.set()


async def serve(machine: Machine, endpoint: Endpoint) -> Server:
    """Serve ``machine`` until ``close``; called in the loop that is to do it."""
    server = Server(machine, endpoint)
    await server.start()
    return server


def _turn_away(payload: bytes) -> Outcome:
    """Answer only why there is no service.

    gdb says nothing about a failed qSupported or (gdb 18) vCont?, but prints
    whatever comes back for the vMustReplyEmpty behind them, and gives up.
    """
    return b"" if name_of(payload) in _PREAMBLE else Close(_BUSY)


def _explain(endpoint: Endpoint, error: OSError | UnicodeError) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, socket.gaierror):  # its numbers are none of errno
        why = (error.strerror or "no such host").lower()
    else:
        why = os.strerror(number).lower() if number else str(error)
    port = number in (errno.EADDRINUSE, errno.EACCES)
    advice = {
        Tcp: "choose another port, or 0 for any free one"
        if port
        else "give an address of this computer, as 127.0.0.1",
        Unix: "choose another path",
        Stdio: "it must be a pipe, a socket or a terminal",
    }[type(endpoint)]
    return f"cannot serve gdb on {endpoint}: {why}; {advice}"


def _refuse_if_served(path: str) -> None:
    """Raise if a server answers at ``path``: asyncio would take its place silently."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return
    raise OSError(errno.EADDRINUSE, "in use")


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        LOG.info("%s was gone already", path)


async def _open_stdio(connection: Connection) -> None:
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

    def __init__(self, connection: Connection) -> None:
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
