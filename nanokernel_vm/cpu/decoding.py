# SPDX-License-Identifier: GPL-2.0-or-later
"""Which encodings the processor refuses to decode: what ``promises`` denies.

The notation is the SDM's (vol. 2, 3.1.1.1) as far as it matters here::

    [VEX] [NP | 66 | F3 | F2] opcode bytes [ModRM byte | /digit] [m | r]

No prefix stands for any, no ModRM for any; ``m`` and ``r`` are ModRM with a memory and
a register operand.  ``VEX`` alone is every instruction with that prefix.  Of F2 and F3
the last counts, and 66 only without them (SDM vol. 2, 2.1.2 and appendix A.2.4).
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nanokernel_vm.cpu.promises import DENIED, PROMISED, RESERVED

NO_PREFIX, OPERAND_SIZE, REP, REPNE = 1, 2, 4, 8  # what a rule may want; as in C
_PREFIXES = {"NP": NO_PREFIX, "66": OPERAND_SIZE, "F3": REP, "F2": REPNE}
_ANY_PREFIX = NO_PREFIX | OPERAND_SIZE | REP | REPNE
_FIELD = struct.Struct("BBBBBB")


@dataclass(frozen=True, slots=True)
class Encoding:
    """A set of encodings.

    Attributes:
        vex: Whether it begins with VEX.
        map: 0 to 3: one byte, 0F, 0F 38, 0F 3A.
        opcode: Its byte in the map.
        prefixes: Those of the four that belong to the set.
        mask: Bits of ModRM that matter.
        value: What they are.
        memory: Whether a memory operand belongs to the set.
        register: Whether a register operand does.
    """

    vex: bool
    map: int
    opcode: int
    prefixes: int = _ANY_PREFIX
    mask: int = 0
    value: int = 0
    memory: bool = True
    register: bool = True

    def packed(self) -> bytes:
        """As ``struct rule`` of native/promises.h."""
        forms = self.memory | self.register << 1
        return _FIELD.pack(
            self.map, self.opcode, self.prefixes, self.mask, self.value, forms
        )


def parse(text: str) -> Encoding:
    """Read one set of encodings."""
    words = text.split()
    vex = words[0] == "VEX"
    words = words[vex:]
    prefixes = _ANY_PREFIX
    if words[0] in _PREFIXES and len(words) > 1:
        prefixes = _PREFIXES[words.pop(0)]
    map_, escape = 0, {"0F": 1}
    while words[0] in escape:
        map_ = escape[words.pop(0)]
        escape = {"38": 2, "3A": 3} if map_ == 1 else {}
    opcode = int(words.pop(0), 16)
    forms = "mr"
    if words and words[-1] in "mr":
        forms = words.pop()
    mask = value = 0
    if words and words[0].startswith("/"):
        mask, value = 0x38, int(words.pop(0)[1]) << 3
    elif words:
        mask, value = 0xFF, int(words.pop(0), 16)
    if words:
        raise AssertionError(f"{text}: {words} is not understood")
    return Encoding(
        vex, map_, opcode, prefixes, mask, value, "m" in forms, "r" in forms
    )


def _packed(encodings: Iterable[Encoding]) -> bytes:
    ordered = sorted(encodings, key=lambda e: (e.map, e.opcode))
    return b"".join(encoding.packed() for encoding in ordered)


# Operands of 16 bytes in memory that must be aligned (SDM vol. 2, 2.4: all but MOVU..,
# LDDQU and PCMPxSTRx), by prefix and escape: opcodes, and ranges of them
_ALIGNED = {
    "NP 0F": "14-15 28-29 2B 51-59 5B-5F C2 C6",
    "66 0F": "14-15 28-29 2B-2D 51 54-6D 6F 70 74-76 7C-7D 7F C2 C6 D0-D5 D8-EF F1-F6 "
    "F8-FE",
    "F3 0F": "12 16 5B 70",
    "F2 0F": "70 7C-7D D0 E6",
    "66 0F 38": "00-0B 10 14-15 17 1C-1E 28-2B 37-41 DB-DF",
    "66 0F 3A": "08-09 0C-0F 40-42 44 DF",
}


def _aligned() -> Iterator[Encoding]:
    for escape, opcodes in _ALIGNED.items():
        for first, _, last in (word.partition("-") for word in opcodes.split()):
            for opcode in range(int(first, 16), int(last or first, 16) + 1):
                yield parse(f"{escape} {opcode:02X} m")


def rules() -> tuple[bytes, bytes, bytes]:
    """For the decoder: what to refuse, VEX encodings not to, what wants alignment."""
    denied = [e for feature in DENIED for e in feature.encodings if e != "VEX"]
    legacy = {parse(text) for text in (*denied, *RESERVED)}
    promised = {parse(text) for feature in PROMISED for text in feature.encodings}
    vex = [encoding for encoding in promised if encoding.vex]
    return _packed(legacy), _packed(vex), _packed(_aligned())
