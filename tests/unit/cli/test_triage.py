# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``nk triage`` says of files and places that are not what it needs."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from struct import pack

import pytest

from tests.failures.elfcore import PT_LOAD, elf

NK = Path(sys.executable).with_name("nk")

_TEXT = b"OSRELEASE=6.1.0\nBUILD-ID=00\n"
_NOTE = pack("<III12s", 11, len(_TEXT), 0, b"VMCOREINFO") + _TEXT


def _fifo(place: Path) -> Path:
    os.mkfifo(place / "fifo")
    return place / "fifo"


def _damaged(place: Path) -> Path:
    (place / "symbols").write_bytes(b"\x7fELF\2\1\1" + b"\xff" * 200)
    return place / "symbols"


def _core(place: Path, *segments: tuple[int, int, bytes]) -> Path:
    (place / "core").write_bytes(elf(*segments))
    return place / "core"


def _linux(place: Path) -> Path:
    """A core in which a Linux says who it is, and nothing else."""
    return _core(place, (PT_LOAD, 0x1000, _NOTE.ljust(4096, b"\0")))


# The arguments, each a text or how a file is made; what is said
WRONG: Mapping[str, tuple[tuple[str | Callable[[Path], Path], ...], str]] = {
    "both": (("--live", ":1", "--core", "x"), "give one of them"),
    "core is endless": (("--core", "/dev/zero"), "it is a device"),
    "core is a FIFO": (("--core", _fifo), "it is a FIFO"),
    "core is wild": (("--core", _damaged), "no core of x86-64"),
    "core far away": (
        ("--core", lambda place: _core(place, (PT_LOAD, 1 << 62, b"x"))),
        "holds no memory",
    ),
    "core of nobody": (
        ("--core", lambda place: _core(place, (PT_LOAD, 0, b"x" * 4096))),
        "no Linux has introduced itself",
    ),
    "no symbols": (("--core", _linux), "give --symbols FILE"),
    "symbols endless": (("--core", _linux, "--symbols", "/dev/zero"), "is a device"),
    "symbols are a FIFO": (("--core", _linux, "--symbols", _fifo), "is a FIFO"),
    "symbols are damaged": (("--core", _linux, "--symbols", _damaged), "no sense|not"),
    "host unknown": (("--live", "no.such.host.invalid:1"), "is nk run serving there"),
    "host is none": (("--live", "a..b:1"), "is not HOST:PORT"),
    "path is none": (("--live", f"unix:{'x' * 200}"), "too long"),
    "any bytes": (("--live", os.fsdecode(b"unix:/\xff\x1b[31m")), "No such file"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_one_line_says_what_is_wrong(kind: str, tmp_path: Path) -> None:
    arguments, complaint = WRONG[kind]
    words = [word if isinstance(word, str) else word(tmp_path) for word in arguments]
    done = subprocess.run(
        [NK, "triage", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=os.environ | {"NK_CACHE": str(tmp_path / "cache")},
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("nk: ")
    assert line.isprintable()
    assert complaint in line or any(word in line for word in complaint.split("|"))
