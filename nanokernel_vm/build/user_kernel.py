# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel of the user's own: the ELF file to load.

What a bzImage carries is cached by the bzImage's contents, ``$NK_CACHE/kernel/<key>/``.
"""

import hashlib
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nanokernel_vm.build import bzimage, cache
from nanokernel_vm.errors import BuildError, LoadError

_ELF = b"\x7fELF"
_IMAGE = "vmlinux"


def image(path: Path) -> Path:
    """Return the ELF file to load: this one, or what is in it if it is a bzImage.

    Raises:
        LoadError: It cannot be read, or not be unpacked.
        BuildError: The cache cannot be written.
    """
    if not bzimage.is_bzimage(head(path)):
        return path
    return made("kernel", {"file": digest(path)}, lambda at: _unpack(path, at)) / _IMAGE


def is_kernel(path: Path) -> bool:
    """Whether a file begins as a kernel does."""
    if not path.is_file():
        return False
    found = head(path)
    return found.startswith(_ELF) or bzimage.is_bzimage(found)


def _unpack(path: Path, into: Path) -> None:
    with named(path):
        (into / _IMAGE).write_bytes(bzimage.vmlinux(path))


def head(path: Path) -> bytes:
    """Return how a kernel begins.

    Raises:
        LoadError: It cannot be read, or has no end.
    """
    with named(path):
        if not stat.S_ISREG(path.stat().st_mode):
            raise LoadError("not a regular file; name a vmlinux or a bzImage")
        with path.open("rb") as file:
            return file.read(bzimage.HEAD)


def digest(path: Path) -> str:
    """Return the digest of a file's contents."""
    with named(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Put the file's name in front of what is wrong with it."""
    try:
        yield
    except LoadError as error:
        raise LoadError(f"{path}: {error}") from None
    except OSError as error:
        if error.filename not in (None, str(path), path):
            raise
        raise LoadError(f"{path}: {error.strerror}") from None


def place(shelf: str, inputs: Mapping[str, str]) -> Path:
    """Return where what is made of ``inputs`` lies, or will."""
    return cache.Shelf(shelf).path / cache.digest(inputs)


def made(name: str, inputs: Mapping[str, str], make: Callable[[Path], None]) -> Path:
    """Return the directory in the cache that ``make`` fills, filled."""
    at, shelf = place(name, inputs), cache.Shelf(name)
    try:
        if not at.is_dir():
            with shelf.locked():
                shelf.store(inputs, lambda into, _: make(into))
    except OSError as error:
        raise BuildError(
            f"{error.filename or at}: {error.strerror}; make room there, "
            "or name another directory in NK_CACHE"
        ) from None
    return at
