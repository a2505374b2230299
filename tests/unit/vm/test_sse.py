# SPDX-License-Identifier: GPL-2.0-or-later
"""SSE's arithmetic beside this computer's: results, and exceptions in MXCSR.

The same routine is linked into a program of Linux's and into a guest.  Left out is what
README says the processor has not: the denormal-operand exception.
"""

import struct
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.guests import Tiny

DENORMAL = 1 << 1
XM = 19
OPERANDS = (
    *(0.0, -0.0, 1.0, -3.0, 1e308, -1e308, 1e-308, 5e-324, 2.5, 1e300, 1 / 3),
    *(float("inf"), float("-inf"), float("nan"), 4294967296.5, 1e-40),
)
SIGNALING = 0x7FF0_0000_0000_0001
OPERATIONS = (
    *("addsd", "subsd", "mulsd", "divsd", "minsd", "maxsd", "sqrtsd"),
    *(
        "addpd",
        "divpd",
        "sqrtpd",
        "addps",
        "mulps",
        "divps",
        "subss",
        "mulss",
        "sqrtss",
    ),
    *(
        "cmpeqsd",
        "cmpltsd",
        "cmpunordsd",
        "cmpnltps",
        "haddpd",
        "addsubps",
        "dppd $0x33,",
    ),
    *("ucomisd", "comisd", "cvtsd2ss", "cvtss2sd", "cvtpd2ps", "cvtps2pd", "cvtdq2ps"),
    *("cvtpd2dq", "cvttpd2dq", "cvtps2dq", "roundsd $0,", "roundsd $8,", "roundps $3,"),
)
CONVERSIONS = ("cvtsd2si", "cvttsd2si", "cvtss2si")  # to a general register
# All masked; flush to zero; denormals are zero; round up, down, to zero
CONTROLS = (0x1F80, 0x9F80, 0x1FC0, 0x5F80, 0x3F80, 0xFFC0)
RECORD = 24
_MAGNITUDE = (1 << 63) - 1


def _routine() -> str:
    """``calculate``: for all operations, controls and pairs, MXCSR and the result."""
    values = [struct.unpack("<Q", struct.pack("<d", v))[0] for v in OPERANDS]
    quads = ", ".join(f"{value:#x}" for value in (*values, SIGNALING))
    count = len(values) + 1
    steps = "".join(
        f"""
    .subsection 1
operation{n}:
        {_operation(text)}
        ret
    .subsection 0
        lea operation{n}(%rip), %r9
        mov ${control:#x}, %r8d
        call pairs
        """
        for n, (text, control) in enumerate(
            (text, control)
            for text in (*OPERATIONS, *CONVERSIONS)
            for control in CONTROLS
        )
    )
    return f"""
.text
calculate:
        lea results(%rip), %rdi
        lea operands(%rip), %rbx
        {steps}
        ret
pairs:
        xor %r10d, %r10d
1:      xor %r11d, %r11d
2:      mov %r8d, 16(%rdi)
        ldmxcsr 16(%rdi)
        movddup (%rbx,%r10,8), %xmm0
        movddup (%rbx,%r11,8), %xmm1
        call *%r9
        movdqu %xmm0, (%rdi)
        stmxcsr 16(%rdi)
        add ${RECORD}, %rdi
        inc %r11d
        cmp ${count}, %r11d
        jb 2b
        inc %r10d
        cmp ${count}, %r10d
        jb 1b
        ret
.data
.balign 16
operands: .quad {quads}
.bss
.balign 16
results: .skip {_size()}
results_end:
.text
"""


def _size() -> int:
    pairs = (len(OPERANDS) + 1) ** 2
    return (len(OPERATIONS) + len(CONVERSIONS)) * len(CONTROLS) * pairs * RECORD


def _operation(text: str) -> str:
    if text in CONVERSIONS:
        return f"{text} %xmm1, %rax\nmovq %rax, %xmm0"
    return f"{text} %xmm1, %xmm0"


@cache
def _here() -> bytes:
    """What this computer calculates."""
    program = f"""
.globl _start
_start: call calculate
        mov $1, %eax
        mov $1, %edi
        lea results(%rip), %rsi
        mov $results_end - results, %edx
        syscall
        mov $60, %eax
        xor %edi, %edi
        syscall
{_routine()}"""
    with TemporaryDirectory() as folder:
        made, linked = Path(folder, "made.o"), Path(folder, "made")
        subprocess.run(["as", "-o", made], input=program, text=True, check=True)
        subprocess.run(["ld", "-o", linked, made], check=True)
        return subprocess.run([linked], capture_output=True, check=True).stdout


@cache
def _there() -> bytes:
    """What the processor calculates."""
    guest = Tiny(f"main: call calculate\ndie\n{_routine()}", size=16 << 20)
    guest.finish()
    return guest.window.read(guest.label("results"), _size())


def _records(raw: bytes, number: int) -> list[tuple[int, int, int]]:
    """Low and high half of the result, and MXCSR, of one operation."""
    length = len(raw) // (len(OPERATIONS) + len(CONVERSIONS))
    part = raw[number * length : (number + 1) * length]
    return [
        (low, high, mxcsr & ~DENORMAL)
        for low, high, mxcsr in struct.iter_unpack("<QQI4x", part)
    ]


def _is_nan(value: int) -> bool:
    double = value & _MAGNITUDE > 0x7FF << 52
    singles = (value & 0x7FFF_FFFF, value >> 32 & 0x7FFF_FFFF)
    return double or any(single > 0x7F80_0000 for single in singles)


def _is_tiny(value: int) -> bool:
    return value & _MAGNITUDE < 1 << 52


def _agree(operation: str, real: int, ours: int) -> bool:
    """Of NaNs only that they are such: which of two is kept differs.

    MIN and MAX do not make a denormal zero before they choose it, and DPPD loses the
    sign of zero: Unicorn's limits.
    """
    if real == ours or (_is_nan(real) and _is_nan(ours)):
        return True
    alike = operation in ("minsd", "maxsd", "dppd $0x33,")
    return alike and _is_tiny(real) and _is_tiny(ours)


@pytest.mark.parametrize("number", range(len(OPERATIONS) + len(CONVERSIONS)))
def test_results_and_exceptions_are_this_computer_s(number: int) -> None:
    here, there = _records(_here(), number), _records(_there(), number)
    assert len(here) == len(CONTROLS) * (len(OPERANDS) + 1) ** 2
    operation = (*OPERATIONS, *CONVERSIONS)[number]
    wrong = [
        (n, [hex(v) for v in real], [hex(v) for v in ours])
        for n, (real, ours) in enumerate(zip(here, there, strict=True))
        if real[2] != ours[2]
        or not all(
            _agree(operation, *pair) for pair in zip(real[:2], ours[:2], strict=True)
        )
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("flag", "one", "operation", "other"),
    [
        (0, "0.0", "divsd", "0.0"),
        (2, "1.0", "divsd", "0.0"),
        (3, "1e308", "addsd", "1e308"),
        (4, "1e-308", "divsd", "3.0"),
        (5, "1.0", "divsd", "3.0"),
        (0, "nan", "comisd", "1.0"),
    ],
    ids=["invalid", "zero", "overflow", "underflow", "precision", "compare"],
)
@pytest.mark.parametrize("osxmmexcpt", [True, False])
def test_an_exception_that_is_not_masked_traps(
    flag: int, one: str, operation: str, other: str, osxmmexcpt: bool
) -> None:
    """#XM, or #UD for a system that does not know it; nothing is changed."""
    vector = XM if osxmmexcpt else 6
    source = f"""main:
        gate {vector}, trapped
        mov %cr4, %rax
        and $~0x400, %eax
        or ${int(osxmmexcpt) << 10}, %eax
        mov %rax, %cr4
        movsd one(%rip), %xmm0
        movsd other(%rip), %xmm1
        ldmxcsr control(%rip)
        mov $1, %eax
        sub $1, %eax
    there: {operation} %xmm1, %xmm0
        die
    trapped:
        setz %bl
        movzbl %bl, %ebx
        report %ebx
        lea there(%rip), %rax
        sub (%rsp), %rax
        report %eax
        movq %xmm0, %rax
        sub one(%rip), %rax
        report %eax
        stmxcsr control(%rip)
        mov control(%rip), %eax
        report %eax
        die
    .data
    one: .double {one}
    other: .double {other}
    control: .long {0x1F80 & ~(0x80 << flag):#x}
    """
    *rest, mxcsr = Tiny(source).finish()
    assert rest == [1, 0, 0]
    assert mxcsr >> flag & 1


def test_flush_to_zero_is_sse_s_alone() -> None:
    source = """main:
        ldmxcsr control(%rip)
        fninit
        fldl tiny(%rip)
        fmuls half(%rip)
        fstpl result(%rip)
        mov result(%rip), %eax
        report %eax
        movsd tiny(%rip), %xmm0
        mulsd wide(%rip), %xmm0
        movq %xmm0, %rax
        report %eax
        die
    .data
    .balign 16
    tiny: .double 1e-310
    half: .float 0.5
    wide: .double 0.5
    result: .quad 0
    control: .long 0x9f80
    """
    x87, sse = Tiny(source).finish()
    assert x87 == struct.unpack("<Q", struct.pack("<d", 5e-311))[0] & 0xFFFF_FFFF
    assert sse == 0
