# SPDX-License-Identifier: GPL-2.0-or-later
"""Where clients come in, and who is served.

One client is served at a time, from its first whole packet on; another is told so and
turned away, one that comes while the last is being cleaned up after waits for that.
When a client goes, however it goes, the machine runs on.
"""

import asyncio
import errno
import logging
import os
import socket
from collections import deque

from stub.connection import Connection
from stub.dispatch import name_of
from stub.endpoint import Endpoint, Stdio, Tcp, Unix, local, parse_endpoint
from stub.errors import EndpointError
from stub.handlers import PACKETS
from stub.outcomes import Close, Outcome
from stub.pipes import open_stdio
from stub.session import Session
from stub.target import Machine

__all__ = ["Server", "parse_endpoint", "serve"]

LOG = logging.getLogger(__name__)

_BUSY = b"E.another client is debugging this machine; it must detach first"
_PREAMBLE = (b"qSupported", b"vCont?")
_STANDING = 16  # connections besides the one that is served
_PATIENCE = 10.0  # seconds from connecting to a first whole packet


class Server:
    """Serves one machine at one endpoint.

    Args:
        machine: What is served.
        address: Where.
        allow_remote: Whether other computers may be able to connect.
        read_only: Whether clients may only look.

    Attributes:
        address: With the port chosen if 0 was asked for.
    """

    def __init__(
        self,
        machine: Machine,
        address: Endpoint,
        *,
        allow_remote: bool = False,
        read_only: bool = False,
    ) -> None:
        self._machine = machine
        self.address = address
        self._allow_remote, self._read_only = allow_remote, read_only
        self._listener: asyncio.AbstractServer | None = None
        self._connections: dict[Connection, None] = {}  # in the order they came
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
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                hosts = [str(row[4][0]) for row in found]
                self._check_local(hosts)
                listener = await loop.create_server(self._connection, hosts, port)
                self._listener = listener
                self.address = Tcp(*listener.sockets[0].getsockname()[:2])
            case Unix(path):
                _refuse_if_served(path)
                self._listener = await loop.create_unix_server(self._connection, path)
                os.chmod(path, 0o600)
            case Stdio():
                await open_stdio(self._connection())

    def _check_local(self, hosts: list[str]) -> None:
        remote = [host for host in hosts if not local(host)]
        if remote and not self._allow_remote:
            raise EndpointError(
                f"will not serve gdb on {self.address}: other computers reach "
                f"{remote[0]}, and who connects rules the machine, unasked for a "
                "password; use 127.0.0.1 or unix:PATH (and ssh -L from elsewhere), or "
                "say --allow-remote"
            )

    def _connection(self) -> Connection:
        session = PACKETS.session(self._machine, read_only=self._read_only)
        return Connection(self, session)

    def welcome(self, connection: Connection) -> None:
        """Give a new connection some time to speak, and a place if need be."""
        self._connections[connection] = None
        if isinstance(self.address, Stdio):
            return
        connection.expect(_PATIENCE)
        if len(self._connections) > _STANDING + 1:
            silent = (c for c in self._connections if not c.asked)
            next(silent, connection).abort()

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
        self._connections.pop(connection, None)
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

    def interrupt(self) -> None:
        """Stop the machine's run."""
        self._machine.interrupt()

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
            self._machine.interrupt()  # now: the caller may wait for the machine next
        for connection in tuple(self._connections):
            connection.abort()
        self._check_closed()

    async def wait_closed(self) -> None:
        """Wait until the last client is gone (with stdio: the only one)."""
        await self._closed.wait()

    def _check_closed(self) -> None:
        if self._closing and not self._connections:
            self._closed.set()


async def serve(
    machine: Machine,
    endpoint: Endpoint,
    *,
    allow_remote: bool = False,
    read_only: bool = False,
) -> Server:
    """Serve ``machine`` until ``close``; called in the loop that is to do it."""
    server = Server(machine, endpoint, allow_remote=allow_remote, read_only=read_only)
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
