# SPDX-License-Identifier: GPL-2.0-or-later
"""Loading a kernel: what it finds, and what is refused in words."""

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanokernel_vm.cpu.state import State
from nanokernel_vm.errors import LoadError
from nanokernel_vm.linux.boot import BootFiles, boot
from nanokernel_vm.linux.image import load_kernel
from nanokernel_vm.memory import Ram, Window
from tests.guests import link

BASE, SIZE = 0x20_0000, 0x20_0000
KERNEL = link("main: die")


@pytest.fixture
def window() -> Window:
    return Window(Ram(BASE + SIZE), BASE, SIZE)


def written(folder: Path, data: bytes, name: str = "kernel") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_a_kernel_lies_where_its_file_says_moved_up(
    tmp_path: Path, window: Window
) -> None:
    kernel = load_kernel(written(tmp_path, KERNEL), window)
    assert kernel.entry == BASE + 0x10_0000
    assert window.read(kernel.entry, 1) == b"\xfc"  # cld
    assert kernel.entry < kernel.end < window.end


def test_a_kernel_finds_its_parameters(tmp_path: Path, window: Window) -> None:
    initrd = bytes(range(256)) * 20
    files = BootFiles(
        written(tmp_path, KERNEL), written(tmp_path, initrd, "initrd"), "root=nowhere"
    )
    cpu = State()
    boot(files, window, cpu)
    params = cpu.regs[6]
    start, size = struct.unpack("<II", window.read(params + 0x218, 8))
    assert window.read(start, size) == initrd
    assert start % 0x1000 == 0
    (cmdline,) = struct.unpack("<I", window.read(params + 0x228, 4))
    assert window.read(cmdline, 13) == b"root=nowhere\0"
    assert window.read(params + 0x202, 4) == b"HdrS"
    rows = [
        struct.unpack("<QQI", window.read(params + 0x2D0 + 20 * n, 20))
        for n in range(window.read(params + 0x1E8, 1)[0])
    ]
    assert len(rows) >= 2  # fewer, and Linux asks the BIOS
    assert all(row[0] in window and row[0] + row[1] <= window.end for row in rows)
    assert rows[0][0] == BASE


def test_two_loads_are_the_same(tmp_path: Path) -> None:
    digests = set()
    for _ in range(2):
        window = Window(Ram(BASE + SIZE), BASE, SIZE)
        boot(BootFiles(written(tmp_path, KERNEL), None, ""), window, State())
        digests.add(window.digest())
    assert len(digests) == 1


I386 = KERNEL[:18] + b"\x03\0" + KERNEL[20:]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not an ELF file"),
        (b"MZ" + bytes(5000), "not an ELF file"),
        (b"\x7fELF", "not an ELF file"),
        (KERNEL[:64], "truncated"),
        (KERNEL[:200], "truncated"),
        (I386, "not for x86-64"),
    ],
)
def test_what_is_no_kernel(
    tmp_path: Path, window: Window, data: bytes, words: str
) -> None:
    with pytest.raises(LoadError, match=words) as error:
        load_kernel(written(tmp_path, data), window)
    assert str(tmp_path / "kernel") in str(error.value)


def test_a_kernel_that_is_not_there(tmp_path: Path, window: Window) -> None:
    with pytest.raises(LoadError, match="No such file"):
        load_kernel(tmp_path / "kernel", window)
    with pytest.raises(LoadError, match="directory"):
        load_kernel(tmp_path, window)


def test_a_kernel_larger_than_its_window(tmp_path: Path) -> None:
    small = Window(Ram(0x11_0000), 0x10_0000, 0x1_0000)
    with pytest.raises(LoadError, match=r"needs memory to 0x2\w+, the window ends"):
        load_kernel(written(tmp_path, KERNEL), small)


def test_an_initrd_larger_than_its_window(tmp_path: Path, window: Window) -> None:
    initrd = written(tmp_path, bytes(SIZE - 0x10_1000), "initrd")
    files = BootFiles(written(tmp_path, KERNEL), initrd, "")
    with pytest.raises(LoadError, match="bytes do not fit between") as error:
        boot(files, window, State())
    assert "initrd" in str(error.value)


def test_an_initrd_that_is_not_there(tmp_path: Path, window: Window) -> None:
    files = BootFiles(written(tmp_path, KERNEL), tmp_path / "initrd", "")
    with pytest.raises(LoadError, match="No such file"):
        boot(files, window, State())


def test_a_command_line_that_is_too_long(tmp_path: Path, window: Window) -> None:
    files = BootFiles(written(tmp_path, KERNEL), None, "x" * 2048)
    with pytest.raises(LoadError, match="command line of 2048 bytes; at most 2047"):
        boot(files, window, State())


@given(st.integers(0, len(KERNEL)))
def test_a_file_cut_anywhere_is_a_kernel_or_refused(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    _load_or_refuse(tmp_path_factory, KERNEL[:length])


@given(st.dictionaries(st.integers(0, 200), st.integers(0, 255), max_size=8))
def test_a_file_with_garbage_in_its_headers_is_a_kernel_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[int, int]
) -> None:
    data = bytearray(KERNEL)
    for place, byte in changes.items():
        data[place] = byte
    _load_or_refuse(tmp_path_factory, bytes(data))


def _load_or_refuse(folders: pytest.TempPathFactory, data: bytes) -> None:
    ram = Ram(BASE + SIZE)
    path = written(folders.getbasetemp(), data)
    with suppress(LoadError):
        load_kernel(path, Window(ram, BASE, SIZE))
    assert ram.view[:BASE] == bytes(BASE)
