# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/abi.md says what is declared."""

import re
from pathlib import Path

import pytest

from nanokernel_vm.abi import frame, layout
from nanokernel_vm.abi.frame import Class, Words

TEXT = (Path(__file__).parents[3] / "docs/abi.md").read_text()
WORD = r"^ +(\d+) +(-?\d+)   (\w+) "


def cells(first: str) -> list[str]:
    """The other cells of the table row that begins so."""
    (row,) = re.findall(rf"^\| `{first}` \|(.*)\|$", TEXT, re.MULTILINE)
    return [cell.strip() for cell in row.split("|")]


@pytest.mark.parametrize("call", layout.Hypercall)
def test_each_hypercall_has_its_row(call: layout.Hypercall) -> None:
    number, arguments, result = cells(call.name)
    assert int(number) == call
    assert arguments == ", ".join(call.arguments)
    declared = set(re.findall(r"\bE[A-Z]+\b", call.text))
    assert set(re.findall(r"`(E[A-Z]+)`", result)) == declared


@pytest.mark.parametrize("error", layout.Error)
def test_each_error_has_its_row(error: layout.Error) -> None:
    assert cells(error.name) == [str(int(error)), error.text]


@pytest.mark.parametrize("kind", Class)
def test_each_class_has_its_row(kind: Class) -> None:
    assert cells(kind.value)


def test_each_word_is_where_it_is() -> None:
    rows = {
        name: (int(pt_regs), int(ip))
        for pt_regs, ip, name in re.findall(WORD, TEXT, re.MULTILINE)
    }
    for name, offset in frame.WORD_OFFSETS._asdict().items():
        assert rows[name] == (frame.PT_REGS_IP + offset, offset)
    assert set(Words._fields) <= set(rows)


def test_the_ports_and_leaves_are_named() -> None:
    for number in (
        *(layout.PORT_HYPERCALL, layout.PORT_RETURN, layout.PORT_COM2),
        *(layout.CPUID_SIGNATURE_LEAF, layout.CPUID_ABI_LEAF, layout.IRQ_VECTOR_BASE),
        *(frame.SYSCALL_VECTOR, frame._SEED, frame._FACTOR),
    ):
        assert f"{number:#x}" in TEXT
    assert layout.SIGNATURE.decode() in TEXT
    assert f"{frame.PT_REGS_SIZE} instead of 168" in TEXT
