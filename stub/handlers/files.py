# SPDX-License-Identifier: GPL-2.0-or-later
"""``vFile``: the files gdb needs, and no others (gdb manual, "Host I/O Packets").

With its default ``sysroot target:`` gdb reads the ELF named by qXfer:exec-file
from here.  Exactly those files can be opened, for reading only, whatever the
rest of the server's file system holds.
"""

import os
import struct
from io import FileIO

from stub.dispatch import packet
from stub.errors import Errno
from stub.session import Session

_MAX_OPEN = 64
_READ_ONLY = 0
# gdb manual, "struct stat": ten big-endian words of 32 bits, but for size,
# blksize and blocks, which have 64.
_STAT = struct.Struct(">7I3Q3I")


def _failed(errno: Errno) -> bytes:
    return b"F-1,%x" % errno


@packet("vFile:setfs:{pid:x}")
def set_file_system(session: Session, pid: int) -> bytes:
    """Choose whose file system names are looked up in: there is only one."""
    return b"F0"


@packet("vFile:open:{path:hex},{flags:x},{mode:x}")
def open_file(session: Session, path: bytes, flags: int, mode: int) -> bytes:
    """Open one of the advertised files."""
    name = os.fsdecode(path)
    if name not in {inferior.exec_file for inferior in session.inferiors}:
        return _failed(Errno.ENOENT)
    if flags != _READ_ONLY:
        return _failed(Errno.EROFS)
    if len(session.files) >= _MAX_OPEN:
        return _failed(Errno.EMFILE)
    try:
        file = FileIO(name)
    except OSError:
        return _failed(Errno.ENOENT)
    session.files[file.fileno()] = file
    return b"F%x" % file.fileno()


@packet("vFile:pread:{fd:x},{count:x},{offset:x}")
def read_file(session: Session, fd: int, count: int, offset: int) -> bytes:
    """Read a piece of an open file."""
    if fd not in session.files:
        return _failed(Errno.EBADF)
    try:
        data = os.pread(fd, min(count, session.max_packet), offset)
    except (OSError, OverflowError):
        return _failed(Errno.EINVAL)
    return b"F%x;%b" % (len(data), data)


@packet("vFile:fstat:{fd:x}")
def stat_file(session: Session, fd: int) -> bytes:
    """Describe an open file."""
    if fd not in session.files:
        return _failed(Errno.EBADF)
    stat = os.fstat(fd)
    data = _STAT.pack(
        stat.st_dev & 0xFFFFFFFF,
        stat.st_ino & 0xFFFFFFFF,
        stat.st_mode,
        stat.st_nlink & 0xFFFFFFFF,
        stat.st_uid,
        stat.st_gid,
        stat.st_rdev & 0xFFFFFFFF,
        stat.st_size,
        stat.st_blksize,
        stat.st_blocks,
        *(int(time) & 0xFFFFFFFF for time in (stat.st_atime, stat.st_mtime)),
        int(stat.st_ctime) & 0xFFFFFFFF,
    )
    return b"F%x;%b" % (len(data), data)


@packet("vFile:close:{fd:x}")
def close_file(session: Session, fd: int) -> bytes:
    """Close an open file."""
    file = session.files.pop(fd, None)
    if file is None:
        return _failed(Errno.EBADF)
    file.close()
    return b"F0"
