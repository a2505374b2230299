# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel image has for debuggers, part by part."""

from collections.abc import Callable, Mapping

from nanokernel_vm.errors import LoadError
from nanokernel_vm.linux import kallsyms, orc
from nanokernel_vm.linux.btf import Btf
from nanokernel_vm.linux.elf import ElfImage
from nanokernel_vm.linux.release import KNOWN, build_id, is_known, release


def contents(image: ElfImage) -> dict[str, str]:
    """Return what is in it, in words; where something is missing, what and why."""
    return {part: _said(say, image) for part, say in _PARTS.items()}


def _said(say: Callable[[ElfImage], str], image: ElfImage) -> str:
    try:
        return say(image)
    except LoadError as error:
        return f"none: {str(error).removeprefix(f'{image.name}: ')}"


def _release(image: ElfImage) -> str:
    found = release(image)
    if not found:
        raise LoadError("no Linux says its version here")
    return (
        found if is_known(found) else f"{found}, but this machine was made for {KNOWN}"
    )


def _build_id(image: ElfImage) -> str:
    return build_id(image) or "none"


def _names(image: ElfImage) -> str:
    own = len(image.symbols())
    return f".symtab ({own} symbols)" if own else _kallsyms(image)


def _kallsyms(image: ElfImage) -> str:
    found = kallsyms.decode(image)
    whole = any(symbol.name == "init_task" for symbol in found)
    return f"kallsyms ({len(found)} symbols{'' if whole else ', of functions only'})"


def _types(image: ElfImage) -> str:
    if image.find(".debug_info"):
        return "DWARF"
    section = image.find(".BTF")
    if section is None:
        raise LoadError("has no BTF, no DWARF")
    return f"BTF ({len(Btf(section.data).types)} types)"


def _unwinding(image: ElfImage) -> str:
    return f"ORC ({len(orc.read_table(image))} rules)"


_PARTS: Mapping[str, Callable[[ElfImage], str]] = {
    "release": _release,
    "build_id": _build_id,
    "names": _names,
    "types": _types,
    "unwinding": _unwinding,
}
