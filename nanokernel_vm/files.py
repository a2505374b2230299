# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening the files that a user names: regular ones, of a size that makes sense.

A FIFO makes ``open`` wait for ever, ``/dev/zero`` has no end, and a sparse file of a
terabyte costs nothing to make.  Each is refused as an ``OSError`` whose ``strerror``
says what it is, so that whoever reads a file has one kind of complaint to pass on.
"""

import errno
import mmap
import os
import stat
from pathlib import Path
from typing import BinaryIO

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a block device",
}


def opened(path: Path) -> BinaryIO:
    """Open a regular file to read.

    Raises:
        OSError: There is none, or it is something else.
    """
    try:
        # Not to wait for a FIFO's other end; of a regular file it means nothing.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except ValueError:  # a NUL in it, or letters that the file system has not
        raise OSError(errno.EINVAL, "no name that a file can have", path) from None
    try:
        _refuse_special(os.fstat(fd).st_mode, path)
    except BaseException:
        os.close(fd)
        raise
    return os.fdopen(fd, "rb")


def _refuse_special(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "no file")
        raise OSError(errno.EINVAL, f"it is {kind}; give a regular file", path)


def contents(path: Path, limit: int) -> bytes:
    """Read a regular file of at most ``limit`` bytes.

    Raises:
        OSError: There is none, it is something else, or it is larger.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(limit + 1) if size <= limit else b""
    if len(data) > limit or size > limit:
        raise OSError(
            errno.EFBIG,
            f"it has {max(size, len(data))} bytes, more than {limit}",
            path,
        )
    return data


def mapped(path: Path) -> mmap.mmap:
    """Map a regular file to read.

    Raises:
        OSError: There is none, it is something else, or it is empty.
    """
    with opened(path) as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise OSError(errno.EINVAL, "it is empty", path) from None
