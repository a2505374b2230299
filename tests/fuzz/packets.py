# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets to the server of two tiny guests: in process, and over a socket.

A well-formed packet has one reply, in order; what is malformed changes nothing; nothing
is logged as a bug.
"""

import asyncio
import logging
import random
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path

from nanokernel_vm.debug import DebugMachine
from nanokernel_vm.machine import Machine
from stub.conversation import Conversation
from stub.endpoint import Tcp
from stub.framing import Decoder, Packet, encode
from stub.handlers import PACKETS
from stub.outcomes import Work
from stub.server import Server, serve
from stub.stops import StopReason
from tests.fuzz.campaign import Broken, still_alive
from tests.fuzz.grammar import malformed, payload
from tests.guests import pair
from tests.raw_client import RawClient, is_output

_BURST = 50
_HELLO = b"qSupported:multiprocess+;swbreak+;hwbreak+;vContSupported+;error-message+"

_GUEST = """
main:
    gate 3, main
    gate 6, main
    gate 13, main
    gate 14, main
1:  incq counter(%rip)
    mov counter(%rip), %rax
    mov %rax, (%rsp)
    jmp 1b
.data
counter: .quad 0
"""


class Complaints(logging.Handler):
    """Keeps what is logged as a bug."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.texts.append(logging.Formatter().format(record))


@contextmanager
def nothing_logged() -> Iterator[Complaints]:
    """Collect complaints, and silence what is no bug."""
    complaints = Complaints()
    logger = logging.getLogger()
    before = logger.level, logger.handlers[:]
    logger.handlers[:] = [complaints]
    logger.setLevel(logging.ERROR)
    try:
        yield complaints
    finally:
        logger.handlers[:] = before[1]
        logger.setLevel(before[0])


class _Wire:
    """Sends into a list, and remembers the run to wait for."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self.stop = stop
        self.sent = bytearray()
        self.run: asyncio.Future[StopReason] | None = None
        self.begun: Work | None = None
        self.hung_up = False

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.sent += data

    def close(self) -> None:
        """Take note."""
        self.hung_up = True

    abort = close

    def watch(self, run: Awaitable[StopReason]) -> None:
        """Take note."""
        self.run = asyncio.ensure_future(run)

    def work(self, work: Work) -> None:
        """Take note."""
        self.begun = work

    def interrupt(self) -> None:
        """Pass on."""
        self.stop()

    def replies(self) -> int:
        """Packets sent since the last call; console output before one is part of it."""
        events = Decoder().feed(bytes(self.sent))
        self.sent.clear()
        packets = [event.payload for event in events if isinstance(event, Packet)]
        return sum(not is_output(packet) for packet in packets)


class _Bench:
    """A machine and one client's conversation with it."""

    def __init__(self, folder: Path) -> None:
        self.machine = _machine(folder)
        self.debug = DebugMachine(self.machine, {})
        self.wire = _Wire(self.debug.interrupt)
        self.talk = Conversation(self.wire, PACKETS.session(self.debug))
        session = self.talk.session
        self.talk.begin(lambda request: PACKETS.dispatch(session, request))
        self.talk.feed(encode(_HELLO) + encode(b"QStartNoAckMode") + encode(b"?"))
        self.wire.replies()

    @property
    def spent(self) -> bool:
        """Whether there is nothing left to try."""
        return self.wire.hung_up or not any(p.alive for p in self.machine.partitions)

    async def ask(self, request: bytes) -> None:
        """Send one packet; one reply must come, now or when its run has ended."""
        self.talk.feed(encode(request))
        if self.wire.run is not None:
            self.talk.feed(b"\x03")
        while self.wire.run is not None:
            run, self.wire.run = self.wire.run, None
            await asyncio.wait([run])
            self.talk.ran(run.result)
        if (work := self.wire.begun) is not None:
            self.wire.begun = None
            self.talk.worked(lambda: work.do(work))
        replies = self.wire.replies()
        silent = request == b"k" or request[:1] == b"R"  # the manual has none
        if replies != (not silent):
            raise Broken(f"{replies} replies to {request!r}")

    async def burst(self, rng: random.Random) -> int:
        """Some packets, and some that are none; how many."""
        still_alive()
        for tried in range(_BURST):
            if self.spent:
                return tried
            if rng.random() < 0.05:
                self.insult(malformed(rng))
            else:
                await self.ask(payload(rng))
        return _BURST

    def insult(self, data: bytes) -> None:
        """Send what is no packet, however it is cut: nothing may change."""
        if any(isinstance(event, Packet) for event in Decoder().feed(data)):
            return  # damage at its beginning has left a whole one behind it
        before = self._look()
        self.talk.feed(data)
        self.wire.sent.clear()
        if self._look() != before:
            raise Broken(f"something changed by {data!r}")

    def _look(self) -> list[object]:
        """At what the client holds: the rest runs."""
        held = {inferior.pid for inferior in self.debug.held()}
        return [
            (p.condition, p.clock, p.engine.state.rip, tuple(p.engine.state.regs))
            for p in self.machine.partitions
            if p.pid in held
        ]

    def close(self) -> None:
        """End it."""
        self.talk.session.close()
        self.debug.close()


def _machine(folder: Path) -> Machine:
    """Two guests that count."""
    return pair(folder, _GUEST, _GUEST)


async def _in_process(rng: random.Random, count: int, folder: Path) -> int:
    tried = 0
    while tried < count:
        bench = _Bench(folder)
        try:
            while tried < count and not bench.spent:
                tried += await bench.burst(rng)
        finally:
            bench.close()
    return tried


async def _burst(client: RawClient, rng: random.Random) -> int:
    """Send packets in one go, cut anywhere; as many replies must come."""
    requests = [payload(rng) for _ in range(_BURST)]
    requests = [r for r in requests if r[:1] not in b"kcCsSvDR"]
    stream = b"".join(map(encode, requests))
    while stream:
        length = rng.choice((1, 7, 100, 5000))
        client.writer.write(stream[:length])
        await client.writer.drain()
        stream = stream[length:]
    for _ in requests:
        while is_output(await client.receive()):
            pass
    return len(requests)


async def _visit(server: Server, rng: random.Random, count: int) -> int:
    """One client's bursts; it leaves by the door or through the window."""
    tried = 0
    async with RawClient.connected(server.address) as client:
        await client.hello()
        while tried < count:
            still_alive()
            tried += await _burst(client, rng)
        if rng.random() < 0.5:
            client.writer.write(encode(b"D")[: rng.randrange(5)])
    return tried


async def _over_sockets(rng: random.Random, count: int, folder: Path) -> int:
    tried = 0
    while tried < count:
        machine = _machine(folder)
        debug = DebugMachine(machine, {})
        debug.run_freely()
        server = await serve(debug, Tcp("127.0.0.1", 0))
        try:
            while tried < count and all(p.alive for p in machine.partitions):
                tried += await _visit(server, rng, min(2000, count))
        finally:
            server.close()
            await server.wait_closed()
            debug.close()
    return tried


_Trial = Callable[[random.Random, int, Path], Coroutine[None, None, int]]


def _held(trial: _Trial, rng: random.Random, count: int) -> int:
    """Run one, in which nothing may be logged as a bug."""
    with nothing_logged() as complaints, tempfile.TemporaryDirectory() as folder:
        tried = asyncio.run(trial(rng, count, Path(folder)))
    if complaints.texts:
        raise Broken(complaints.texts[0])
    return tried


def in_process(rng: random.Random, count: int) -> int:
    """A conversation without a socket."""
    return _held(_in_process, rng, count)


def over_sockets(rng: random.Random, count: int) -> int:
    """Clients one after the other over TCP on the loopback interface."""
    return _held(_over_sockets, rng, count)
