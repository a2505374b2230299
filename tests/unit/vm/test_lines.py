# SPDX-License-Identifier: GPL-2.0-or-later
"""The nanokernel's interrupt controller."""

import pytest

from nanokernel_vm.abi.layout import IRQ_LINES, IRQ_VECTOR_BASE
from nanokernel_vm.nanokernel.lines import InterruptLines


@pytest.fixture
def lines() -> InterruptLines:
    """A controller with all lines let through."""
    lines = InterruptLines()
    for line in range(IRQ_LINES):
        lines.unmask(line)
    return lines


def test_all_lines_are_masked_at_first() -> None:
    lines = InterruptLines()
    for line in range(IRQ_LINES):
        lines.set_line(line, True)
        lines.pulse(line)
    assert not lines.output


def test_a_level_interrupts_again_until_it_falls(lines: InterruptLines) -> None:
    lines.set_line(3, True)
    assert lines.acknowledge() == IRQ_VECTOR_BASE + 3
    assert not lines.output  # in service
    lines.end(3)
    assert lines.output
    lines.acknowledge()
    lines.set_line(3, False)
    lines.end(3)
    assert not lines.output


def test_an_edge_interrupts_once(lines: InterruptLines) -> None:
    lines.pulse(0)
    lines.acknowledge()
    lines.end(0)
    assert not lines.output


def test_an_edge_during_service_is_not_lost(lines: InterruptLines) -> None:
    lines.pulse(0)
    lines.acknowledge()
    lines.pulse(0)
    assert not lines.output
    lines.end(0)
    assert lines.output


def test_an_edge_while_masked_is_not_lost(lines: InterruptLines) -> None:
    lines.mask(0)
    lines.pulse(0)
    assert not lines.output
    lines.unmask(0)
    assert lines.output


def test_the_lowest_line_comes_first_and_holds_nobody_back(
    lines: InterruptLines,
) -> None:
    lines.set_line(5, True)
    lines.set_line(3, True)
    assert lines.acknowledge() == IRQ_VECTOR_BASE + 3
    assert lines.output
    assert lines.acknowledge() == IRQ_VECTOR_BASE + 5
