# SPDX-License-Identifier: GPL-2.0-or-later
import subprocess
from pathlib import Path

import pytest

from nanokernel_vm.build.initrd import INIT, archive


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The archive's files, unpacked; devices are left out, they need root."""
    subprocess.run(
        ["cpio", "-i", "--quiet", "-f", "dev/*"],
        input=archive(b"the binary", ["busybox", "ls", "sh"]),
        cwd=tmp_path,
        check=True,
    )
    return tmp_path


def test_applets_lead_to_busybox(root: Path) -> None:
    assert (root / "bin/busybox").read_bytes() == b"the binary"
    for applet in ("ls", "sh"):
        assert (root / "bin" / applet).readlink() == Path("busybox")


def test_the_init_script_is_what_the_kernel_runs(root: Path) -> None:
    init = root / "init"
    assert init.read_bytes() == INIT.read_bytes()
    assert init.stat().st_mode & 0o111 == 0o111
    interpreter = init.read_text().splitlines()[0].removeprefix("#!").split()[0]
    assert (root / interpreter.lstrip("/")).exists()


def test_mount_points_exist(root: Path) -> None:
    lines = INIT.read_text().splitlines()
    mounts = [line.split()[-1] for line in lines if line.startswith("mount ")]
    assert mounts
    assert all((root / where.lstrip("/")).is_dir() for where in mounts)


def test_the_console_exists_before_devtmpfs_is_mounted() -> None:
    listing = subprocess.run(
        ["cpio", "-tv", "--quiet"], input=archive(b"", []), capture_output=True
    )
    assert b"5,   1" in listing.stdout
    assert b"dev/console" in listing.stdout


def test_the_script_is_correct_shell() -> None:
    subprocess.run(["sh", "-n", INIT], check=True)


def test_the_archive_is_always_the_same() -> None:
    assert archive(b"x", ["ls"]) == archive(b"x", ["ls"])
