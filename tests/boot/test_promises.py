# SPDX-License-Identifier: GPL-2.0-or-later
"""The promises as a program sees them, in both kernels, and what falls by them."""

from dataclasses import replace
from pathlib import Path

import pytest

from nanokernel_vm.build.cpio import Archive
from nanokernel_vm.cpu.cpuid import HYPERVISOR, answer
from nanokernel_vm.cpu.promises import PROMISED
from tests.boot.shell import Shell, partition
from tests.encodings import OSXSAVE, listing
from tests.programs import PROGRAMS, compile_bare, executor
from tests.samples import LEAVING, PRIVILEGED, SAMPLES

pytestmark = pytest.mark.boot

DONE = b"program done"
NAMES = [
    (feature, name)
    for feature, names in SAMPLES.items()
    for name in names
    if name not in LEAVING
]


def _initrd(folder: Path, program: Path) -> Path:
    archive = Archive()
    archive.directory("dev")
    archive.character_device("dev/console", 5, 1, mode=0o600)
    archive.file("init", program.read_bytes(), mode=0o755)
    (folder / "initrd").write_bytes(archive.finish())
    return folder / "initrd"


@pytest.fixture(scope="module")
def promises(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that executes every sample, as init."""
    folder = tmp_path_factory.mktemp("promises")
    executor(folder / "init", listing([name for _, name in NAMES]))
    return _initrd(folder, folder / "init")


def _run(name: str, initrd: Path, options: str = "") -> tuple[str, tuple[str, int]]:
    """What the program prints, and the digest of memory and the time at its end."""
    config = partition(name)
    cmdline = f"{config.cmdline} {options}"
    shell = Shell(replace(config, initrd=initrd, cmdline=cmdline))
    printed = shell.wait(DONE).decode().replace("\r", "")
    return printed, (shell.partition.window.digest(), shell.partition.clock)


def _results(printed: str) -> str:
    return next(
        line.split()[1] for line in printed.splitlines() if line.startswith("results ")
    )


@pytest.mark.parametrize("name", ["host", "guest"])
def test_what_cpuid_denies_is_undefined_for_a_program(
    name: str, promises: Path
) -> None:
    """And what it promises works; the same in two runs, to the last bit of memory."""
    printed, digest = _run(name, promises)
    promised = {feature.name for feature in PROMISED}
    expected = [
        (feature, text, _expected(text, feature in promised)) for feature, text in NAMES
    ]
    results = _results(printed)
    found = [
        (feature, text, result)
        for (feature, text), result in zip(NAMES, results, strict=True)
    ]
    assert found == expected
    assert _run(name, promises) == (printed, digest)


def _expected(text: str, promised: bool) -> str:
    if not promised:
        return "U"
    return "R" if text in PRIVILEGED else "W"


@pytest.mark.parametrize(
    ("name", "options", "cr4"),
    [("host", "", OSXSAVE), ("guest", "", OSXSAVE), ("host", "noxsave", 0)],
)
def test_a_program_finds_in_cpuid_what_the_table_says(
    name: str, options: str, cr4: int, promises: Path
) -> None:
    printed, _ = _run(name, promises, options)
    rows = [
        tuple(int(word, 16) for word in line.split()[1:])
        for line in printed.splitlines()
        if line.startswith("cpuid ")
    ]
    assert len(rows) > 40
    for leaf, subleaf, *registers in rows:
        expected = list(answer(leaf, subleaf, cr4, {}))
        if leaf == 1 and name == "guest":
            expected[2] |= HYPERVISOR
        assert registers == expected, (hex(leaf), subleaf)


@pytest.mark.parametrize("name", ["host", "guest"])
def test_a_kernel_does_without_xsave(name: str, promises: Path) -> None:
    """OSXSAVE is clear then, so that nobody executes XGETBV."""
    printed, _ = _run(name, promises, "noxsave")
    results = _results(printed)
    without = [
        text for (_, text), result in zip(NAMES, results, strict=True) if result == "U"
    ]
    assert {"xgetbv", "xsave (%rax)"} <= set(without)
    assert "rdtscp" not in without


@pytest.mark.parametrize("options", ["", "noxsave"])
def test_a_32_bit_program_runs_on_the_stock_kernel(
    options: str, tmp_path: Path
) -> None:
    """System calls by INT 0x80 and SYSENTER, signals and their returns."""
    compile_bare(tmp_path / "init", "-m32", PROGRAMS / "compat.c")
    printed, _ = _run("host", _initrd(tmp_path, tmp_path / "init"), options)
    rows = [
        line for line in printed.splitlines() if ": good" in line or ": bad" in line
    ]
    assert [row for row in rows if ": bad" in row] == []
    assert len(rows) == 8
