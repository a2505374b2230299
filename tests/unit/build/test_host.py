# SPDX-License-Identifier: GPL-2.0-or-later
import gzip
import lzma
import subprocess
from collections.abc import Callable
from struct import pack, pack_into

import pytest

from nanokernel_vm.build.host import PAYLOAD, SECTOR, SETUP_SECTS, vmlinux
from nanokernel_vm.errors import BuildError

ELF = b"\x7fELF" + bytes(range(256)) * 64
SETUP = 3


def filter_by(*command: str) -> Callable[[bytes], bytes]:
    def compress(data: bytes) -> bytes:
        return subprocess.run(
            command, input=data, capture_output=True, check=True
        ).stdout

    return compress


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "lz4": filter_by("lz4", "-lc"),
    "zstd": filter_by("zstd", "-c"),
}


def bzimage(stream: bytes) -> bytes:
    """A bzImage with a compressed stream for a payload, as the kernel has it."""
    payload = stream + pack("<I", len(ELF))
    offset = 0x123
    header = bytearray((SETUP + 1) * SECTOR + offset)
    header[SETUP_SECTS] = SETUP
    header[0x202:0x206] = b"HdrS"
    pack_into("<II", header, PAYLOAD, offset, len(payload))
    return bytes(header) + payload + b"behind"


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_the_payload_is_unpacked(name: str) -> None:
    assert vmlinux(bzimage(COMPRESSIONS[name](ELF))) == ELF


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "not a bzImage"),
        (ELF, "not a bzImage"),
        (bzimage(b"plain bytes"), "unknown compression of the payload: 706c61696e20"),
        (bzimage(gzip.compress(b"text")), "not an ELF file"),
        (bzimage(gzip.compress(ELF))[:-100], "ends before its payload"),
    ],
)
def test_what_is_no_kernel_is_refused(image: bytes, reason: str) -> None:
    with pytest.raises(BuildError, match=reason):
        vmlinux(image)


def test_a_damaged_payload_is_refused() -> None:
    image = bytearray(bzimage(gzip.compress(ELF)))
    image[-40] ^= 0xFF
    with pytest.raises(BuildError, match="payload"):
        vmlinux(bytes(image))
