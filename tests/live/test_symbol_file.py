# SPDX-License-Identifier: GPL-2.0-or-later
"""What stock gdbs say of the real host's symbol file, with no machine running."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from nanokernel_vm import build
from nanokernel_vm.linux import kallsyms
from nanokernel_vm.linux.btf import Btf, Kind
from nanokernel_vm.linux.elf import ElfImage
from nanokernel_vm.linux.kallsyms import KernelSymbol
from nanokernel_vm.linux.symbols import make_symbol_file
from tests.live.mi import GDBS, Gdb, GdbError

SAMPLE = 100


@pytest.fixture(scope="module")
def image() -> ElfImage:
    return ElfImage.open(build.ensure("debian-cloud"))


@pytest.fixture(scope="module")
def made(image: ElfImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ours, even where the debug package is installed."""
    path = tmp_path_factory.mktemp("symbols") / "vmlinux.debug"
    make_symbol_file(Path(image.name), path)
    return path


@pytest.fixture(scope="module")
def offline(made: Path, program: str) -> Iterator[Gdb]:
    debugger = Gdb(GDBS[program])
    debugger("set complaints 1000")
    debugger("set print demangle off")  # x.part.0 is no name in D or Ada
    debugger(f"file {made}")
    yield debugger
    debugger.close()


@pytest.fixture(scope="module")
def functions(image: ElfImage) -> list[KernelSymbol]:
    """A sample of functions, by the name that the kernel itself prefers."""
    text = image.section(".text")
    by_addr = groupby(kallsyms.decode(image), lambda symbol: symbol.addr)
    every = [next(group) for addr, group in by_addr if text.addr <= addr < text.end]
    return every[1 :: len(every) // SAMPLE]


def test_it_is_the_same_every_time(image: ElfImage, made: Path, tmp_path: Path) -> None:
    make_symbol_file(Path(image.name), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == made.read_bytes()


def test_gdb_has_nothing_to_complain_of(offline: Gdb) -> None:
    assert offline("maint expand-symtabs") == ""


def test_types_have_the_size_that_the_kernel_says(
    offline: Gdb, image: ElfImage
) -> None:
    btf = Btf(image.section(".BTF").data)
    structs = [t for t in btf.types if t.kind is Kind.STRUCT and t.name and t.rows]
    for struct in structs[:: len(structs) // SAMPLE]:
        name = btf.name(struct.name)
        assert offline.value(f"sizeof(struct {name})") == struct.value, name


def test_a_structure_looks_as_in_its_header(offline: Gdb) -> None:
    assert offline("ptype struct list_head").split() == [
        *("type", "=", "struct", "list_head", "{"),
        *("struct", "list_head", "*next;", "struct", "list_head", "*prev;", "}"),
    ]
    assert offline.value("sizeof(struct pt_regs)") == 168
    assert offline.value("&((struct pt_regs *) 0)->ip") == 128
    assert offline.value("(int) SYSTEM_RUNNING") == 3


def test_addresses_have_the_names_that_the_kernel_prints(
    offline: Gdb, functions: list[KernelSymbol]
) -> None:
    for symbol in functions:
        found = offline(f"info symbol {symbol.addr:#x}")
        assert found.startswith(f"{symbol.name} in section .text"), symbol


def test_breakpoints_can_be_set_before_the_machine_is_there(
    offline: Gdb, functions: list[KernelSymbol]
) -> None:
    panic = offline.word("(unsigned long) &panic")
    assert f"Breakpoint 1 at {panic:#x}" in offline("break panic")
    assert "<panic>:" in offline("x/i panic")
    offline("delete")


def test_arguments_are_known_where_a_function_begins(offline: Gdb) -> None:
    scope = offline("info scope panic")
    assert "Symbol fmt is multi-location" in scope
    assert "in $rdi" in scope
    assert "void (const char *, ...)" in offline("ptype panic")
    assert "int (struct vm_area_struct *" not in offline("ptype panic")


def test_well_known_variables_have_types(offline: Gdb, image: ElfImage) -> None:
    assert '"swapper' in offline("print init_task.comm")
    assert '"Linux version 6.' in offline("print linux_banner")
    assert "type = volatile unsigned long" in offline("ptype jiffies")
    assert "(struct rq *) 0x" in offline("print &runqueues")  # per CPU, from BTF
    assert "struct list_head" in offline("whatis modules")


def test_a_variable_that_has_no_type_is_not_guessed(offline: Gdb) -> None:
    with pytest.raises(GdbError, match="unknown type"):
        offline("print idt_descr")


def test_the_build_id_is_the_images(image: ElfImage, made: Path) -> None:
    with made.open("rb") as file:
        notes = ELFFile(file).get_section_by_name(".notes")
        assert notes is not None
        assert notes.data() == bytes(image.section(".notes").data)
