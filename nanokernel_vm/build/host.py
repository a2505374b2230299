# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's kernel: Debian's own binary, as its package ships it today.

The package holds a bzImage; the machine wants the ELF file inside it
(Documentation/x86/boot.rst, fields payload_offset and payload_length), which saves the
emulated CPU the unpacking and gives the symbol maker its sections.
"""

import gzip
import lzma
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from struct import unpack_from

from nanokernel_vm.build import debian
from nanokernel_vm.build.tools import run
from nanokernel_vm.errors import BuildError

METAPACKAGE = "linux-image-cloud-amd64"
PATTERN = r"linux-image-[\d.]+-\d+-cloud-amd64"

SETUP_SECTS = 0x1F1
HEADER_MAGIC = 0x202
PAYLOAD = 0x248  # payload_offset and payload_length, 32 bits each
SECTOR = 512
SIZE_APPENDED = 4  # the build adds the unpacked size behind the compressed stream

UNPACKERS: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"\xfd7zXZ": lzma.decompress,
    b"\x02!L\x18": lambda stream: run(["lz4", "-dc"], stdin=stream),
    b"(\xb5/\xfd": lambda stream: run(["zstd", "-dc"], stdin=stream),
}


def inputs() -> Mapping[str, str]:
    """Return which package is today's kernel."""
    package = debian.dependency(METAPACKAGE, PATTERN)
    return {package.name: str(package)}


def build(into: Path, final: Path) -> None:
    """Write ``vmlinux``, ``bzImage`` and ``config`` below ``into``."""
    package = debian.dependency(METAPACKAGE, PATTERN)
    release = package.name.removeprefix("linux-image-")
    with debian.unpacked(package) as files:
        shutil.copyfile(files / f"boot/vmlinuz-{release}", into / "bzImage")
        shutil.copyfile(files / f"boot/config-{release}", into / "config")
    (into / "vmlinux").write_bytes(vmlinux((into / "bzImage").read_bytes()))


def vmlinux(bzimage: bytes) -> bytes:
    """Return the ELF file that a bzImage carries.

    Raises:
        BuildError: It is no bzImage, or its payload is not one we can unpack.
    """
    if (
        len(bzimage) < PAYLOAD + 8
        or bzimage[HEADER_MAGIC : HEADER_MAGIC + 4] != b"HdrS"
    ):
        raise BuildError("the kernel is not a bzImage: it has no HdrS header")
    offset, length = unpack_from("<II", bzimage, PAYLOAD)
    start = (bzimage[SETUP_SECTS] + 1) * SECTOR + offset
    payload = bzimage[start : start + length]
    if len(payload) < length:
        raise BuildError(f"the bzImage ends before its payload of {length} bytes")
    return _unpacked(payload)


def _unpacked(payload: bytes) -> bytes:
    unpack = next((u for m, u in UNPACKERS.items() if payload.startswith(m)), None)
    if unpack is None:
        raise BuildError(f"unknown compression of the payload: {payload[:6].hex()}")
    try:
        image = unpack(payload[:-SIZE_APPENDED])
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise BuildError(f"the bzImage's payload is damaged: {error}") from None
    if not image.startswith(b"\x7fELF"):
        raise BuildError("the bzImage's payload is not an ELF file")
    return image
