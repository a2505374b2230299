# SPDX-License-Identifier: GPL-2.0-or-later
import pytest

from nanokernel_vm.abi.layout import (
    GATE_WORD,
    IRQ_LINES,
    SIGNATURE,
    BitField,
    Error,
    Hypercall,
    IrqLine,
)
from nanokernel_vm.nanokernel.hypercalls import Guest


class Caller:
    """A partition that only answers."""

    def now(self) -> int:
        return 0

    def read_virtual(self, va: int, length: int) -> bytes | None:
        return bytes(length)

    def shut_down(self, restart: bool) -> None:
        pass

    def reschedule(self) -> None:
        pass


@pytest.mark.parametrize("function", Hypercall)
def test_every_declared_function_exists(function: Hypercall) -> None:
    assert Guest(Caller(), epoch=0).call(function, 0, 0, 0) != Error.ENOSYS


@pytest.mark.parametrize("function", [0, max(Hypercall) + 1, 1 << 63])
def test_no_other_function_exists(function: int) -> None:
    assert Guest(Caller(), epoch=0).call(function, 0, 0, 0) == Error.ENOSYS


def test_a_hypercall_takes_at_most_the_three_argument_registers() -> None:
    assert max(len(call.arguments) for call in Hypercall) <= 3


def test_errors_are_not_results() -> None:
    assert all(error < 0 for error in Error)


def test_lines_in_use_exist() -> None:
    assert all(0 <= line < IRQ_LINES for line in IrqLine)


def test_the_signature_fills_three_registers() -> None:
    assert len(SIGNATURE) == 12


def test_the_gate_word_s_fields_do_not_overlap() -> None:
    masks = [field.mask for field in GATE_WORD.values()]
    assert sum(masks) == masks[0] | masks[1] | masks[2]


def test_a_bit_field_is_cut_out_of_its_word() -> None:
    field = BitField(4, 2, "")
    assert field.mask == 0b11_0000
    assert field.of(0b10_1111) == 0b10
