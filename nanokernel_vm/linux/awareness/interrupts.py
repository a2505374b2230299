# SPDX-License-Identifier: GPL-2.0-or-later
"""Interrupts: Linux's descriptors, and its gates beside those that are in force."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from drgn import Object, Program
from drgn.helpers.linux.cpumask import for_each_possible_cpu
from drgn.helpers.linux.irq import (
    for_each_irq_desc,
    gate_desc_func,
    irq_desc_action_names,
    irq_desc_chip_name,
    irq_desc_kstat_cpu,
)

from nanokernel_vm.linux.awareness.kernel import (
    Awareness,
    has,
    symbol_text,
    understood,
)

_IRQD_MASKED = 1 << 17  # include/linux/irq.h: IRQD_IRQ_MASKED
_IRQD_DISABLED = 1 << 16
_IRQD_IN_PROGRESS = 1 << 18


@dataclass(frozen=True, slots=True)
class Irq:
    """One interrupt line as Linux knows it.

    Attributes:
        chip: The controller's name.
        flow: The function that handles the line, then calls the actions.
        actions: Names given to request_irq; empty: nobody wants it.
        count: Times it came, on all CPUs.
        unhandled: Times that no action took it.
        state: "enabled", or what keeps it: "disabled", "masked", "in progress".
    """

    number: int
    chip: str
    flow: str
    actions: tuple[str, ...]
    count: int
    unhandled: int
    state: str


@understood
def irqs(kernel: Awareness) -> list[Irq]:
    """Return all lines that Linux has a descriptor of, by number."""
    cpus = list(for_each_possible_cpu(kernel.program))
    return [
        _irq(kernel.program, number, desc, cpus)
        for number, desc in for_each_irq_desc(kernel.program)
    ]


def _irq(program: Program, number: int, desc: Object, cpus: list[int]) -> Irq:
    return Irq(
        number=number,
        chip=(irq_desc_chip_name(desc) or b"none").decode(errors="replace"),
        flow=symbol_text(program, desc.handle_irq.value_()),
        actions=tuple(
            name.decode(errors="replace") for name in irq_desc_action_names(desc)
        ),
        count=sum(irq_desc_kstat_cpu(desc, cpu) for cpu in cpus),
        unhandled=desc.irqs_unhandled.value_(),
        state=_state(desc),
    )


def _state(desc: Object) -> str:
    if not has(desc, "irq_common_data"):
        return "disabled" if desc.depth else "enabled"
    flags = desc.irq_common_data.state_use_accessors.value_()
    words = [
        word
        for flag, word in (
            (_IRQD_DISABLED, "disabled"),
            (_IRQD_MASKED, "masked"),
            (_IRQD_IN_PROGRESS, "in progress"),
        )
        if flags & flag
    ]
    return ", ".join(words) or "enabled"


@dataclass(frozen=True, slots=True)
class Handler:
    """One vector: what is called, and what Linux believes is called.

    Attributes:
        handler: Virtual address in force; None: none.
        name: The function there.
        believed: The same in the kernel's ``idt_table``.
        dpl: The lowest privilege that may call it by INT.
        agree: Whether both are the same.
    """

    vector: int
    handler: int | None
    name: str
    believed: int | None
    believed_name: str
    dpl: int | None
    agree: bool


@understood
def handlers(
    kernel: Awareness, in_force: Callable[[int], tuple[int, int] | None]
) -> list[Handler]:
    """Return all vectors of which somebody has a handler.

    Args:
        kernel: Linux.
        in_force: Handler and privilege level (DPL) of a vector, if it has any.
    """
    program = kernel.program
    table = dict(_believed(program))
    rows: list[Handler] = []
    for vector in range(256):
        used, believed = in_force(vector), table.get(vector)
        if used is None and believed is None:
            continue
        handler = used[0] if used else None
        rows.append(
            Handler(
                vector=vector,
                handler=handler,
                name=symbol_text(program, handler) if handler is not None else "",
                believed=believed,
                believed_name=symbol_text(program, believed) if believed else "",
                dpl=used[1] if used else None,
                agree=handler == believed,
            )
        )
    return rows


def _believed(program: Program) -> Iterator[tuple[int, int]]:
    """The gates of idt_table that are present (arch/x86/kernel/idt.c)."""
    for vector, gate in enumerate(program["idt_table"].read_()):
        if gate.bits.p:
            yield vector, gate_desc_func(gate).value_()
