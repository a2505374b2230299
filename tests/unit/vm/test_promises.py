# SPDX-License-Identifier: GPL-2.0-or-later
"""What CPUID denies is #UD, what it promises works; binutils know what governs what."""

from functools import cache
from itertools import product

import pytest

from nanokernel_vm.cpu.decoding import parse
from nanokernel_vm.cpu.promises import (
    DENIED,
    FEATURES,
    PROMISED,
    RESERVED,
    Feature,
)
from tests.encodings import HLT, MODES, Mode, Processor, Verdict, encode, judge
from tests.guests import Tiny
from tests.samples import PRIVILEGED, SAMPLES

UD, GP = 6, 13

# What binutils call an extension, by the bit of CPUID that says that it is there
EXTENSIONS = {
    **{name: name.lower() for name in ("SSE3", "SSSE3", "SSE4.1", "SSE4.2", "AES")},
    **{name: name.lower() for name in ("MOVBE", "POPCNT", "XSAVE", "XSAVEOPT", "CMOV")},
    **{name: name.lower() for name in ("BMI2", "FSGSBASE", "RDTSCP", "MMX", "FXSR")},
    **{name: name.lower() for name in ("SSE", "SSE2", "SYSCALL", "AVX", "AVX2", "FMA")},
    **{
        name: name.lower()
        for name in ("RDSEED", "SHA", "ADX", "GFNI", "SSE4A", "RDPID")
    },
    "BMI1": "bmi",
    "PCLMULQDQ": "pclmul",
    "CMPXCHG16B": "cx16",
    "ABM": "lzcnt",
    "PREFETCHW": "prfchw",
    "CLFSH": "clflush",
    "FPU": "387",
    "RDRAND": "rdrnd",
    "F16C": "f16c",
    "3DNOW": "3dnow",
}
# Not #UD, though of other processors or of none: what does nothing or less where it is
# not known (SDM vol. 2, "NOP", "PREFETCHWT1", "WBNOINVD", "CLDEMOTE" and MPX), prefixes
# that BSF and BSR ignore, and fences whose r/m bits count for nothing
HINTS = ("0f 09", "0f 0d", "0f 1a", "0f 1b", "0f 1c", "0f 1e", "0f bc", "0f bd")
FENCES = ("0f ae f",)
# #UD, though binutils take them: MONITOR, MWAIT, reserved control and test registers,
# RSM outside of SMM, UD0 to UD2, a prefix that must not be there
NOT_HERE = ("0f 01 c8", "0f 01 c9", "0f 20", "0f 22", "0f 24", "0f 26", "0f aa")
UNDEFINED = (
    *(*NOT_HERE, "0f 0b", "0f b9", "0f ff"),
    *("66 0f 01 d0", "66 0f 01 d1", "66 0f ae f"),
)
# #UD, though it should do nothing: Unicorn's limit
LIMITS = ("0f 18",)


@cache
def _features() -> frozenset[str]:
    """The features that a guest finds in CPUID."""
    places = sorted({feature.place[:2] for feature in FEATURES})
    steps = "".join(
        f"mov ${leaf:#x}, %eax\nmov ${subleaf}, %ecx\ncpuid\nmov %ebx, %esi\n"
        "report %eax\nreport %esi\nreport %ecx\nreport %edx\n"
        for leaf, subleaf in places
    )
    reports = Tiny(f"main: {steps} die").finish()
    found = {
        (*place, register): reports[4 * n + register]
        for n, place in enumerate(places)
        for register in range(4)
    }
    return frozenset(f.name for f in FEATURES if found[f.place[:3]] >> f.place.bit & 1)


def test_cpuid_says_what_the_table_says() -> None:
    assert _features() == {f.name for f in PROMISED if f.with_cr4 is None}


def _march(bits: int) -> str:
    known = [EXTENSIONS[name] for name in sorted(_features() & EXTENSIONS.keys())]
    base = "generic64" if bits == 64 else "i686"
    names = [n for n in known if bits == 64 or n not in ("cx16", "fsgsbase")]
    return "+".join([base, *names])


def _legacy(prefixes: tuple[bytes, ...]) -> list[bytes]:
    escapes = (b"\x0f", b"\x0f\x38", b"\x0f\x3a")
    return [
        prefix + escape + bytes((opcode, form | extension << 3)) + _tail(opcode)
        for escape, prefix, opcode, form, extension in product(
            escapes, prefixes, range(256), (0xC0, 0xC1, 0x00), range(8)
        )
        if escape != b"\x0f" or opcode not in (0x38, 0x3A)
    ]


def _tail(opcode: int) -> bytes:
    """Immediate and end; CMPPS knows eight predicates."""
    return (b"\0" if opcode == 0xC2 else b"") + HLT * 4


def _vex() -> list[bytes]:
    """VEX of three bytes: maps, W and L, each prefix, opcode and extension; of two."""
    three = [
        bytes((0xC4, 0xE0 | table, w << 7 | 0x78 | long << 2 | prefix, opcode, modrm))
        for table, w, long, prefix, opcode, modrm in product(
            (1, 2, 3), (0, 1), (0, 1), range(4), range(256), (0xC8, 0xD0)
        )
    ]
    two = [
        bytes((0xC5, 0xF8 | prefix, opcode, 0xC8))
        for prefix, opcode in product(range(8), range(256))
    ]
    return [code + HLT * 4 for code in (*three, *two)]


def _is(code: bytes, names: tuple[str, ...]) -> bool:
    text = code.lstrip(b"\x66\xf2\xf3").hex(" ")
    return text.startswith(names) or code.hex(" ").startswith(names)


def _expected(code: bytes, verdict: Verdict) -> bool | None:
    """Whether it must be #UD; None: no matter."""
    if verdict is Verdict.PREFIXED or _is(code, UNDEFINED + LIMITS):
        return None
    if verdict is Verdict.KNOWN:
        return False
    return None if _is(code, HINTS + FENCES) else True


def _wrong(mode: Mode, codes: list[bytes]) -> list[tuple[str, str]]:
    verdicts = judge(codes, mode.bits, _march(mode.bits))
    processor = Processor(mode, codes)
    undefined = [processor.run(number) == UD for number in range(len(codes))]
    return [
        (code.hex(" "), name)
        for code, (name, verdict), found in zip(codes, verdicts, undefined, strict=True)
        if _expected(code, verdict) not in (None, found)
    ]


@pytest.mark.parametrize("prefixes", [b"", b"\x66", b"\xf3", b"\xf2"], ids=bytes.hex)
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_an_instruction_is_undefined_or_promised(mode: Mode, prefixes: bytes) -> None:
    """Every opcode, its extensions, register and memory, without and with a prefix."""
    assert _wrong(mode, _legacy((prefixes,))) == []


@pytest.mark.parametrize("prefixes", [b"\x66\xf3", b"\x66\xf2"], ids=bytes.hex)
def test_of_two_prefixes_that_select_one_counts(prefixes: bytes) -> None:
    assert _wrong(MODES[1], _legacy((prefixes,))) == []


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_what_begins_with_vex_is_undefined_but_for_bmi(mode: Mode) -> None:
    assert _wrong(mode, _vex()) == []


def test_every_feature_with_instructions_has_samples() -> None:
    assert {f.name for f in FEATURES if f.encodings} <= SAMPLES.keys()
    assert SAMPLES.keys() <= {f.name for f in FEATURES}


@pytest.mark.parametrize("mode", MODES[:2], ids=str)
@pytest.mark.parametrize("feature", FEATURES, ids=lambda f: f.name)
def test_a_feature_works_or_is_undefined(mode: Mode, feature: Feature) -> None:
    names = SAMPLES.get(feature.name, ())
    processor = Processor(mode, encode(names))
    for number, name in enumerate(names):
        found = processor.run(number)
        if not feature.promised:
            assert found == UD, name
        elif mode.cpl and name in PRIVILEGED:
            assert found == GP, name
        elif name != "xsetbv":  # its RDX:RAX is no mask
            assert found is None, name


@pytest.mark.parametrize("text", RESERVED)
def test_what_nobody_has_is_undefined(text: str) -> None:
    encoding = parse(text)
    prefix = {2: b"\x66", 4: b"\xf3", 8: b"\xf2"}.get(encoding.prefixes, b"")
    escape = (b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a")[encoding.map]
    forms = [0x00] * encoding.memory + [0xC0] * encoding.register
    codes = [
        prefix + escape + bytes((encoding.opcode, form | encoding.value)) + HLT * 4
        for form in forms
    ]
    processor = Processor(MODES[1], codes)
    assert [processor.run(n) for n in range(len(codes))] == [UD] * len(codes)


def test_the_table_names_every_bit_once() -> None:
    places = [feature.place for feature in FEATURES]
    assert len(set(places)) == len(places)
    assert not {f.cr4 for f in DENIED if f.cr4} & {f.cr4 for f in PROMISED}
