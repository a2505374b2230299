# SPDX-License-Identifier: GPL-2.0-or-later
"""``vFile``: the files gdb needs, and no others (gdb manual, "Host I/O Packets").

With its default ``sysroot target:`` gdb reads the ELF named by qXfer:exec-file
from here.  Exactly those files can be opened, for reading only, whatever the
rest of the server's file system holds.

And ``generate-core-file`` reads what memory there is from Linux's ``/proc/PID/smaps``
(gdb/linux-tdep.c: linux_find_memory_regions_full): where that is missing it writes the
sections of the ELF, wherever they really lie, and says "Saved".
"""

import os
import re
import struct
from io import FileIO

from stub.dispatch import packet
from stub.errors import Errno
from stub.session import Session
from stub.target import Region, SupportsRegions

_MAPS = re.compile(r"/proc/(\d{1,9})/smaps")
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
    session.reads_files = True
    name = os.fsdecode(path)
    if maps := _MAPS.fullmatch(name):
        return _open_maps(session, int(maps[1]))
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
    return _keep(session, file)


def _keep(session: Session, file: FileIO) -> bytes:
    session.files[file.fileno()] = file
    return b"F%x" % file.fileno()


def _open_maps(session: Session, pid: int) -> bytes:
    """Open a list of all memory of an inferior that has one."""
    target = next((i for i in session.inferiors if i.pid == pid), None)
    if not isinstance(target, SupportsRegions):
        return _failed(Errno.ENOENT)
    file = FileIO(os.memfd_create("smaps"), "r+")
    file.write("".join(map(_row, target.regions())).encode())
    return _keep(session, file)


def _row(region: Region) -> str:
    """One mapping, as proc(5) has it: private and anonymous, so that it is saved."""
    write, execute = "w" if region.writable else "-", "x" if region.executable else "-"
    size = region.end - region.start >> 10
    return (
        f"{region.start:x}-{region.end:x} r{write}{execute}p 00000000 00:00 0 \n"
        f"Size: {size} kB\nAnonymous: {size} kB\n"
    )


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
