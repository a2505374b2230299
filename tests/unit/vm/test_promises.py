# SPDX-License-Identifier: GPL-2.0-or-later
"""What CPUID denies is #UD, what it promises works; binutils know what governs what."""

from functools import cache
from itertools import product

import pytest

from nanokernel_vm.cpu import state as s
from nanokernel_vm.cpu.cpuid import answer
from nanokernel_vm.cpu.decoding import parse
from nanokernel_vm.cpu.promises import (
    CR4_PROMISED,
    DENIED,
    FEATURES,
    PROMISED,
    RESERVED,
    Feature,
)
from tests.encodings import HLT, MODES, OSXSAVE, Mode, Processor, Verdict, encode, judge
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


def test_osxsave_follows_cr4() -> None:
    source = f"""main:
        mov $1, %eax
        cpuid
        report %ecx
        mov %cr4, %rax
        xor ${OSXSAVE}, %rax
        mov %rax, %cr4
        mov $1, %eax
        cpuid
        report %ecx
        die"""
    without, with_ = Tiny(source).finish()
    assert without ^ with_ == 1 << 27
    assert with_ >> 26 & 3 == 3


@pytest.mark.parametrize(
    ("leaf", "subleaf", "like"),
    [
        (2, 7, (2, 0)),
        (4, 3, (3, 0)),  # no more caches
        (7, 1, (3, 0)),
        (0xD, 2, (3, 0)),  # no state of AVX
        (0xE, 1, (0xD, 1)),
        (0x3FFF_FFFF, 0, (0xD, 0)),
        (0x8000_0009, 0, (0xD, 0)),
        (0xFFFF_FFFF, 1, (0xD, 1)),
        (0x4000_0000, 0, (3, 0)),
    ],
)
def test_a_leaf_that_is_not_there(
    leaf: int, subleaf: int, like: tuple[int, int]
) -> None:
    assert answer(leaf, subleaf, 0, {}) == answer(*like, 0, {})


def _fault(setup: str, instruction: str) -> list[int]:
    """The vector and error code, rip from the instruction on, if it faults; else []."""
    handlers = "".join(
        f"h{vector}: report ${vector}\n{pop}jmp report_rip\n"
        for vector, pop in ((6, "push $0\n"), (13, ""), (19, "push $0\n"))
    )
    gates = "".join(f"gate {vector}, h{vector}\n" for vector in (6, 13, 19))
    source = f"""main: {gates} {setup}
    instruction: {instruction}
        die
    {handlers}
    report_rip:
        mov (%rsp), %eax
        report %eax
        mov 8(%rsp), %rax
        lea instruction(%rip), %rdx
        sub %rdx, %rax
        report %eax
        die"""
    return Tiny(source).finish()


_OSXSAVE_ON = f"mov %cr4, %rax; or ${OSXSAVE}, %eax; mov %rax, %cr4; xor %edx, %edx;"


@pytest.mark.parametrize("bit", range(64))
def test_a_bit_of_cr4_that_is_not_promised_cannot_be_set(bit: int) -> None:
    setup = f"mov %cr4, %rax; mov ${1 << bit:#x}, %rdx; or %rdx, %rax"
    found = _fault(setup, "mov %rax, %cr4")
    assert found == ([] if CR4_PROMISED >> bit & 1 else [GP, 0, 0])


@pytest.mark.parametrize(
    ("number", "value", "faults"),
    [(0, 1, 0), (0, 3, 0), (0, 7, 1), (0, 0x1F, 1), (0, 2, 1), (0, 0, 1), (1, 1, 1)],
)
def test_xcr0_holds_what_leaf_d_has(number: int, value: int, faults: int) -> None:
    setup = f"{_OSXSAVE_ON} mov ${number}, %ecx; mov ${value}, %eax"
    assert _fault(setup, "xsetbv") == [GP, 0, 0] * faults


@pytest.mark.parametrize(
    ("setup", "instruction", "vector"),
    [
        ("", "xgetbv", UD),  # CR4.OSXSAVE is clear
        (_OSXSAVE_ON + "mov $1, %ecx", "xgetbv", GP),
        ("xor %ecx, %ecx", "rdpmc", GP),  # there is no counter
        ("", "sysenter", GP),  # IA32_SYSENTER_CS is 0
        ("", "data16 sysenter", GP),
        ("movl $0x11f80, -8(%rsp)", "ldmxcsr -8(%rsp)", GP),
    ],
    ids=["xgetbv off", "xgetbv 1", "rdpmc", "sysenter", "data16 sysenter", "ldmxcsr"],
)
def test_a_fault_of_state(setup: str, instruction: str, vector: int) -> None:
    assert _fault(setup, instruction) == [vector, 0, 0]


def test_rdtscp_has_the_processor_s_number() -> None:
    source = """main:
        mov $0xc0000103, %ecx
        mov $0x12345678, %eax
        xor %edx, %edx
        wrmsr
        mov $-1, %rcx
        rdtscp
        report %ecx
        shr $32, %rcx
        report %ecx
        die"""
    assert Tiny(source).finish() == [0x1234_5678, 0]


@pytest.mark.parametrize("length", [0x8000_0000, 0x7FFF_FFFF, 16, 17, -16, -17])
def test_a_length_of_pcmpestri_saturates(length: int) -> None:
    """All 16 bytes are equal: the index of the last, found from the end."""
    source = f"""main:
        mov ${length}, %eax
        mov %eax, %edx
        pcmpestri $0x48, %xmm0, %xmm0
        report %ecx
        report %eax
        die"""
    assert Tiny(source).finish() == [15, length & 0xFFFF_FFFF]


def test_the_table_names_every_bit_once() -> None:
    places = [feature.place for feature in FEATURES]
    assert len(set(places)) == len(places)
    assert not {f.cr4 for f in DENIED if f.cr4} & {f.cr4 for f in PROMISED}


def test_a_step_over_sysenter_ends_at_its_entry() -> None:
    source = """main:
        mov $0x174, %ecx
        mov $KCS, %eax
        xor %edx, %edx
        wrmsr
        inc %ecx
        lea stack2(%rip), %rax
        wrmsr
        wrmsr_label 0x176, entered
        enter_user before, flags=0x202
    .code64
    before: sysenter
    entered:
        mov %cs, %eax
        report %eax
        mov %ss, %eax
        report %eax
        pushfq
        pop %rax
        and $0x200, %eax
        report %eax
        lea stack2(%rip), %rax
        sub %rsp, %rax
        report %eax
        die"""
    source = source.replace("main:", "main: call open_pages", 1)
    assert Tiny(source).finish() == [0x10, 0x18, 0, 0]
    guest = Tiny(source)
    engine = guest.engine
    engine.insert_breakpoint(guest.label("before"))
    engine.prepare(stepping=True)
    guest.run(1 << 40)
    assert engine.state.rip == guest.label("before")
    engine.ticker.passing = engine.state.rip
    engine.ticker.steps = 2
    guest.run(1 << 40)
    assert engine.state.rip == guest.label("entered")
    assert engine.state.regs[s.RSP] == guest.label("stack2")
