# SPDX-License-Identifier: GPL-2.0-or-later
"""Symbols of kernel modules, from the tables that the kernel keeps of them."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice

from drgn import Program, Symbol
from drgn.helpers.linux.kallsyms import module_kallsyms
from drgn.helpers.linux.module import address_to_module, for_each_module

MODULES_MAX = 4096  # a list that is longer has lost its end


def find_symbols(
    program: Program, name: str | None, address: int | None, one: bool
) -> Sequence[Symbol]:
    """Return what drgn asks a symbol finder for; it reads them anew each time."""
    with suppress(Exception):
        found = list(_module_symbols(program, name, address))
        found.sort(key=lambda symbol: symbol.address, reverse=True)
        return found[:1] if one else found
    return ()


def _module_symbols(
    program: Program, name: str | None, address: int | None
) -> Iterator[Symbol]:
    if address is None:
        modules = list(islice(for_each_module(program), MODULES_MAX))
    else:
        module = address_to_module(program, address)
        modules = [module] if module else []
    for module in modules:
        for symbol in module_kallsyms(module):
            inside = address is None or 0 <= address - symbol.address < symbol.size
            if inside and name in (None, symbol.name):
                yield symbol
