# SPDX-License-Identifier: GPL-2.0-or-later
"""The packets that a debugger sends most, timed over loopback by a bare socket."""

import socket
import struct
import time
from dataclasses import dataclass
from statistics import median

from stub.framing import Decoder, Packet, encode

ROUNDS = 2000
STEPS = 2000
BLOCK = 0x8000  # bytes asked for by one m packet; 64 KiB of reply
BLOCKS = 100
_REPLY = 1 << 16
_PATIENCE = 10  # seconds


@dataclass(frozen=True, slots=True)
class Figures:
    """What one server did.

    Attributes:
        g_us: Median seconds of ``g``, in millionths; the client sleeps meanwhile.
        m8_us: The same of a read of 8 bytes.
        read_mb_s: Megabytes of memory read in a second.
        steps_s: Single steps in a second for a client that polls its socket.
        slept_steps_s: The same for one that sleeps until the reply is there.
    """

    g_us: float
    m8_us: float
    read_mb_s: float
    steps_s: float
    slept_steps_s: float


class Wire:
    """One connection; waits at most a few seconds for anything."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address)
        # The kernel's timeout: Python's own would call poll before every recv.
        patience = struct.pack("ll", _PATIENCE, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._decoder = Decoder()
        self._ack = True
        self.packet_size = 0x400

    def ask(self, payload: bytes) -> bytes:
        """Send one packet; its reply."""
        self._socket.sendall(encode(payload))
        while True:
            # Peers without TCP_NODELAY would wait 40 ms for our delayed ACK.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            for event in self._decoder.feed(self._socket.recv(1 << 18)):
                if isinstance(event, Packet):
                    if self._ack:
                        self._socket.sendall(b"+")
                    if event.payload == b"OK" or event.payload[:1] != b"O":
                        return event.payload

    def time(self, payload: bytes, *, poll: bool = False) -> float:
        """Send one packet; seconds until its reply is there.

        It does no more than it must: this is about the server.  A client that sleeps
        is woken by the kernel, which on an idle virtual processor takes longer than
        a server's whole answer; one that polls leaves that out.
        """
        packet, wire = encode(payload), self._socket
        wait = self._polled if poll else wire.recv
        before = time.perf_counter()
        wire.sendall(packet)
        reply = wait(_REPLY)
        while reply[-3:-2] != b"#":
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            reply += wait(_REPLY)
        after = time.perf_counter()
        if self._ack:
            wire.sendall(b"+")
        return after - before

    def _polled(self, most: int) -> bytes:
        end = time.perf_counter() + _PATIENCE
        while time.perf_counter() < end:
            try:
                return self._socket.recv(most, socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass
        raise TimeoutError(f"no reply in {_PATIENCE} s")

    def attach(self) -> None:
        """Do what gdb does first."""
        features = self.ask(b"qSupported:multiprocess+;vContSupported+")
        for feature in features.split(b";"):
            if feature.startswith(b"PacketSize="):
                self.packet_size = int(feature[11:], 16)
        if self.ask(b"QStartNoAckMode") == b"OK":
            self._ack = False
        self.ask(b"?")

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def measure(wire: Wire, addr: int, step: bytes = b"vCont;s") -> Figures:
    """Time a server that has just been attached to.

    Args:
        wire: The connection.
        addr: A virtual address with BLOCK readable bytes behind it.
        step: The packet that steps the thread once.
    """
    block = b"m%x,%x" % (addr, min(BLOCK, wire.packet_size // 2 - 8))
    got = len(wire.ask(block)) // 2  # some servers give less at a time
    before = time.perf_counter()
    for _ in range(BLOCKS):
        wire.ask(block)
    read = got * BLOCKS / (time.perf_counter() - before) / 1e6
    small = b"m%x,8" % addr
    for _ in range(2 * STEPS):  # what is stepped the first time is translated anew
        wire.time(step)
    return Figures(
        g_us=median(wire.time(b"g") for _ in range(ROUNDS)) * 1e6,
        m8_us=median(wire.time(small) for _ in range(ROUNDS)) * 1e6,
        read_mb_s=read,
        steps_s=STEPS / sum(wire.time(step, poll=True) for _ in range(STEPS)),
        slept_steps_s=STEPS / sum(wire.time(step) for _ in range(STEPS)),
    )
