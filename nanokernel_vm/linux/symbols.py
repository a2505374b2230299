# SPDX-License-Identifier: GPL-2.0-or-later
"""An ELF file with all that debuggers want to know, made from a stripped vmlinux.

Distributions ship kernels without symbols and DWARF, but not without kallsyms (names
and addresses, for oopses), BTF (types and prototypes, for BPF) and ORC (unwinding, for
stack traces).  These three, told again in the words of gdb, lldb and drgn, are the
symbol file.  It stands for the addresses that the kernel is linked at (``nokaslr``).
"""

import re
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from nanokernel_vm.errors import BuildError, LoadError
from nanokernel_vm.linux import kallsyms, orc
from nanokernel_vm.linux.btf import Btf
from nanokernel_vm.linux.damage import found_in
from nanokernel_vm.linux.debug_frame import USER_SPACE, DebugFrame
from nanokernel_vm.linux.debug_info import (
    Function,
    Variable,
    describe_functions,
    describe_types,
)
from nanokernel_vm.linux.dwarf import Dwarf
from nanokernel_vm.linux.elf import (
    ElfImage,
    Section,
    SectionFlag,
    Symbol,
    SymbolBinding,
    SymbolType,
)
from nanokernel_vm.linux.elf_writer import symbol_sections, write_elf
from nanokernel_vm.linux.kallsyms import KernelSymbol
from nanokernel_vm.linux.variables import TABLE, find_type

_PRODUCER = "nanokernel-vm, from the image's kallsyms, BTF and ORC"

# What contents that make no sense lead to.
_DAMAGE = ArithmeticError, LookupError, ValueError, RecursionError, struct.error

_NO_TYPES = "debuggers have no types, and nothing of Linux is read in its memory"
NO_FRAMES = "backtraces may end early"
_NO_VARIABLES = f"has names of functions only (CONFIG_KALLSYMS_ALL): {_NO_TYPES}"

# What a debugger may want to look at before it is connected is worth its room.
_WITH_CONTENTS = (".text", ".init.text", ".rodata", ".data", ".notes")


def make_symbol_file(vmlinux: Path, out: Path) -> list[str]:
    """Make the symbol file of a stripped vmlinux, as far as the image goes.

    Returns:
        What the image lacks, and what follows from it.

    Raises:
        LoadError: The image is no kernel, or has no names in the order of Linux 6.1.
        BuildError: ``out`` cannot be written.
    """
    image = ElfImage.open(vmlinux)
    with found_in(image.name):
        symbols = _symbols(image)
        lacks = [] if any(s.name == "init_task" for s in symbols) else [_NO_VARIABLES]
        sections = [_kept(section) for section in image.sections if section.loaded]
        for make, without in ((_debug_info, _NO_TYPES), (_debug_frame, NO_FRAMES)):
            try:
                sections += make(image, symbols)
            except LoadError as error:
                lacks.append(f"{error}: {without}")
            except _DAMAGE as error:
                lacks.append(f"is damaged ({error}): {without}")
        sections += symbol_sections(symbols, [section.name for section in sections])
    try:
        write_elf(out, sections, image.segments, image.entry)
    except OSError as exc:
        raise BuildError(f"{out} cannot be written: {exc}") from exc
    return lacks


def _symbols(image: ElfImage) -> list[Symbol]:
    """Return the kernel's own names, or those that the linker has left."""
    try:
        return size_symbols(kallsyms.decode(image), image.sections)
    except LoadError:
        if left := [symbol for symbol in image.symbols() if symbol.name]:
            return left
        raise


def _kept(section: Section) -> Section:
    """Return the section as the symbol file has it."""
    if section.executable:
        # The kernel patches itself (alternatives, static calls, ftrace).  Debuggers
        # read instructions from the file unless it says that they may change.
        section = replace(section, flags=section.flags | SectionFlag.WRITE)
    return section if section.name in _WITH_CONTENTS else section.without_contents()


def size_symbols(
    symbols: Sequence[KernelSymbol], sections: Sequence[Section]
) -> list[Symbol]:
    """Find the section of each symbol, and its size: up to the next address.

    Of several symbols at one address only the first gets the size, which makes
    debuggers prefer it.  kallsyms has sorted them so that it is the one the kernel
    itself prints (scripts/kallsyms.c: compare_symbols).
    """
    loaded = sorted((s for s in sections if s.loaded), key=lambda s: s.addr)
    starts = [section.addr for section in loaded]
    addrs = sorted({symbol.addr for symbol in symbols})
    following = dict(pairwise((*addrs, 1 << 64)))
    sized: list[Symbol] = []
    for symbol in symbols:
        after = following.pop(symbol.addr, symbol.addr)  # an alias finds it gone
        section = loaded[bisect_right(starts, symbol.addr) - 1]
        sized.append(_symbol(symbol, after, section))
    return sized


_BINDINGS = {"W": SymbolBinding.WEAK, "V": SymbolBinding.WEAK, "w": SymbolBinding.WEAK}


def _symbol(symbol: KernelSymbol, after: int, section: Section) -> Symbol:
    addr, letter, name = symbol
    binding = _BINDINGS.get(letter) or SymbolBinding(letter.isupper())
    if not section.addr <= addr <= section.end:  # its end may have a name, too
        return Symbol(name, addr, 0, SymbolType.NOTYPE, binding, "")
    kind = SymbolType.FUNC if section.executable else SymbolType.OBJECT
    size = max(min(after, section.end) - addr, 0)
    return Symbol(name, addr, size, kind, binding, section.name)


def _debug_frame(image: ElfImage, symbols: Sequence[Symbol]) -> list[Section]:
    frames = DebugFrame()
    functions = (s.addr for s in symbols if s.type is SymbolType.FUNC and s.size)
    frames.add_rows(orc.read_table(image), functions)
    frames.add_end(USER_SPACE)
    return [Section(".debug_frame", size=len(frames.data), data=frames.data, align=8)]


def _debug_info(image: ElfImage, symbols: Sequence[Symbol]) -> list[Section]:
    if image.find(".BTF") is None:
        raise LoadError("has no BTF (CONFIG_DEBUG_INFO_BTF)")
    btf = Btf(image.section(".BTF").data)
    variables = [*_variables(btf, symbols, image), *_per_cpu_variables(btf, image)]
    dwarf = Dwarf(btf.strings, _PRODUCER)
    describe_types(dwarf, btf, variables)
    # Where two functions have one name, nobody knows whose prototype it is.
    types = _once((btf.name(type_.name), number) for number, type_ in btf.functions())
    places = _once((s.name, s) for s in symbols if s.type is SymbolType.FUNC)
    for section in image.sections:
        functions = list(_functions(section, places, types))
        describe_functions(dwarf, btf, functions)
    return dwarf.sections()


def _functions(
    section: Section, places: Mapping[str, Symbol], types: Mapping[str, int]
) -> Iterator[Function]:
    for name, symbol in places.items():
        type_ = types.get(name)
        if type_ is not None and symbol.size and symbol.section == section.name:
            entry = entry_length(section, symbol.addr)
            external = symbol.binding != SymbolBinding.LOCAL
            yield Function(type_, symbol.addr, symbol.size, external, entry)


# endbr64; call __fentry__, or the nop it becomes; pushes and mov %rsp,%rbp.
_ENTRY = re.compile(
    rb"(?:\xf3\x0f\x1e\xfa)?(?:\xe8....|\x0f\x1f\x44\0\0)?"
    rb"(?:\x41?[\x50-\x57]|\x48\x89\xe5)*",
    re.DOTALL,
)


def entry_length(section: Section, addr: int) -> int:
    """Return the length of the instructions that leave arguments where they are."""
    match = _ENTRY.match(section.data, addr - section.addr)
    return len(match[0]) if match else 0


def _variables(
    btf: Btf, symbols: Sequence[Symbol], image: ElfImage
) -> Iterator[Variable]:
    places = {symbol.name: symbol for symbol in symbols if symbol.name in TABLE}
    for name, symbol in places.items():
        size = symbol.size
        if TABLE[name] == "const char []":  # kallsyms leaves out what follows it
            size = image.read(symbol.addr, size).find(b"\0") + 1 or size
        type_ = find_type(btf, TABLE[name], size)
        if type_ is not None:
            yield Variable(name, symbol.addr, type_)


def _per_cpu_variables(btf: Btf, image: ElfImage) -> Iterator[Variable]:
    """The only variables that BTF has itself, at their offsets in a CPU's area."""
    for section_name, rows in btf.data_sections():
        section = image.section(section_name)
        for number, offset, _ in rows:
            variable = btf.types[number]
            name = btf.name(variable.name)
            yield Variable(name, section.addr + offset, variable.value)


_T = TypeVar("_T")


def _once(pairs: Iterable[tuple[str, _T]]) -> dict[str, _T]:
    """Return a dict of the pairs whose name is not repeated."""
    found: dict[str, _T] = {}
    repeated: set[str] = set()
    for name, value in pairs:
        if name in found:
            repeated.add(name)
        found[name] = value
    return {name: value for name, value in found.items() if name not in repeated}
