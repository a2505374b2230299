# SPDX-License-Identifier: GPL-2.0-or-later
"""A frame on the kernel's stack in words for people."""

from struct import pack

import pytest
from nk import abi
from nk.entered import Entered, fitting, read_entered, report, summary

STACK = 1 << 14
PLACE = 0xFFFF_C900_0000_3FA8
USER = abi.Hardware(0x40_1000, 0x33, 0x246, 0x7FFD_0000, 0x2B)
KERNEL = abi.Hardware(0xFFFF_FFFF_8100_0000, 0x10, 2, PLACE - 500, 0x18)


def extended(
    vector: int, built_at: int = PLACE, hardware: abi.Hardware = USER
) -> abi.Words:
    return abi.new_words(vector, built_at, 4711, 1_204_000_000, hardware)


def line(entered: Entered, syscall: str = "") -> str:
    return summary(entered, syscall, "pid 61 (sh)", STACK)


@pytest.mark.parametrize(
    ("entered", "expected"),
    [
        (
            Entered(PLACE, -1, USER, extended(0x30)),
            "<timer interrupt, vector 0x30, nanokernel #4711 at 1.204 s, "
            "from user pid 61 (sh)>",
        ),
        (
            Entered(PLACE, -1, KERNEL, extended(14, hardware=KERNEL)),
            "<page fault, vector 0xe, nanokernel #4711 at 1.204 s, "
            "from kernel pid 61 (sh)>",
        ),
        (
            Entered(PLACE, 0, USER, extended(abi.SYSCALL_VECTOR)),
            "<system call 0 (read), nanokernel #4711 at 1.204 s, "
            "from user pid 61 (sh)>",
        ),
        (
            Entered(PLACE, 0, USER._replace(ip=7), extended(abi.SYSCALL_VECTOR)),
            "<system call 0 (read), rewritten by exec, signal or ptrace, "
            "nanokernel #4711 at 1.204 s, from user pid 61 (sh)>",
        ),
        (
            Entered(PLACE, 0, USER, extended(abi.SYSCALL_VECTOR, PLACE - STACK)),
            "<system call 0 (read), copied by fork from nanokernel #4711 at 1.204 s, "
            "from user pid 61 (sh)>",
        ),
        (
            Entered(PLACE, -1, USER, abi.Words(0, 0, 0, 0, 0, 0)),
            "<interrupt or exception, made by Linux, from user pid 61 (sh)>",
        ),
        (
            Entered(PLACE, -1, USER, None, None, "asm_exc_general_protection"),
            "<general protection, from user pid 61 (sh)>",
        ),
        (
            Entered(PLACE, -1, USER, None, None, "asm_common_interrupt"),
            "<interrupt, from user pid 61 (sh)>",
        ),
        (
            Entered(PLACE, 0, USER, None, None, "entry_SYSCALL_64"),
            "<system call 0 (read), from user pid 61 (sh)>",
        ),
        (
            Entered(PLACE, -1, KERNEL, None, {"vector": 3, "seconds": 2.5}),
            "<breakpoint, vector 0x3, at 2.500 s, from kernel pid 61 (sh)>",
        ),
    ],
)
def test_one_line(entered: Entered, expected: str) -> None:
    assert line(entered, "read") == expected


def test_a_wrong_word_is_told_with_what_it_should_be() -> None:
    good = extended(0x30)
    bad = Entered(PLACE, -1, USER, good._replace(sequence=4712))
    assert "frame is corrupt (check: expected 0x" in line(bad)
    text = list(report(bad, STACK, []))
    assert any(row.startswith("check: expected") for row in text)
    assert text[-1] == "corrupt: magic, revision or check is wrong"


def test_every_word_is_reported() -> None:
    entered = Entered(PLACE, 5, USER, extended(0x30))
    text = "\n".join(report(entered, STACK, ["seen before"]))
    assert entered.words is not None
    for name, value in (entered.hardware._asdict() | entered.words._asdict()).items():
        assert f"  {name:8}  {value:#018x}" in text
    assert text.endswith("same: as it was built, where it was built\nseen before")
    assert "magic, revision and check hold" in text


def test_a_frame_is_read_from_its_address_on() -> None:
    words = extended(0x30)
    data = pack("<q5Q6Q", 77, *USER, *words)

    def read(addr: int, length: int) -> bytes:
        return data[addr - PLACE + 8 :][:length]

    assert read_entered(read, PLACE, True) == Entered(PLACE, 77, USER, words)
    assert read_entered(read, PLACE, False).words is None


def test_the_last_delivery_that_fits_is_taken() -> None:
    rows = [
        {"rip": USER.ip, "cpl": cpl, "vector": n} for n, cpl in enumerate((3, 3, 0))
    ]
    found = fitting(rows, Entered(PLACE, -1, USER, None))
    assert found == rows[1]
    assert fitting(rows[2:], Entered(PLACE, -1, USER, None)) is None
