# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel files with more and less in them: what is made of each, and what is said."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nanokernel_vm import build
from nanokernel_vm.build import user_symbols
from nanokernel_vm.errors import LoadError
from nanokernel_vm.linux import kallsyms
from nanokernel_vm.linux.elf import ElfImage, SymbolType
from nanokernel_vm.linux.release import build_id

pytestmark = pytest.mark.boot

NK = Path(sys.executable).with_name("nk")

Copy = Callable[..., Path]
IMAGES: dict[str, Path] = {}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is made of the copies is not for the user's own cache."""
    names = ("guest", "debian-cloud", "guest-bzimage")
    IMAGES.update({name: build.ensure(name) for name in names})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """Copy an artifact by objcopy with these options."""

    def make(name: str, *options: str, out: str = "vmlinux") -> Path:
        path = tmp_path / out
        subprocess.check_call(["objcopy", *options, IMAGES[name], path])
        return path

    return make


def functions(path: Path) -> dict[str, int]:
    """Functions of an ELF file's symbol table that have a name of their own."""
    rows = [s for s in ElfImage.open(path).symbols() if s.type is SymbolType.FUNC]
    every = [row.name for row in rows]
    return {row.name: row.addr for row in rows if every.count(row.name) == 1}


def frames(path: Path) -> int:
    section = ElfImage.open(path).find(".debug_frame")
    return len(section.data) if section else 0


def test_a_vmlinux_with_dwarf_is_its_own_symbol_file() -> None:
    image = IMAGES["guest"]
    made = user_symbols.symbols(image)
    assert made.lacks == ""
    assert ElfImage.open(made.file).symbols() == ElfImage.open(image).symbols()
    assert frames(made.file) > frames(image)  # of the entry code
    assert user_symbols.symbols(image) == made  # from the cache
    assert user_symbols.cached(image) == made.file.resolve()


@pytest.mark.parametrize("how", ["--strip-debug", "--strip-all"])
def test_what_is_stripped_of_types_says_so(copy: Copy, how: str) -> None:
    made = user_symbols.symbols(copy("guest", how))
    assert made.lacks.startswith("has no BTF (CONFIG_DEBUG_INFO_BTF): ")
    assert frames(made.file)
    assert user_symbols.symbols(copy("guest", how)) == made


def test_kallsyms_are_the_symbols_that_were_stripped(copy: Copy) -> None:
    linked = functions(IMAGES["guest"])
    made = functions(user_symbols.symbols(copy("guest", "--strip-all")).file)
    common = made.keys() & linked.keys()
    assert len(common) > 5000
    assert {name: made[name] for name in common} == {n: linked[n] for n in common}


def test_a_bzimage_has_what_its_vmlinux_has(copy: Copy) -> None:
    bzimage = IMAGES["guest-bzimage"]
    made = user_symbols.symbols(bzimage)
    of_stripped = user_symbols.symbols(copy("guest", "--strip-all"))
    assert functions(made.file) == functions(of_stripped.file)
    assert made.lacks == of_stripped.lacks


def test_a_kernel_without_orc(copy: Copy) -> None:
    image = copy("debian-cloud", "-R", ".orc_unwind")
    made = user_symbols.symbols(image)
    assert made.lacks.startswith("has no ORC tables (CONFIG_UNWINDER_ORC): backtraces")
    assert ElfImage.open(made.file).find(".debug_info")
    assert "init_task" in {s.name for s in ElfImage.open(made.file).symbols()}


def test_a_newer_kernel_is_named(copy: Copy, tmp_path: Path) -> None:
    (tmp_path / "header").write_bytes(bytes(20))
    new = copy("guest", "-S", "--add-section", f".orc_header={tmp_path / 'header'}")
    new.write_bytes(
        new.read_bytes().replace(b"Linux version 6.1.", b"Linux version 6.9.")
    )
    made = user_symbols.symbols(new)
    assert made.lacks.startswith("is Linux 6.9.")
    assert "not 6.1: such kernels are not known yet" in made.lacks
    assert "; has no BTF" in made.lacks
    assert "; has ORC tables of a kernel newer than 6.3: backtraces" in made.lacks


def test_a_kernel_without_any_names(copy: Copy) -> None:
    image = copy("guest", "-S")
    data = bytearray(image.read_bytes())
    digits = data.index(b"0\x001\x002\x003\x00")
    data[digits : digits + 8] = b"garbage!"
    image.write_bytes(data)
    made = user_symbols.symbols(image)
    assert made.file == image
    assert "has no symbols: " in made.lacks
    assert "found no kallsyms tables" in made.lacks


def test_what_is_no_linux_is_left_alone() -> None:
    program = Path(sys.executable).resolve()
    assert user_symbols.symbols(program) == (program, "")


def test_symbols_of_the_users_own(copy: Copy) -> None:
    kernel = copy("guest", "-S")
    debug = copy("guest", "--only-keep-debug", out="vmlinux.debug")
    made = user_symbols.own_symbols(debug, kernel)
    assert made.lacks == ""
    assert functions(made.file) == functions(IMAGES["guest"])
    assert frames(made.file) > frames(debug)  # ORC is in the kernel only
    ours = user_symbols.symbols(kernel).file
    assert functions(user_symbols.own_symbols(ours, kernel).file) == functions(ours)


def test_symbols_of_another_kernel_are_refused() -> None:
    guest, host = IMAGES["guest"], IMAGES["debian-cloud"]
    with pytest.raises(LoadError, match="of another build than") as caught:
        user_symbols.own_symbols(guest, host)
    assert build_id(ElfImage.open(guest)) in str(caught.value)
    assert build_id(ElfImage.open(host)) in str(caught.value)


def test_a_symbol_file_without_symbols_is_refused(copy: Copy) -> None:
    image = copy("guest", "-S")
    with pytest.raises(LoadError, match="vmlinux: has no symbols"):
        user_symbols.own_symbols(image, image)


def test_kallsyms_are_found_in_any_image() -> None:
    for name in ("guest", "debian-cloud"):
        image = ElfImage.open(IMAGES[name])
        found = {symbol.name: symbol.addr for symbol in kallsyms.decode(image)}
        assert found["_text"] == image.section(".text").addr


# On the command line: one line that names the file, and exit code 2

MACHINE = """
[machine]
gdb = ""
[partition.host]
pid = 1
base = 0
size = 0x1000_0000
kernel = "kernel"
cmdline = "console=ttyS0"
device = [{ chip = "uart", port = 0x3f8, irq = 4 }]
"""


def nk(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [NK, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def truncated(path: Path) -> None:
    path.write_bytes(IMAGES["guest-bzimage"].read_bytes()[:-100_000])


def damaged(path: Path) -> None:
    data = bytearray(IMAGES["guest-bzimage"].read_bytes())
    data[len(data) // 2 :][:100] = bytes(100)
    data[len(data) // 2 : len(data) // 2 + 100] = bytes(100)
    path.write_bytes(data)


def of_machine(number: int, bits: int = 2) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        data = bytearray(IMAGES["guest"].read_bytes()[:4096])
        data[4], data[18] = bits, number
        path.write_bytes(data)

    return write


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (truncated, "the bzImage ends before its payload"),
        (damaged, "payload is damaged"),
        (of_machine(183), "not for x86-64 (arm64)"),
        (of_machine(3, bits=1), "not for x86-64 (32-bit x86)"),
        (of_machine(62), "truncated"),
        (lambda path: path.write_bytes(b"\x1f\x8b" + bytes(5000)), "is compressed"),
        (lambda path: path.write_text("#!/bin/sh\n"), "not an ELF file"),
        (lambda path: path.write_bytes(b""), "not an ELF file"),
        (lambda path: path.mkdir(), ""),
        (lambda path: path.symlink_to("/dev/zero"), ""),
        (lambda path: None, ""),
    ],
)
def test_what_cannot_be_booted(
    tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    kernel = tmp_path / "kernel"
    make(kernel)
    (tmp_path / "machine.toml").write_text(MACHINE)
    done = nk("run", tmp_path / "machine.toml", "--timeout", "1")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("nk: ")
    assert str(kernel) in done.stderr
    assert reason in done.stderr


def advised(folder: Path, *changes: tuple[str, str]) -> list[str]:
    """What ``nk run`` says before it runs, of a description with some changes."""
    text = MACHINE.replace('"kernel"', f'"{IMAGES["guest"]}"')
    for change in changes:
        assert change[0] in text
        text = text.replace(*change)
    (folder / "machine.toml").write_text(text)
    done = nk("run", folder / "machine.toml", "--timeout", "0")
    said = [line for line in done.stderr.splitlines() if "[partition" in line]
    assert (done.returncode, "Traceback" in done.stderr) == (3, False), done.stderr
    return said


def test_linux_is_told_of_what_it_lacks_to_be_heard(tmp_path: Path) -> None:
    silent, high = ("console=ttyS0", "quiet"), ("base = 0\n", "base = 0x1000_0000\n")
    assert advised(tmp_path) == []
    (line,) = advised(tmp_path, silent)
    assert "without console=ttyS0" in line
    assert "0x2f8" not in line
    (line,) = advised(tmp_path, silent, ("0x3f8", "0x2f8"))
    assert "without console=ttyS1" in line
    (line,) = advised(tmp_path, high)
    assert "give it base 0, not 0x10000000" in line
    own_handlers = ("pid = 1", 'pid = 1\ninterrupts = "registered"')
    assert advised(tmp_path, high, own_handlers) == []


def test_symbols_of_another_kernel_are_a_wrong_description(tmp_path: Path) -> None:
    kernel, other = IMAGES["guest"], IMAGES["debian-cloud"]
    text = MACHINE.replace('"kernel"', f'"{kernel}"\nsymbols = "{other}"')
    path = tmp_path / "machine.toml"
    path.write_text(text.replace('gdb = ""', 'gdb = "127.0.0.1:0"'))
    done = nk("run", path, "--timeout", "0")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr == f"nk: {other}: has no symbols (no .symtab)\n"
    path.write_text(path.read_text().replace(str(other), "nowhere"))
    done = nk("run", path, "--timeout", "0")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"symbols: there is no file {tmp_path / 'nowhere'}" in done.stderr


def test_what_a_kernel_lacks_is_said_in_one_line(copy: Copy, tmp_path: Path) -> None:
    image = copy("guest", "-S")
    path = tmp_path / "machine.toml"
    text = MACHINE.replace('"kernel"', f'"{image}"')
    path.write_text(text.replace('gdb = ""', 'gdb = "127.0.0.1:0"'))
    for _ in range(2):  # from the cache, too
        done = nk("run", path, "--timeout", "0")
        (line,) = [row for row in done.stderr.splitlines() if "BTF" in row]
        assert line.startswith(f"nk: {image}: has no BTF (CONFIG_DEBUG_INFO_BTF): ")


def test_info_about_a_kernel(copy: Copy) -> None:
    image = copy("guest", "-S")
    done = nk("info", image)
    assert (done.returncode, done.stderr) == (0, "")
    rows = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert rows["format"] == "vmlinux"
    assert rows["release"].startswith("6.1.")
    assert rows["build_id"] == build_id(ElfImage.open(image))
    assert rows["names"].startswith("kallsyms (")
    assert rows["types"] == "none: has no BTF, no DWARF"
    assert rows["unwinding"].startswith("ORC (")
    assert nk("info", IMAGES["guest-bzimage"]).stdout.splitlines()[1] == (
        "format: bzImage"
    )
