# SPDX-License-Identifier: GPL-2.0-or-later
"""The extended frame's words: what is told from a frame alone."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanokernel_vm.abi import frame
from nanokernel_vm.abi.frame import Class, Hardware, Words, classify, mix, new_words
from nanokernel_vm.abi.scripts import module

STACK = 0x4000
AT = 0xFFFF_C900_0001_3FA8
TARGET = Hardware(0x40_1000, 0x33, 0x246, 0x7FFE_0000, 0x2B)
WORDS = new_words(0x30, AT, 4711, 1_204_000_000, TARGET)

words_of_64_bits = st.integers(0, (1 << 64) - 1)


def test_a_frame_says_what_it_is() -> None:
    assert WORDS.magic.to_bytes(4, "little") == b"NKfr"
    assert (WORDS.revision, WORDS.vector) == (frame.FRAME_REVISION, 0x30)
    assert (WORDS.built_at, WORDS.sequence, WORDS.time) == (AT, 4711, 1_204_000_000)
    assert new_words(frame.SYSCALL_VECTOR, AT, 1, 0, TARGET).vector == 0x100


@pytest.mark.parametrize(
    ("expected", "address", "hardware", "words"),
    [
        (Class.SAME, AT, TARGET, WORDS),
        (Class.REWRITTEN, AT, TARGET._replace(ip=0x40_2000), WORDS),
        (Class.REWRITTEN, AT, TARGET._replace(flags=0x346), WORDS),
        (Class.COPY, AT + STACK, TARGET, WORDS),
        (Class.COPY, AT + STACK, TARGET._replace(sp=0x7FFE_8000), WORDS),
        (Class.MOVED, AT - 96, TARGET, WORDS),
        (Class.UNBORN, AT, TARGET, Words(0, 0, 0, 0, 0, 0)),
        (Class.CORRUPT, AT, TARGET, WORDS._replace(identity=WORDS.identity ^ 1)),
        (Class.CORRUPT, AT, TARGET, WORDS._replace(check=0)),
        (Class.CORRUPT, AT, TARGET, Words(0, 0, 0, 0, 0, 1)),
    ],
)
def test_classes(
    expected: Class, address: int, hardware: Hardware, words: Words
) -> None:
    assert classify(address, hardware, words, STACK) is expected


@given(st.sampled_from(Words._fields), words_of_64_bits)
def test_one_word_changed_is_always_found(field: str, value: int) -> None:
    changed = WORDS._replace(**{field: value})
    assert (frame.defects(changed) == []) == (changed == WORDS)


@given(st.sampled_from(Hardware._fields), words_of_64_bits)
def test_one_hardware_word_changed_is_always_seen(field: str, value: int) -> None:
    changed = TARGET._replace(**{field: value})
    kind = classify(AT, changed, WORDS, STACK)
    assert kind is (Class.SAME if changed == TARGET else Class.REWRITTEN)


@given(st.lists(words_of_64_bits))
def test_a_mix_is_a_word(words: list[int]) -> None:
    assert 0 <= mix(words) < 1 << 64


def test_defects_show_expected_and_found() -> None:
    other = Words(0x2_1234_5678, AT, 1, 0, 0, 5)
    assert frame.defects(other)[:2] == [
        "magic: expected 0x72664b4e, found 0x12345678",
        "revision: expected 1, found 2",
    ]
    assert frame.defects(other)[2].endswith("found 0x5")


def test_the_words_keep_the_stack_pointer_s_parity() -> None:
    assert len(Words._fields) % 2 == 0
    assert frame.PT_REGS_SIZE == 168 + 48


def test_every_word_and_class_is_explained() -> None:
    assert tuple(frame.WORD_TEXTS) == Words._fields
    assert set(frame.CLASS_TEXTS) == set(Class)


def test_gdb_has_the_same_declarations(tmp_path: Path) -> None:
    """In an interpreter that knows nothing of this project."""
    (tmp_path / "abi.py").write_text(module())
    program = (
        "import abi, sys\n"
        f"words = abi.Words(*{tuple(WORDS)})\n"
        f"print(abi.classify({AT}, {tuple(TARGET)}, words, {STACK}).value)\n"
        "print(abi.WORD_OFFSETS.check, abi.IRQS[0], abi.HYPERCALLS[6])\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path[:0] = ['.']\n{program}",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "same",
        "80 TIMER ('SET_TIMER', ('nanoseconds',))",
    ]
