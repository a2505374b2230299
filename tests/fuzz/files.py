# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutated files: whatever is in one, its loader takes it or says one line about it.

``LOADERS`` has for each kind of file a seed that loads and how it is loaded; ``check``
loads a mutation of it.  A loader may raise ``MachineError``: everything else is a
traceback to a user.  Seeds are small, so that a second has thousands of mutations.
"""

import gzip
import random
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from nanokernel_vm.build.bzimage import vmlinux
from nanokernel_vm.config import load
from nanokernel_vm.errors import MachineError
from nanokernel_vm.linux.awareness import find_vmcoreinfo
from nanokernel_vm.linux.elf import ElfImage, Section, Segment, Symbol
from nanokernel_vm.linux.elf_writer import symbol_sections, write_elf
from nanokernel_vm.linux.entry_frames import orc_debug_frame_file
from nanokernel_vm.linux.image import load_kernel
from nanokernel_vm.linux.kallsyms import KernelSymbol
from nanokernel_vm.linux.symbols import make_symbol_file
from nanokernel_vm.memory import Ram, Window
from nanokernel_vm.triage.core import Core
from tests.failures.elfcore import PT_LOAD, PT_NOTE, elf, prstatus
from tests.fuzz.campaign import still_alive
from tests.guests import link
from tests.unit.build.test_bzimage import made
from tests.unit.linux.btf_types import SIGNED, Types
from tests.unit.linux.images import DATA, TEXT, data, function, text
from tests.unit.linux.tables import END, call, orc_sections
from tests.unit.linux.test_entry_frames import FUNCTIONS, ORC, compiled
from tests.unit.linux.test_kallsyms import Tables

_OUTPUT_MAX = 1 << 24  # bytes that a loader may write for a seed of some kilobytes

_LINE_MAX = 5000  # characters: a path has up to 4096

_SIZES = (1, 2, 4, 8)
_EDGES = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0xFFF, 0x1000, 0x7FFF, 0xFFFF)
_WORDS = (
    *(b"9" * 50, b"[", b"{", b"]", b'"', b"\n", b"=", b".", b"'''", b"0x", b"-", b"\0"),
    *(b"\xff", b"\xed\xa0\x80", b"inf", b"true", b"1e999"),
    b"0001-01-01T00:00:00+23:59",
)


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Spoil a file in one to four places."""
    spoiled = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(_MUTATIONS)(spoiled, rng)
    return bytes(spoiled)


def _flip(content: bytearray, rng: random.Random) -> None:
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _number(content: bytearray, rng: random.Random) -> None:
    """Write an integer at the edge of something, where one may be."""
    size = rng.choice(_SIZES)
    at = rng.randrange(max(len(content), 1)) & -size
    edge = rng.choice((*_EDGES, len(content), 1 << rng.randrange(64)))
    value = rng.choice((edge, -edge, edge - 1, edge + 1)) % (1 << 8 * size)
    content[at : at + size] = value.to_bytes(size, "little")


def _cut(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content) + 1) :]


def _delete(content: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(content) + 1)
    del content[at : at + rng.randrange(64)]


def _repeat(content: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(content) + 1)
    content[at:at] = content[at : at + rng.randrange(256)] * rng.randrange(1, 8)


def _fill(content: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(content) + 1)
    length = min(rng.randrange(64), len(content) - at)
    content[at : at + length] = bytes((rng.choice((0, 0xFF, 0x41)),)) * length


def _insert(content: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(content) + 1)
    content[at:at] = rng.choice(_WORDS) * rng.choice((1, 1, 2, 100))


_MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(_flip, _flip, _number, _number, _number),
    *(_cut, _delete, _repeat, _fill, _insert),
)


class Loader(NamedTuple):
    """How a kind of file is loaded.

    Attributes:
        seed: Makes a file that loads, in an empty directory.
        load: Loads a file, and uses what it has found as its user would.
    """

    seed: Callable[[Path], bytes]
    load: Callable[[Path], object]


def check(name: str, content: bytes, place: Path) -> bool:
    """Load ``content`` in the directory ``place``; whether it was taken.

    Raises:
        Exception: Not the project's own, so that a user would see a traceback.
    """
    file = place / "file"
    file.write_bytes(content)
    try:
        LOADERS[name].load(file)
    except MachineError as error:
        said = str(error)
        assert said, f"{name}: no reason"
        assert len(said) < _LINE_MAX, f"{name}: no line but {len(said)} characters"
        return False
    return True


def piece(name: str, rng: random.Random, count: int) -> int:
    """Load mutations of one kind's seed."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        seed = LOADERS[name].seed(place)
        for _ in range(count):
            still_alive()
            check(name, mutate(seed, rng), place)
    return count


def _machine(_: Path) -> bytes:
    return (Path(__file__).parents[2] / "examples/two-linuxes.toml").read_bytes()


def _kernel(_: Path) -> bytes:
    return link("main: die")


def _load_kernel(file: Path) -> None:
    load_kernel(file, _window())


@cache
def _window() -> Window:
    return Window(Ram(4 << 20), 2 << 20, 2 << 20)


def _bzimage(_: Path) -> bytes:
    return made(gzip.compress(link("main: die")))


def _core(_: Path) -> bytes:
    note = b"\x0b\0\0\0\x20\0\0\0\0\0\0\0VMCOREINFO\0\0OSRELEASE=6.1.0\nPAGESIZE=4096\n"
    memory = bytes(4096) + note.ljust(4096, b"\0")
    notes = prstatus(rip=7, rsp=8)
    return elf(
        (PT_NOTE, 0, notes), (PT_LOAD, 0x1000, memory), (PT_LOAD, 0x9000, b"a" * 99)
    )


def _load_core(file: Path) -> None:
    core = Core(file)
    find_vmcoreinfo(core)
    for piece in core.pieces():
        core.word(piece.start & -8)
        assert len(core.read(piece.start, len(piece))) == len(piece)


def _stripped(place: Path) -> bytes:
    """An image with all that symbols are made of: kallsyms, BTF, ORC."""
    types = Types()
    number, char = types.number("int", 4, SIGNED), types.number("char", 1, SIGNED)
    comm = types.array(char, number, 8)
    task = types.struct("task_struct", 16, ("pid", number, 0), ("comm", comm, 32))
    argument = types.pointer(types.add(10, "", types.add(8, "task_t", task)))
    types.enum("state", ("RUNNING", 0), ("DEAD", 16))
    types.enum64("big", ("LAST", 1 << 40))
    types.function("f1", types.prototype(number, ("task", argument), ("n", number)))
    names = [KernelSymbol(TEXT, "T", "_text")]
    names += [KernelSymbol(TEXT + 16 * i, "t", f"f{i}") for i in range(1, 20)]
    names += [KernelSymbol(DATA + 0x9000, "D", "init_task")]
    # No fewer than 257 names: the table is found by its second marker.
    names += [KernelSymbol(DATA + 0x9010, "d", f"d{i}") for i in range(240)]
    names += [KernelSymbol(DATA + 0xA000, "R", "__start_orc_unwind_ip")]
    rows = [(TEXT, call(8)), (TEXT + 64, call(16, 16)), (TEXT + 400, END)]
    return _written(
        place,
        text(b"\x55" * 512),
        data(".rodata", Tables(names).join(), DATA),
        data(".BTF", types.data(), DATA + 0x8000),
        data(".data", bytes(64), DATA + 0x9000),
        *orc_sections(rows, DATA + 0xA000),
    )


def _debugged(place: Path) -> bytes:
    """An image as compilers leave it: symbols and .debug_frame."""
    frame = compiled()
    return _written(
        place,
        text(b"\x90" * 0x100),
        *orc_sections(ORC),
        Section(".debug_frame", size=len(frame), data=frame, align=8),
        symbols=FUNCTIONS,
    )


def _written(place: Path, *sections: Section, symbols: Sequence[Symbol] = ()) -> bytes:
    named = [section.name for section in sections]
    every = [*sections, *symbol_sections(symbols or [function("f", TEXT, 1)], named)]
    segments = [
        Segment(5, section.addr, section.addr & 0xFF_FFFF, section.size)
        for section in sections
        if section.loaded
    ]
    write_elf(place / "seed", every, segments, TEXT)
    return (place / "seed").read_bytes()


def _read_elf(file: Path) -> None:
    image = ElfImage.open(file)
    image.symbols()
    for section in image.sections:
        image.read(section.addr, 16)


def _make(maker: Callable[[Path, Path], object], file: Path) -> None:
    out = file.with_name("out")
    maker(file, out)
    size = out.stat().st_blocks * 512  # not holes
    assert size < _OUTPUT_MAX, f"{size} bytes made of a small file"


LOADERS: dict[str, Loader] = {
    "machine.toml": Loader(_machine, load),
    "kernel": Loader(_kernel, _load_kernel),
    "bzImage": Loader(_bzimage, vmlinux),
    "core": Loader(_core, _load_core),
    "ELF": Loader(_debugged, _read_elf),
    "stripped vmlinux": Loader(_stripped, lambda file: _make(make_symbol_file, file)),
    "debug vmlinux": Loader(_debugged, lambda file: _make(orc_debug_frame_file, file)),
}
