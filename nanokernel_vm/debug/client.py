# SPDX-License-Identifier: GPL-2.0-or-later
"""A client that stops a running machine, asks ``monitor`` commands, and lets it go on.

It speaks as little of gdb's protocol as that takes.  Every wait is bounded.
"""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from nanokernel_vm.errors import MachineError
from stub.endpoint import Endpoint, Tcp, Unix
from stub.framing import Decoder, Packet, encode

_REPLY_MAX = 1 << 24
_CHUNK = 1 << 16


class ConnectionFailed(MachineError):
    """There is no server, or it does not answer as one."""


class NoAnswer(MachineError):
    """The server took too long."""


class Client:
    """One connection; the machine stands still until it is closed.

    Args:
        endpoint: Where ``nk run`` serves.
        patience: Seconds that each answer may take.
    """

    def __init__(self, endpoint: Endpoint, patience: float = 60.0) -> None:
        """Connect and stop the machine.

        Raises:
            ConnectionFailed: Nobody listens, or another client is served.
            NoAnswer: It took too long.
        """
        self._endpoint, self._patience = endpoint, patience
        self._decoder = Decoder(_REPLY_MAX)
        self._packets: Iterator[bytes] = iter(())
        self._socket = _connected(endpoint, patience)
        try:
            self._ask(b"qSupported:multiprocess+;error-message+")
            self._ask(b"?")
        except BaseException:
            self._socket.close()
            raise

    def monitor(self, command: str) -> str:
        """Run one ``monitor`` command; the text that it prints."""
        answer = self._ask(b"qRcmd," + command.encode().hex().encode())
        text = bytearray()
        while answer.startswith(b"O") and answer != b"OK":  # printed on the way
            text += bytes.fromhex(answer[1:].decode())
            answer = self._receive()
        if answer != b"OK":
            text += bytes.fromhex(answer.decode())
        return text.decode(errors="replace")

    def rows(self, command: str) -> Any:
        """Run one ``monitor`` command; what it answers as data.

        Raises:
            MachineError: It answers that it cannot.
        """
        try:
            answer = json.loads(self.monitor(f"{command} -j"))
        except ValueError as error:
            raise ConnectionFailed(
                f"{self._endpoint}: no answer to 'monitor {command} -j' ({error}); "
                "is it a server of this version?"
            ) from None
        if isinstance(answer, dict) and answer.keys() == {"error"}:
            raise MachineError(answer["error"])
        return answer

    def close(self) -> None:
        """Let the machine go on, and hang up."""
        try:
            self._ask(b"D")
        except MachineError:
            pass  # it goes on when the client is gone
        finally:
            self._socket.close()

    def _ask(self, payload: bytes) -> bytes:
        try:
            self._socket.sendall(encode(payload))
        except OSError as error:
            raise self._failed(error.strerror or str(error)) from None
        answer = self._receive()
        if answer.startswith(b"E."):
            raise self._failed(answer[2:].decode(errors="replace"))
        if answer.startswith(b"E") and len(answer) == 3:
            raise self._failed(f"error {answer[1:].decode(errors='replace')}")
        return answer

    def _receive(self) -> bytes:
        """The payload of the next packet, acknowledged."""
        deadline = time.monotonic() + self._patience
        while (payload := next(self._packets, None)) is None:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                data = self._socket.recv(_CHUNK)
            except TimeoutError:
                raise NoAnswer(
                    f"{self._endpoint}: no answer in {self._patience:g} s"
                ) from None
            except OSError as error:
                raise self._failed(error.strerror or str(error)) from None
            if not data:
                raise self._failed("the server has hung up")
            events = self._decoder.feed(data)
            self._packets = iter([e.payload for e in events if isinstance(e, Packet)])
        with suppress(OSError):  # who has gone needs no thanks
            self._socket.sendall(b"+")
        return payload

    def _failed(self, why: str) -> ConnectionFailed:
        return ConnectionFailed(f"{self._endpoint}: {why}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _connected(endpoint: Endpoint, patience: float) -> socket.socket:
    try:
        if isinstance(endpoint, Tcp):
            return socket.create_connection((endpoint.host, endpoint.port), patience)
        if isinstance(endpoint, Unix):
            return _unix(endpoint.path, patience)
    except (OSError, UnicodeError) as error:  # UnicodeError: no host's name
        why = getattr(error, "strerror", None) or str(error)
        raise ConnectionFailed(f"{endpoint}: {why}; is nk run serving there?") from None
    raise ConnectionFailed(f"{endpoint}: a live machine is at HOST:PORT or unix:PATH")


def _unix(path: str, patience: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(patience)
    try:
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection
