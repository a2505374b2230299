# SPDX-License-Identifier: GPL-2.0-or-later
"""The answers to CPUID: the bits of ``promises``, and the numbers beside them.

SDM vol. 2, CPUID, tables 3-8 to 3-17.  Kept is what the engine's Haswell says of itself
where that is no promise: its name, and caches that nobody can measure.
"""

from collections.abc import Mapping
from functools import cache

from nanokernel_vm.cpu.promises import (
    EAX,
    EBX,
    ECX,
    EDX,
    FEATURES,
    XCR0_PROMISED,
)

Registers = tuple[int, int, int, int]  # EAX, EBX, ECX, EDX
NOTHING: Registers = (0, 0, 0, 0)

HYPERVISOR = 1 << 31  # CPUID.1:ECX, and the leaves from 0x40000000
_SIGNATURE = 0x0003_06C4  # family 6, model 60, stepping 4
_CACHE_LINE = 8 << 8  # of CLFLUSH, in words of 8 bytes
_XSAVE_AREA = 512 + 64  # bytes: the legacy region and the header (SDM vol. 1, 13.4)
_MAXIMUM, _EXTENDED_MAXIMUM = 0xD, 0x8000_0008
_ADDRESSES = 48 << 8 | 40  # bits: linear, physical


def _words(text: bytes) -> tuple[int, ...]:
    return tuple(
        int.from_bytes(text[at : at + 4], "little") for at in range(0, len(text), 4)
    )


_B, _D, _C = _words(b"GenuineIntel")
_BRAND = _words(b"Intel Core Processor (Haswell)".ljust(48, b"\0"))
# Level, type and sharing; ways, partitions and line; sets; flags
_L1_DATA = (0x121, 0x01C0_003F, 0x3F, 1)
_L1_CODE = (0x122, 0x01C0_003F, 0x3F, 1)
_L2 = (0x143, 0x03C0_003F, 0xFFF, 1)

#: (leaf, subleaf) to registers; a leaf that has subleaves is here with each
_NUMBERS: Mapping[tuple[int, int], Registers] = {
    (0, 0): (_MAXIMUM, _B, _C, _D),
    (1, 0): (_SIGNATURE, _CACHE_LINE, 0, 0),
    (2, 0): (1, 0, 0, 0x002C_307D),
    (4, 0): _L1_DATA,
    (4, 1): _L1_CODE,
    (4, 2): _L2,
    (0xD, 0): (XCR0_PROMISED, _XSAVE_AREA, _XSAVE_AREA, 0),
    (0xD, 1): (0, _XSAVE_AREA, 0, 0),
    (0x8000_0000, 0): (_EXTENDED_MAXIMUM, _B, _C, _D),
    **{
        (0x8000_0002 + n, 0): (
            _BRAND[4 * n],
            _BRAND[4 * n + 1],
            _BRAND[4 * n + 2],
            _BRAND[4 * n + 3],
        )
        for n in range(3)
    },
    (0x8000_0006, 0): (0, 0, 0x0200_8140, 0),  # L2: 4 MiB as above
    (0x8000_0008, 0): (_ADDRESSES, 0, 0, 0),
}
_WITH_SUBLEAVES = frozenset((4, 7, 0xB, 0xD))


def answer(
    leaf: int, subleaf: int, cr4: int, hypervisor: Mapping[int, Registers]
) -> Registers:
    """What CPUID leaves in its registers.

    Args:
        leaf: EAX.
        subleaf: ECX.
        cr4: What CR4 holds; some bits follow it.
        hypervisor: Leaves from 0x40000000 on; with any, there is one.
    """
    if 0x4000_0000 <= leaf < 0x5000_0000:
        return hypervisor.get(leaf, NOTHING)
    leaf = _existing(leaf)
    found = _answer(leaf, subleaf if leaf in _WITH_SUBLEAVES else 0, cr4)
    if leaf != 1 or not hypervisor:
        return found
    eax, ebx, ecx, edx = found
    return eax, ebx, ecx | HYPERVISOR, edx


def _existing(leaf: int) -> int:
    """One beyond the last is answered as the last basic one (SDM vol. 2, CPUID)."""
    last = _MAXIMUM if leaf < 0x8000_0000 else _EXTENDED_MAXIMUM
    return leaf if leaf <= last else _MAXIMUM


@cache
def _answer(leaf: int, subleaf: int, cr4: int) -> Registers:
    registers = list(_NUMBERS.get((leaf, subleaf), NOTHING))
    for feature in FEATURES:
        place = feature.place
        if (place.leaf, place.subleaf) == (leaf, subleaf):
            on = feature.with_cr4 is None or cr4 >> feature.with_cr4 & 1
            registers[place.register] |= int(feature.promised and on) << place.bit
    return registers[EAX], registers[EBX], registers[ECX], registers[EDX]
