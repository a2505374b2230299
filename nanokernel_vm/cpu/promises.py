# SPDX-License-Identifier: GPL-2.0-or-later
"""What this processor promises: the one table of CPUID's bits and what they govern.

What CPUID denies is #UD (of a control register's bit: #GP), what it promises works.
CPUID's answers (``cpuid``) and the decoder's refusals (``decoding``) are both made of
this table; a bit that it does not name is clear and governs nothing that we know of.

References are to Intel's SDM (vol. 2, CPUID, tables 3-8 to 3-11) and, for the bits of
AMD that other processors must refuse, to the APM (vol. 3, appendix E).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

EAX, EBX, ECX, EDX = range(4)


class Place(NamedTuple):
    """Where CPUID says it: leaf, subleaf, register, bit."""

    leaf: int
    subleaf: int
    register: int
    bit: int


@dataclass(frozen=True, slots=True)
class Feature:
    """One bit of CPUID.

    Attributes:
        name: As the SDM or the APM has it.
        place: Its bit.
        promised: Whether it is set.
        encodings: The instructions it governs, in the notation of ``decoding``.  Those
            that are NOPs where they are not known (0F 18 to 0F 1F, 0F 0D and what
            ignores a prefix) are not refused and so not named.
        cr4: The bit of CR4 that it lets be set, if any.
        with_cr4: It is promised while this bit of CR4 is set.
    """

    name: str
    place: Place
    promised: bool
    encodings: tuple[str, ...] = ()
    cr4: int | None = None
    with_cr4: int | None = None


def _features(
    promised: bool, tables: Mapping[tuple[int, int, int], str]
) -> tuple[Feature, ...]:
    """Make features of lines ``bit name [cr4=bit]: encoding, encoding``."""
    return tuple(
        _feature(row, place, promised)
        for place, rows in tables.items()
        for row in map(str.strip, rows.splitlines())
        if row
    )


def _feature(row: str, place: tuple[int, int, int], promised: bool) -> Feature:
    head, _, encodings = row.partition(":")
    bit, name, *options = head.split()
    cr4 = {key: int(value) for key, value in (o.split("=") for o in options)}
    governed = tuple(e.strip() for e in encodings.split(",") if e.strip())
    return Feature(name, Place(*place, int(bit)), promised, governed, **cr4)


_PROMISED = {
    (1, 0, EDX): """
        0 FPU
        2 DE cr4=3
        3 PSE cr4=4
        4 TSC cr4=2: 0F 31
        5 MSR: 0F 30, 0F 32
        6 PAE cr4=5
        7 MCE cr4=6
        8 CX8: 0F C7 /1 m
        11 SEP: 0F 34, 0F 35
        12 MTRR
        13 PGE cr4=7
        14 MCA
        15 CMOV
        16 PAT
        17 PSE-36
        19 CLFSH: NP 0F AE /7 m
        23 MMX
        24 FXSR cr4=9: NP 0F AE /0 m, NP 0F AE /1 m
        25 SSE cr4=10
        26 SSE2
        """,
    (1, 0, ECX): """
        0 SSE3: F2 0F D0, 66 0F 7C, F2 0F F0 m
        1 PCLMULQDQ: 66 0F 3A 44
        9 SSSE3: 66 0F 38 00, 66 0F 3A 0F
        13 CMPXCHG16B: 0F C7 /1 m
        19 SSE4.1: 66 0F 38 40, 66 0F 3A 0A
        20 SSE4.2: 66 0F 38 37, F2 0F 38 F1, 66 0F 3A 63
        22 MOVBE: NP 0F 38 F0 m, NP 0F 38 F1 m
        23 POPCNT: F3 0F B8
        25 AES: 66 0F 38 DC, 66 0F 3A DF
        26 XSAVE cr4=18: NP 0F AE /4 m, NP 0F AE /5 m, NP 0F 01 D0, NP 0F 01 D1
        27 OSXSAVE with_cr4=18
        """,
    (7, 0, EBX): """
        0 FSGSBASE cr4=16: F3 0F AE /0 r, F3 0F AE /1 r, F3 0F AE /2 r, F3 0F AE /3 r
        3 BMI1: VEX NP 0F 38 F2, VEX NP 0F 38 F3 /1, VEX NP 0F 38 F3 /2,\
            VEX NP 0F 38 F3 /3, VEX NP 0F 38 F7, F3 0F BC
        7 SMEP cr4=20
        8 BMI2: VEX NP 0F 38 F5, VEX F3 0F 38 F5, VEX F2 0F 38 F5, VEX F2 0F 38 F6,\
            VEX 66 0F 38 F7, VEX F3 0F 38 F7, VEX F2 0F 38 F7, VEX F2 0F 3A F0
        9 ERMS
        """,
    (0xD, 1, EAX): "0 XSAVEOPT: NP 0F AE /6 m",
    (0x8000_0001, 0, ECX): """
        0 LAHF
        5 ABM: F3 0F BD
        8 PREFETCHW: 0F 0D /1 m
        """,
    (0x8000_0001, 0, EDX): """
        11 SYSCALL: 0F 05, 0F 07
        20 NX
        27 RDTSCP: 0F 01 F9
        29 LM
        """,
}

_DENIED = {
    (1, 0, EDX): "1 VME cr4=0",
    (1, 0, ECX): """
        3 MONITOR: NP 0F 01 C8, NP 0F 01 C9
        5 VMX cr4=13: NP 0F 01 C1, NP 0F 01 C2, NP 0F 01 C3, NP 0F 01 C4,\
            NP 0F 01 D4, NP 0F 78, NP 0F 79, NP 0F C7 /6 m, 66 0F C7 /6 m,\
            F3 0F C7 /6 m, NP 0F C7 /7 m, 66 0F 38 80 m, 66 0F 38 81 m
        6 SMX cr4=14: NP 0F 37
        12 FMA: VEX
        17 PCID cr4=17
        28 AVX: VEX
        29 F16C: VEX
        30 RDRAND: NP 0F C7 /6 r, 66 0F C7 /6 r
        """,
    (7, 0, EBX): """
        2 SGX: NP 0F 01 C0, NP 0F 01 CF, NP 0F 01 D7
        4 HLE: NP 0F 01 D6
        5 AVX2: VEX
        10 INVPCID: 66 0F 38 82 m
        11 RTM: C7 F8, C6 F8, NP 0F 01 D5
        16 AVX512F: 62
        18 RDSEED: NP 0F C7 /7 r, 66 0F C7 /7 r
        19 ADX: 66 0F 38 F6, F3 0F 38 F6
        20 SMAP cr4=21: NP 0F 01 CA, NP 0F 01 CB
        22 PCOMMIT: 66 0F AE F8
        23 CLFLUSHOPT: 66 0F AE /7 m
        24 CLWB: 66 0F AE /6 m
        29 SHA: NP 0F 38 C8, NP 0F 38 C9, NP 0F 38 CA, NP 0F 38 CB, NP 0F 38 CC,\
            NP 0F 38 CD, NP 0F 3A CC
        """,
    (7, 0, ECX): """
        2 UMIP cr4=11
        3 PKU cr4=22: NP 0F 01 EE, NP 0F 01 EF
        5 WAITPKG: 66 0F AE /6 r, F2 0F AE /6 r, F3 0F AE /6 r
        7 CET_SS cr4=23: F3 0F AE /5 r, F3 0F 01 EA, F3 0F 01 E8, F3 0F AE /6 m,\
            F3 0F 01 /5 m, NP 0F 38 F6 m, 66 0F 38 F5 m
        8 GFNI: 66 0F 38 CF, 66 0F 3A CE, 66 0F 3A CF
        9 VAES: VEX
        10 VPCLMULQDQ: VEX
        16 LA57 cr4=12
        22 RDPID: F3 0F C7 /7 r
        23 KL cr4=19: F3 0F 38 DC, F3 0F 38 DD, F3 0F 38 DE, F3 0F 38 DF, F3 0F 38 D8,\
            F3 0F 38 FA, F3 0F 38 FB
        27 MOVDIRI: NP 0F 38 F9 m
        28 MOVDIR64B: 66 0F 38 F8 m
        29 ENQCMD: F2 0F 38 F8 m, F3 0F 38 F8
        31 PKS cr4=24
        """,
    (7, 0, EDX): """
        5 UINTR cr4=25: F3 0F C7 /6 r, F3 0F 01 EC, F3 0F 01 ED, F3 0F 01 EE,\
            F3 0F 01 EF
        14 SERIALIZE: NP 0F 01 E8
        16 TSXLDTRK: F2 0F 01 E8, F2 0F 01 E9
        18 PCONFIG: NP 0F 01 C5
        """,
    (7, 1, EAX): """
        3 RAO-INT: 0F 38 FC
        22 HRESET: F3 0F 3A F0
        """,
    (0xD, 1, EAX): """
        1 XSAVEC: NP 0F C7 /4 m
        3 XSAVES: NP 0F C7 /3 m, NP 0F C7 /5 m
        """,
    (0x14, 0, EBX): "4 PTWRITE: F3 0F AE /4",
    (0x8000_0001, 0, ECX): """
        2 SVM: 0F 01 D8, 0F 01 D9, 0F 01 DA, 0F 01 DB, 0F 01 DC, 0F 01 DD, 0F 01 DE,\
            0F 01 DF
        6 SSE4A: F2 0F 2B, F3 0F 2B, 66 0F 78, F2 0F 78, 66 0F 79, F2 0F 79
        11 XOP: 8F /1, 8F /2, 8F /3, 8F /4, 8F /5, 8F /6, 8F /7
        15 LWP: 8F /1
        16 FMA4: VEX
        21 TBM: 8F /1
        29 MONITORX: 0F 01 FA, 0F 01 FB
        """,
    (0x8000_0001, 0, EDX): """
        30 3DNOWEXT: 0F 0F
        31 3DNOW: 0F 0F, 0F 0E
        """,
    (0x8000_0008, 0, EBX): """
        0 CLZERO: NP 0F 01 FC
        3 INVLPGB: NP 0F 01 FE, NP 0F 01 FF
        4 RDPRU: NP 0F 01 FD
        8 MCOMMIT: F3 0F 01 FA
        """,
}

PROMISED, DENIED = _features(True, _PROMISED), _features(False, _DENIED)
FEATURES = PROMISED + DENIED

# What no bit of CPUID governs because no processor has it (SDM vol. 2, appendix A: an
# empty cell is reserved), where the engine executes something all the same
RESERVED = (
    *("66 0F 12 r", "66 0F 16 r", "0F 13 r", "0F 17 r", "0F 50 m"),
    *("0F 71 m", "0F 72 m", "0F 73 m", "F2 0F D6 m", "F3 0F D6 m"),
    *("66 0F C3", "F2 0F C3", "F3 0F C3"),
    *("66 0F AE /5 r", "F2 0F AE /5 r", "F2 0F AE /7 r", "F3 0F AE /7 r"),
    *("NP 0F 38 F0 r", "66 0F 38 F0 r", "NP 0F 38 F1 r", "66 0F 38 F1 r"),
    *("F3 0F 38 F0", "F3 0F 38 F1"),
)

_CR4_PCE = 1 << 8  # which no feature governs (SDM vol. 3, 2.5)
CR4_PROMISED = _CR4_PCE | sum(1 << f.cr4 for f in PROMISED if f.cr4 is not None)

# x87 and SSE: what CPUID.0DH:EAX lists (SDM vol. 1, 13.2), so all that XCR0 may hold
XCR0_PROMISED = 0b11
