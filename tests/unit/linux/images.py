# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts of kernel images that tests put together."""

from collections.abc import Callable

from nanokernel_vm.linux.elf import (
    ElfImage,
    Section,
    SectionFlag,
    Symbol,
    SymbolBinding,
    SymbolType,
)

TEXT = 0xFFFF_FFFF_8100_0000
DATA = 0xFFFF_FFFF_8200_0000

MakeImage = Callable[..., ElfImage]


def text(data: bytes, addr: int = TEXT) -> Section:
    flags = SectionFlag.ALLOC | SectionFlag.EXECINSTR
    return Section(".text", flags=flags, addr=addr, size=len(data), data=data)


def data(name: str, contents: bytes, addr: int = DATA) -> Section:
    flags = SectionFlag.ALLOC
    return Section(name, flags=flags, addr=addr, size=len(contents), data=contents)


def function(name: str, addr: int, size: int = 0) -> Symbol:
    return Symbol(name, addr, size, SymbolType.FUNC, SymbolBinding.GLOBAL, ".text")
