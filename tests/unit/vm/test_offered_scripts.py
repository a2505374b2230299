# SPDX-License-Identifier: GPL-2.0-or-later
"""The stub by which gdb finds our scripts with a symbol file."""

from pathlib import Path

import pytest

from nanokernel_vm.cli.gdb import ENTRY, command, offer_scripts
from nanokernel_vm.errors import MachineError
from stub.errors import StubError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of our own."""
    monkeypatch.setenv("NK_CACHE", str(tmp_path / "cache"))
    directory = tmp_path.resolve() / "cache" / "host-symbols" / "key"
    directory.mkdir(parents=True)
    return directory


def test_it_says_where_this_project_lies(cache: Path) -> None:
    offer_scripts(cache / "vmlinux.debug")
    stub = cache / "vmlinux.debug-gdb.py"
    assert repr(str(ENTRY.parent)) in stub.read_text()
    compile(stub.read_text(), stub.name, "exec")
    assert ENTRY.is_file()


def test_it_is_written_anew_when_another_project_has_written_it(cache: Path) -> None:
    stub = cache / "vmlinux.debug-gdb.py"
    stub.write_text("elsewhere")
    offer_scripts(cache / "vmlinux.debug")
    assert "elsewhere" not in stub.read_text()
    before = stub.stat().st_mtime_ns
    offer_scripts(cache / "vmlinux.debug")
    assert stub.stat().st_mtime_ns == before
    assert [path.name for path in cache.iterdir()] == [stub.name]


def test_nothing_is_written_beside_a_users_own_kernel(
    cache: Path, tmp_path: Path
) -> None:
    offer_scripts(tmp_path / "vmlinux")
    assert not (tmp_path / "vmlinux-gdb.py").exists()


def test_a_place_that_cannot_be_written_is_named_and_no_more(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stub = cache / "vmlinux.debug-gdb.py"
    stub.mkdir()
    offer_scripts(cache / "vmlinux.debug")
    (said,) = caplog.messages
    assert str(stub) in said
    assert list(cache.iterdir()) == [stub]


@pytest.mark.parametrize("connect", ["nonsense", "localhost:99999", "stdio", ""])
def test_gdb_is_not_started_for_what_is_no_address(connect: str) -> None:
    with pytest.raises((MachineError, StubError), match="HOST:PORT"):
        command(connect, ())
