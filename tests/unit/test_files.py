# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever a user names as a file is opened at once, or refused in words."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nanokernel_vm import files
from nanokernel_vm.config import load
from nanokernel_vm.cpu.state import State
from nanokernel_vm.errors import MachineError
from nanokernel_vm.linux.boot import BootFiles, boot
from nanokernel_vm.linux.elf import ElfImage
from nanokernel_vm.linux.image import load_kernel
from nanokernel_vm.memory import Ram, Window
from nanokernel_vm.triage.core import Core
from tests.guests import link


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def listening(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    return path


def loop(path: Path) -> Path:
    path.symlink_to(path)
    return path


# What is no file: how it is made, and what is said of it
SPECIAL: dict[str, tuple[Callable[[Path], Path], str]] = {
    "FIFO": (fifo, "is a FIFO; give a regular file"),
    "directory": (lambda path: path.parent, "is a directory; give a regular file"),
    "endless": (lambda _: Path("/dev/zero"), "is a device; give a regular file"),
    "terminal": (lambda _: Path("/dev/tty"), "a device|No such device"),
    "socket": (listening, "No such device or address"),
    "nothing": (lambda path: path, "No such file"),
    "loop": (loop, "Too many levels"),
    "long": (lambda path: path / ("x" * 300), "No such file|too long"),
    "too long": (lambda path: path.with_name("x" * 300), "too long"),
    "NUL": (lambda path: path.with_name("a\0b"), "no name that a file can have"),
    "file in between": (lambda _: Path(__file__) / "x", "Not a directory"),
}


def window() -> Window:
    return Window(Ram(4 << 20), 0, 4 << 20)


def as_initrd(path: Path) -> None:
    """Beside a kernel that boots."""
    kernel = Path(os.environ["KERNEL"])
    boot(BootFiles(kernel, path, ""), window(), State())


LOADERS: dict[str, Callable[[Path], object]] = {
    "machine": load,
    "kernel": lambda path: load_kernel(path, window()),
    "initrd": as_initrd,
    "core": Core,
    "symbols": ElfImage.open,
}


@pytest.fixture(scope="module", autouse=True)
def _kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    kernel = tmp_path_factory.mktemp("kernel") / "kernel"
    kernel.write_bytes(link("main: die"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERNEL", str(kernel))
        yield


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_is_refused(kind: str, loader: str, tmp_path: Path) -> None:
    make, complaint = SPECIAL[kind]
    path = make(tmp_path / "it")
    with pytest.raises(MachineError, match=complaint) as caught:
        LOADERS[loader](path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("loader", LOADERS)
def test_a_file_of_a_terabyte_is_not_read(loader: str, tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(MachineError):
        LOADERS[loader](path)


def test_contents_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert files.contents(path, 3) == b"abc"
    with pytest.raises(OSError, match="it has 3 bytes, more than 2"):
        files.contents(path, 2)


def test_a_file_whose_size_is_not_known_before(tmp_path: Path) -> None:
    """As in /proc: it says 0."""
    status = files.contents(Path("/proc/self/status"), 1 << 16)
    assert b"Pid:" in status
    with pytest.raises(OSError, match="more than 10"):
        files.contents(Path("/proc/self/status"), 10)
