# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes to events and payloads to bytes: ``$payload#checksum`` (manual, "Overview").

No sockets and no meaning of packets here.  How the stream is cut into pieces
never changes the events, and memory stays bounded whatever a peer sends.
"""

import re
from dataclasses import dataclass
from enum import Enum
from zlib import adler32

from stub.errors import ProtocolError

MAX_PACKET = 0x20000
"""Longest payload accepted, escapes counted; gdb asks for half of it per ``m``."""


class Control(Enum):
    """Single bytes outside of packets."""

    ACK = ord("+")
    NAK = ord("-")
    INTERRUPT = 0x03


@dataclass(frozen=True, slots=True)
class Packet:
    """A payload, unescaped and expanded."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class BadChecksum:
    """A packet whose two digits do not fit its bytes: ask for it again."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """A packet that cannot be read although it arrived whole."""

    why: str


@dataclass(frozen=True, slots=True)
class Garbage:
    """Bytes that belong to no packet, or to one that was broken off."""

    length: int


Buffer = bytes | bytearray
Event = Control | Packet | BadChecksum | Malformed | Garbage

_CONTROLS = {control.value: control for control in Control}
_START = re.compile(rb"[$+\-\x03]")
_END = re.compile(rb"[$#]")
_ESCAPE = re.compile(rb"\}(.?)", re.DOTALL)
_DOLLAR = ord("$")
_SUMMED_AT_ONCE = 256  # so many bytes cannot reach adler32's modulus, 65521


class Decoder:
    """Turns the bytes of one connection into events."""

    def __init__(self, limit: int = MAX_PACKET) -> None:
        self._limit = limit
        self._rest = bytearray()  # the beginning of a packet
        self._scanned = 0  # there is no '#' and no '$' in it before this offset
        self._oversized = False
        self._garbage = 0  # bytes skipped since the last event

    def feed(self, data: bytes) -> list[Event]:
        """Take in more bytes; return what they complete."""
        if self._rest:
            self._rest += data
        buffer = self._rest or data
        events: list[Event] = []
        position = 0
        while (end := self._next(buffer, position, events)) is not None:
            position = end
        if self._rest:
            del self._rest[:position]
        elif position < len(data):
            self._rest += data[position:]
        return events

    def _next(self, buffer: Buffer, start: int, events: list[Event]) -> int | None:
        """Append the event beginning at ``start``; return where it ends, if it does."""
        if start == len(buffer):
            return None
        if self._oversized:
            return self._skip(buffer, start, events)
        first = buffer[start]
        if first == _DOLLAR:
            return self._packet(buffer, start, events)
        if (control := _CONTROLS.get(first)) is not None:
            self._emit(control, events)
            return start + 1
        match = _START.search(buffer, start)
        end = match.start() if match else len(buffer)
        self._garbage += end - start
        return end

    def _packet(self, buffer: Buffer, start: int, events: list[Event]) -> int | None:
        body = start + 1
        unseen = start + max(1, self._scanned)
        sharp = buffer.find(b"#", unseen)
        end = len(buffer) if sharp < 0 else sharp
        again = buffer.find(b"$", unseen, min(end, body + self._limit + 1))
        self._scanned = 0
        if again >= 0:  # '$' is always escaped inside: the packet was broken off
            self._garbage += again - start
            return again
        if end - body > self._limit:
            self._oversized = True
            return body + self._limit + 1
        if sharp < 0 or sharp + 3 > len(buffer):
            self._scanned = end - start
            return None
        raw, digits = buffer[body:sharp], buffer[sharp + 1 : sharp + 3]
        self._emit(_decode(bytes(raw), bytes(digits)), events)
        return sharp + 3

    def _skip(self, buffer: Buffer, start: int, events: list[Event]) -> int | None:
        """Drop the rest of an oversized packet, which gets one answer at its end."""
        match = _END.search(buffer, start)
        if match is None:
            return len(buffer)
        end = match.start() + (3 if match[0] == b"#" else 0)
        if end > len(buffer):
            return match.start() if match.start() > start else None
        self._oversized = False
        self._emit(Malformed(f"packet longer than {self._limit:#x} bytes"), events)
        return end

    def _emit(self, event: Event, events: list[Event]) -> None:
        if self._garbage:
            events.append(Garbage(self._garbage))
            self._garbage = 0
        events.append(event)


def checksum(raw: bytes) -> int:
    """Return the sum of all bytes modulo 256.

    adler32 keeps the plain sum (plus one) in its low half, modulo 65521, at
    many times the speed of ``sum``: short pieces never reach the modulus.
    """
    if len(raw) <= _SUMMED_AT_ONCE:
        return ((adler32(raw) & 0xFFFF) - 1) & 0xFF
    view = memoryview(raw)
    total = 0
    for start in range(0, len(raw), _SUMMED_AT_ONCE):
        total += (adler32(view[start : start + _SUMMED_AT_ONCE]) & 0xFFFF) - 1
    return total & 0xFF


def escape(payload: bytes) -> bytes:
    """Make ``# $ } *`` safe to send; ``*`` would start a run in a reply."""
    return (
        payload.replace(b"}", b"}]")
        .replace(b"#", b"}\x03")
        .replace(b"$", b"}\x04")
        .replace(b"*", b"}\x0a")
    )


def encode(payload: bytes) -> bytes:
    """Frame one reply."""
    raw = escape(payload)
    return b"$%b#%02x" % (raw, checksum(raw))


def _decode(raw: bytes, digits: bytes) -> Event:
    if digits.lower() != b"%02x" % checksum(raw):
        return BadChecksum()
    if b"*" not in raw and b"}" not in raw:
        return Packet(raw)
    try:
        return Packet(unescape(expand(raw, MAX_PACKET)))
    except ProtocolError as error:
        return Malformed(str(error))


def expand(raw: bytes, limit: int) -> bytes:
    """Undo run-length encoding: in ``0* `` the 0 stands four times.

    It works on the bytes as sent, before ``unescape`` (gdb/remote.c, read_frame).
    """
    pieces: list[bytes] = []
    position = size = 0
    while (star := raw.find(b"*", position)) >= 0:
        count = raw[star + 1] - 29 if star + 1 < len(raw) else 0
        if star == 0 or not 3 <= count <= 97:
            raise ProtocolError("run without a byte or a count")
        last = raw[star - 1 : star] if star > position else pieces[-1][-1:]
        pieces += raw[position:star], last * count
        position = star + 2
        size += count
        if size > limit:
            raise ProtocolError(f"packet expands to more than {limit:#x} bytes")
    return b"".join((*pieces, raw[position:]))


def unescape(raw: bytes) -> bytes:
    """Undo ``}`` escapes."""
    return _ESCAPE.sub(_unescape, raw)


def _unescape(match: re.Match[bytes]) -> bytes:
    if not match[1]:
        raise ProtocolError("escape without a byte")
    return bytes((match[1][0] ^ 0x20,))
