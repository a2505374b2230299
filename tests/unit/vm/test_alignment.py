# SPDX-License-Identifier: GPL-2.0-or-later
"""Operands of SSE that are not aligned, beside this computer's processor."""

import subprocess
from functools import cache
from itertools import product
from pathlib import Path

import pytest

from tests.encodings import HLT, MODES, SLOT, Processor, Verdict, judge
from tests.programs import executor

GP = 13
MARCH = "generic64+sse4.2+aes+pclmul"


@cache
def _codes() -> list[tuple[bytes, str]]:
    """All instructions with a register of SSE and an operand in memory."""
    escapes, prefixes = (
        (b"\x0f", b"\x0f\x38", b"\x0f\x3a"),
        (b"", b"\x66", b"\xf3", b"\xf2"),
    )
    codes = [
        prefix + escape + bytes((opcode, 0x08, 0)) + HLT * 2
        for prefix, escape, opcode in product(prefixes, escapes, range(256))
        if escape != b"\x0f" or opcode not in (0x38, 0x3A)
    ]
    verdicts = judge(codes, 64, MARCH)
    return [
        (code.ljust(SLOT, HLT), name)
        for code, (name, verdict) in zip(codes, verdicts, strict=True)
        if verdict is Verdict.KNOWN and "%xmm" in name and "(%rax)" in name
    ]


@pytest.mark.parametrize("displacement", [0, 8, 1], ids="at {}".format)
def test_an_operand_is_refused_where_this_computer_does(
    displacement: int, tmp_path: Path
) -> None:
    codes = [code for code, _ in _codes()]
    slots = "".join(
        f".byte {', '.join(map(str, code))}\n.balign {SLOT}\n" for code in codes
    )
    executor(tmp_path / "here", slots, displacement)
    printed = subprocess.run(
        [tmp_path / "here"], capture_output=True, check=True
    ).stdout
    here = printed.partition(b"results ")[2].split()[0].decode()
    processor = Processor(MODES[1], codes, displacement)
    wrong = [
        (name, outcome)
        for number, ((_, name), outcome) in enumerate(zip(_codes(), here, strict=True))
        if outcome != "U"  # this computer does not know it
        and (processor.run(number) == GP) != (outcome == "R")
    ]
    assert wrong == []
    assert here.count("R") > 100 if displacement else "R" not in here
