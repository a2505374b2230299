# SPDX-License-Identifier: GPL-2.0-or-later
"""The archive writer, by what cpio(1) makes of it."""

import stat
import subprocess
from pathlib import Path

from nanokernel_vm.build.cpio import Archive


def sample() -> bytes:
    archive = Archive()
    archive.directory("bin")
    archive.file("bin/tool", b"#!/bin/sh\n", mode=0o755)
    archive.file("empty", b"")
    archive.symlink("bin/alias", "tool")
    return archive.finish()


def extract(archive: bytes, into: Path) -> None:
    command = ["cpio", "-i", "--quiet", "-d"]
    subprocess.run(command, input=archive, cwd=into, check=True)


def test_cpio_extracts_what_was_packed(tmp_path: Path) -> None:
    extract(sample(), tmp_path)
    tool = tmp_path / "bin/tool"
    assert tool.read_bytes() == b"#!/bin/sh\n"
    assert stat.S_IMODE(tool.stat().st_mode) == 0o755
    assert (tmp_path / "empty").read_bytes() == b""
    assert (tmp_path / "bin/alias").readlink() == Path("tool")


def test_cpio_lists_members_in_order() -> None:
    listing = subprocess.run(
        ["cpio", "-t", "--quiet"], input=sample(), capture_output=True, check=True
    )
    assert listing.stdout.split() == [b"bin", b"bin/tool", b"empty", b"bin/alias"]


def test_devices_keep_their_numbers() -> None:
    archive = Archive()
    archive.character_device("console", 5, 1, mode=0o600)
    listing = subprocess.run(
        ["cpio", "-tv", "--quiet"],
        input=archive.finish(),
        capture_output=True,
        check=True,
    )
    assert listing.stdout.startswith(b"crw-------")
    assert b"5,   1" in listing.stdout


def test_the_same_members_make_the_same_bytes() -> None:
    assert sample() == sample()
