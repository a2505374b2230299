# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel modules, with what gdb needs to load their symbols."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from drgn import Object
from drgn.helpers.linux.module import (
    for_each_module,
    module_address_regions,
    module_taints,
)

from nanokernel_vm.linux.awareness.kernel import (
    Awareness,
    text_of,
    understood,
)
from nanokernel_vm.linux.awareness.symbols import MODULES_MAX

_STATES = {0: "live", 1: "coming", 2: "going", 3: "unformed"}  # enum module_state


@dataclass(frozen=True, slots=True)
class Module:
    """One module.

    Attributes:
        state: "live", "coming", "going" or "unformed".
        address: Where it lies, virtual; its text comes first.
        size: Bytes, without what was only needed to initialize it.
        references: Who uses it, other modules included.
        taints: Letters, as in an oops.
        sections: Virtual addresses by name, those with contents only.
    """

    name: str
    state: str
    address: int
    size: int
    references: int
    taints: str
    sections: dict[str, int]


@understood
def modules(kernel: Awareness) -> list[Module]:
    """Return the modules, the last loaded first; none if the kernel has no support."""
    if "modules" not in kernel.program:
        return []
    return [
        _module(module)
        for module in islice(for_each_module(kernel.program), MODULES_MAX)
    ]


def _module(module: Object) -> Module:
    regions = [r for r in module_address_regions(module) if r[1]]
    address, size = regions[0] if regions else (0, 0)
    return Module(
        name=text_of(module.name),
        state=_STATES.get(module.state.value_(), "unknown"),
        address=address,
        size=size,
        references=max(module.refcnt.counter.value_() - 1, 0),
        taints=module_taints(module),
        sections=dict(_sections(module)),
    )


def _sections(module: Object) -> Iterator[tuple[str, int]]:
    """As in /sys/module/NAME/sections (kernel/module/sysfs.c)."""
    try:
        attributes = module.sect_attrs
        count = attributes.nsections.value_()
    except (
        AttributeError,
        LookupError,
    ):  # no CONFIG_KALLSYMS, or its type is not known
        return
    for number in range(min(count, 256)):
        attribute = attributes.attrs[number]
        yield text_of(attribute.battr.attr.name), attribute.address.value_()
