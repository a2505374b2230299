# SPDX-License-Identifier: GPL-2.0-or-later
"""The ELF file that a bzImage carries (Documentation/x86/boot.rst, v6.1).

A bzImage is what distributions install as ``vmlinuz``: code for real mode, then a
program that unpacks the compressed ELF file behind it.  The machine enters that ELF
file itself, which saves the emulated CPU the unpacking, leaves the kernel where it is
linked (to move it at random is the unpacking program's work) and gives the symbol maker
its sections.

Nothing that a file says is trusted: neither how long its payload is, nor what that
unpacks to.
"""

import bz2
import lzma
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from struct import unpack_from
from typing import NamedTuple, Protocol

from nanokernel_vm.errors import LoadError

HEAD = 0x268  # bytes that hold all fields read here
SETUP_SECTS = 0x1F1
HEADER_MAGIC = 0x202
PROTOCOL = 0x206
XLOADFLAGS = 0x236
PAYLOAD = 0x248  # payload_offset and payload_length, 32 bits each
SECTOR = 512
KERNEL_64 = 1  # XLF_KERNEL_64: it has a 64-bit entry
PAYLOAD_MAX = 256 << 20  # bytes; Debian's have 13 MB
UNPACKED_MAX = 512 << 20  # bytes; Debian's have 66 MB

_MAGIC = b"HdrS"
_SIZE = 4  # of what the unpacked size is told in, at the payload's end


class _Stream(Protocol):
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


Unpack = Callable[[bytes, int], bytes]  # a payload, and how many bytes at most


def is_bzimage(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a bzImage."""
    return head[HEADER_MAGIC : HEADER_MAGIC + len(_MAGIC)] == _MAGIC


def vmlinux(path: Path) -> bytes:
    """Return the ELF file that a bzImage carries.

    Raises:
        LoadError: It is no bzImage of a 64-bit kernel, or is damaged.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        start, length = _place(file.read(HEAD))
        file.seek(start)
        payload = file.read(length)
    if len(payload) < length:
        raise LoadError(f"the bzImage ends before its payload of {length} bytes")
    return _unpacked(payload)


def _place(head: bytes) -> tuple[int, int]:
    """Return where the payload is in the file, and how long."""
    if not is_bzimage(head):
        raise LoadError("not a bzImage: it has no HdrS header")
    if len(head) < HEAD:
        raise LoadError(f"the bzImage ends in its header of {HEAD} bytes")
    (protocol,) = unpack_from("<H", head, PROTOCOL)
    if protocol < 0x208:
        raise LoadError(f"boot protocol {protocol:#x} is of a Linux before 2.6.24")
    (flags,) = unpack_from("<H", head, XLOADFLAGS)
    if protocol >= 0x20C and not flags & KERNEL_64:
        raise LoadError("a 32-bit kernel; this machine runs x86-64 ones")
    offset, length = unpack_from("<II", head, PAYLOAD)
    if not _SIZE < length <= PAYLOAD_MAX:
        raise LoadError(f"a payload of {length} bytes is none of a kernel's")
    return ((head[SETUP_SECTS] or 4) + 1) * SECTOR + offset, length


def _unpacked(payload: bytes) -> bytes:
    method = next((m for m in METHODS if payload.startswith(m.magic)), None)
    if method is None:
        raise LoadError(f"unknown compression of the payload: {payload[:6].hex()}")
    (size,) = unpack_from("<I", payload, len(payload) - _SIZE)
    if size > UNPACKED_MAX:
        raise LoadError(f"the payload would unpack to {size} bytes, no kernel has them")
    image = method.unpack(payload, size + 1)
    if len(image) != size:
        raise LoadError(f"the {method.name} payload is damaged: not {size} bytes long")
    if not image.startswith(b"\x7fELF"):
        raise LoadError("the bzImage's payload is not an ELF file")
    return image


def _by_library(make: Callable[[], _Stream], payload: bytes, limit: int) -> bytes:
    stream = make()
    try:
        return stream.decompress(payload, limit)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise LoadError(f"the payload is damaged: {error}") from None


def _by_program(name: str, payload: bytes, limit: int) -> bytes:
    """Let a program unpack it, and take no more of what it prints than ``limit``."""
    with tempfile.TemporaryFile() as packed:
        packed.write(payload[:-_SIZE])
        packed.seek(0)
        try:
            process = subprocess.Popen(
                [name, "-dc"],
                stdin=packed,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except FileNotFoundError:
            raise LoadError(
                f"packed by {name}, which is not installed; run: apt-get install {name}"
            ) from None
        with process:
            image = process.stdout.read(limit) if process.stdout else b""
            process.kill()
    return image


class Method(NamedTuple):
    """One way to pack a kernel (arch/x86/boot/compressed/Makefile)."""

    name: str
    magic: bytes
    unpack: Unpack


METHODS = (
    Method("gzip", b"\x1f\x8b", partial(_by_library, partial(zlib.decompressobj, 31))),
    Method("bzip2", b"BZh", partial(_by_library, bz2.BZ2Decompressor)),
    Method("lzma", b"\x5d\0\0", partial(_by_library, lzma.LZMADecompressor)),
    Method("xz", b"\xfd7zXZ", partial(_by_library, lzma.LZMADecompressor)),
    Method("lzo", b"\x89LZO", partial(_by_program, "lzop")),
    Method("lz4", b"\x02!L\x18", partial(_by_program, "lz4")),
    Method("zstd", b"(\xb5/\xfd", partial(_by_program, "zstd")),
)
