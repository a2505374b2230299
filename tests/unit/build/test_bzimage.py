# SPDX-License-Identifier: GPL-2.0-or-later
import bz2
import gzip
import lzma
import subprocess
from collections.abc import Callable
from pathlib import Path
from struct import pack, pack_into

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanokernel_vm.build import bzimage
from nanokernel_vm.build.bzimage import PAYLOAD, SECTOR, SETUP_SECTS, vmlinux
from nanokernel_vm.errors import LoadError

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
    "bzip2": bz2.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "xz": lzma.compress,
    "lz4": filter_by("lz4", "-lc"),
    "zstd": filter_by("zstd", "-c"),
}


def made(stream: bytes, size: int = len(ELF)) -> bytes:
    """A bzImage with a compressed stream for a payload, as the kernel has it.

    The build adds the unpacked size behind the stream; gzip has it there itself.
    """
    payload = stream if stream[:2] == b"\x1f\x8b" else stream + pack("<I", size)
    offset = 0x123
    header = bytearray((SETUP + 1) * SECTOR + offset)
    header[SETUP_SECTS] = SETUP
    header[0x202:0x206] = b"HdrS"
    pack_into("<H", header, bzimage.PROTOCOL, 0x20F)
    pack_into("<H", header, bzimage.XLOADFLAGS, bzimage.KERNEL_64)
    pack_into("<II", header, PAYLOAD, offset, len(payload))
    return bytes(header) + payload + b"behind"


def with_field(offset: int, form: str, value: int) -> bytes:
    image = bytearray(made(gzip.compress(ELF)))
    pack_into(form, image, offset, value)
    return bytes(image)


def unpack(tmp_path: Path, image: bytes) -> bytes:
    path = tmp_path / "vmlinuz"
    path.write_bytes(image)
    return vmlinux(path)


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_the_payload_is_unpacked(tmp_path: Path, name: str) -> None:
    assert unpack(tmp_path, made(COMPRESSIONS[name](ELF))) == ELF


GZIP = made(gzip.compress(ELF))


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "not a bzImage"),
        (ELF, "not a bzImage"),
        (GZIP[:0x210], "ends in its header"),
        (GZIP[:-100], "ends before its payload"),
        (made(b"plain bytes"), "unknown compression of the payload: 706c61696e20"),
        (made(gzip.compress(b"text")), "not an ELF file"),
        (with_field(bzimage.PROTOCOL, "<H", 0x204), "boot protocol 0x204"),
        (with_field(bzimage.XLOADFLAGS, "<H", 0), "a 32-bit kernel"),
        (with_field(PAYLOAD + 4, "<I", 0xFFFF_FFFF), "none of a kernel's"),
        (with_field(PAYLOAD + 4, "<I", 3), "none of a kernel's"),
        (with_field(PAYLOAD, "<I", 0xFFFF_FFFF), "ends before its payload"),
        (made(lzma.compress(ELF), 0xFFFF_FFFF), "would unpack to 4294967295 bytes"),
    ],
)
def test_what_is_no_kernel_is_refused(
    tmp_path: Path, image: bytes, reason: str
) -> None:
    with pytest.raises(LoadError, match=reason):
        unpack(tmp_path, image)


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_a_payload_is_unpacked_to_the_size_that_it_tells(
    tmp_path: Path, name: str
) -> None:
    """No bomb: what goes beyond is not even unpacked."""
    image = bytearray(made(COMPRESSIONS[name](ELF + bytes(1 << 26)), len(ELF)))
    pack_into("<I", image, len(image) - len(b"behind") - 4, len(ELF))
    with pytest.raises(LoadError, match="payload is damaged"):
        unpack(tmp_path, bytes(image))


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    name=st.sampled_from(["gzip", "bzip2", "lzma", "xz"]),
    at=st.floats(0, 1, exclude_max=True),
    value=st.integers(0, 255),
)
def test_damage_is_an_error_or_goes_unnoticed(
    tmp_path: Path, name: str, at: float, value: int
) -> None:
    image = bytearray(made(COMPRESSIONS[name](ELF)))
    image[int(at * len(image))] = value
    try:
        assert len(unpack(tmp_path, bytes(image))) <= len(ELF)
    except LoadError as error:
        assert "\n" not in str(error)  # noqa: PT017 - neither must happen


def test_a_program_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = made(COMPRESSIONS["lz4"](ELF))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LoadError, match="run: apt-get install lz4"):
        unpack(tmp_path, image)
