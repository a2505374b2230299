# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests as a client may write them: every packet there is, right or nearly so."""

import random
import re
from collections.abc import Callable

from nanokernel_vm.debug.monitor import COMMANDS
from stub.dispatch import _KINDS, Row
from stub.framing import encode
from stub.handlers import PACKETS

Make = Callable[[random.Random], bytes]

_WORDS = (
    0, 1, 2, 3, 4, 7, 8, 0x1000, 0x10_0000, 0x10_0ff8, 0x1f_ffff, 0x20_0000,
    0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 47, (1 << 47) - 1,
    0xffff_8000_0000_0000, 0xffff_ffff_8100_0000, 1 << 63, (1 << 64) - 1,
)  # fmt: skip
_LENGTHS = (0, 1, 2, 4, 8, 16, 64, 0x1000, 0x10000, 1 << 36, (1 << 64) - 1)
_TEXTS = (b"target.xml", b"", b"processes", b"\xff\xfe", b"x" * 300, b"/dev/zero")
_IDS = (
    b"p1.1",
    b"p2.1",
    b"p-1.-1",
    b"p1.-1",
    b"p0.0",
    b"0",
    b"-1",
    b"1",
    b"2",
    b"p9.9",
)


def _number(rng: random.Random) -> bytes:
    pool = _WORDS if rng.random() < 0.7 else _LENGTHS
    value = rng.choice(pool) if rng.random() < 0.8 else rng.getrandbits(64)
    return b"%x" % value


def _hex(rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        return _monitor_line(rng).hex().encode()
    return rng.randbytes(rng.choice((0, 1, 4, 8, 100))).hex().encode()


def _monitor_line(rng: random.Random) -> bytes:
    words = [rng.choice(_MONITOR)]
    for _ in range(rng.randrange(3)):
        words.append(rng.choice(_ARGUMENTS))
    return b" ".join(words)


_MONITOR = tuple(name.encode() for name in COMMANDS)
_ARGUMENTS = (
    b"host", b"guest", b"-j", b"-a", b"0", b"-1", b"3", b"0x100000",
    b"9223372036854775808", b"1e9", b"\xff", b"ffffffffffffffffff", b"/nonexistent",
    b"9" * 5000,
)  # fmt: skip

_MAKERS: dict[str, Make] = {
    "x": _number,
    "hex": _hex,
    "raw": lambda rng: rng.choice(
        (
            b"",
            b"multiprocess+;swbreak+",
            rng.randbytes(rng.randrange(20)),
            b"c",
            b"c;s:1",
        )
    ),
    "letter": lambda rng: rng.choice((b"g", b"c", b"m", b"z")),
    "text": lambda rng: rng.choice(_TEXTS),
    "thread": lambda rng: rng.choice(_IDS),
}
assert set(_MAKERS) >= set(_KINDS), "a kind of field that is never tried"
_FIRST = 0xE000
_OPTIONAL = re.compile(r"\(\?:((?:[^()\\]|\\.)*)\)\?")


def _template(row: Row) -> str:
    """The row's pattern with a private character for each field."""
    text = row.pattern.pattern.decode()
    for index, name in enumerate(_MAKERS):
        if name in _KINDS:
            text = text.replace(f"({_KINDS[name].pattern})", chr(_FIRST + index))
    return text


def _write(template: str, rng: random.Random) -> bytes:
    """Fill a template in, its optional parts by chance."""
    while match := _OPTIONAL.search(template):
        kept = match[1] if rng.random() < 0.7 else ""
        template = template[: match.start()] + kept + template[match.end() :]
    makers = list(_MAKERS.values())
    plain = re.sub(r"\\(.)", r"\1", template)
    return b"".join(
        makers[ord(c) - _FIRST](rng) if ord(c) >= _FIRST else c.encode() for c in plain
    )


_TEMPLATES = {row.name: _template(row) for row in PACKETS}
# Those that end what is tried, or let it run: seldom, or little else happens.
_SELDOM = frozenset(
    (b"k", b"vKill", b"D", b"c", b"C", b"vCont", b"M", b"X", b"G", b"P")
)
_OFTEN = tuple(sorted(_TEMPLATES.keys() - _SELDOM))
_RARE = tuple(sorted(_TEMPLATES.keys() & _SELDOM))


def payload(rng: random.Random) -> bytes:
    """One request: right by its grammar, most of the time."""
    chance = rng.random()
    if chance < 0.01:
        return rng.randbytes(rng.randrange(40))
    name = rng.choice(_RARE if chance < 0.05 else _OFTEN)
    request = _write(_TEMPLATES[name], rng)
    return _spoil(request, rng) if rng.random() < 0.15 else request


def _spoil(data: bytes, rng: random.Random) -> bytes:
    """Change, drop, double or append bytes."""
    place = rng.randrange(len(data) + 1)
    return (
        data[:place]
        + rng.choice(
            (
                b"",
                b",",
                b";",
                b":",
                b"-",
                b"\xff",
                data[place : place + 4] * 2,
                b"f" * 20,
            )
        )
        + data[place + rng.randrange(3) :]
    )


def malformed(rng: random.Random) -> bytes:
    """Bytes that hold no packet which may be obeyed."""
    frame = encode(payload(rng))
    match rng.randrange(4):
        case 0:  # a checksum that does not fit
            return frame[:-2] + b"%02x" % (int(frame[-2:], 16) ^ rng.randrange(1, 256))
        case 1:
            return frame[:-1] + b"z"
        case 2:
            return b"$" + frame  # broken off, and begun again: the second is whole
        case _:
            return bytes(c for c in rng.randbytes(30) if c not in b"$\x03#")
