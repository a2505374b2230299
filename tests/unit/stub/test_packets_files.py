# SPDX-License-Identifier: GPL-2.0-or-later
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from stub.handlers import PACKETS
from stub.session import Session
from tests.fakes import MonitoredMachine


@pytest.fixture
def elf(tmp_path: Path) -> Path:
    path = tmp_path / "vmlinux"
    path.write_bytes(bytes(range(256)) * 1024)
    return path


@pytest.fixture
def session(machine: MonitoredMachine, elf: Path) -> Iterator[Session]:
    machine.inferior(1).exec_file = str(elf)
    session = PACKETS.session(machine)
    yield session
    session.close()


def ask(session: Session, payload: bytes) -> bytes:
    reply = PACKETS.dispatch(session, payload)
    assert isinstance(reply, bytes)
    return reply


def opened(path: Path | str, flags: int = 0) -> bytes:
    return b"vFile:open:%b,%x,1c0" % (os.fsencode(path).hex().encode(), flags)


def test_an_advertised_file_can_be_read(session: Session, elf: Path) -> None:
    assert ask(session, b"vFile:setfs:1") == b"F0"
    fd = ask(session, opened(elf))[1:]
    assert ask(session, b"vFile:pread:%b,4,fe" % fd) == b"F4;\xfe\xff\x00\x01"
    assert ask(session, b"vFile:pread:%b,10,3fffe" % fd) == b"F2;\xfe\xff"
    assert ask(session, b"vFile:pread:%b,10,40000" % fd) == b"F0;"
    assert ask(session, b"vFile:pread:%b,10,ffffffffffffffff" % fd) == b"F-1,16"
    assert ask(session, b"vFile:close:%b" % fd) == b"F0"
    assert ask(session, b"vFile:close:%b" % fd) == b"F-1,9"


def test_stat_tells_the_size(session: Session, elf: Path) -> None:
    fd = ask(session, opened(elf))[1:]
    head, stat = ask(session, b"vFile:fstat:%b" % fd).split(b";", 1)
    assert (head, len(stat)) == (b"F40", 64)
    assert struct.unpack_from(">I", stat, 8)[0] == elf.stat().st_mode
    assert struct.unpack_from(">Q", stat, 28)[0] == elf.stat().st_size


def test_nothing_else_can_be_opened(session: Session, elf: Path) -> None:
    for path in ("/etc/passwd", f"{elf.parent}/./vmlinux", "", "target:x"):
        assert ask(session, opened(path)) == b"F-1,2"
    assert ask(session, opened(elf, flags=1)) == b"F-1,1e"
    assert ask(session, b"vFile:pread:0,10,0") == b"F-1,9"
    assert ask(session, b"vFile:fstat:0") == b"F-1,9"
    assert ask(session, b"vFile:unlink:" + str(elf).encode().hex().encode()) == b""


def test_a_missing_file_is_not_our_traceback(session: Session, elf: Path) -> None:
    elf.unlink()
    assert ask(session, opened(elf)) == b"F-1,2"


def test_files_are_limited_and_closed_with_the_session(
    session: Session, elf: Path
) -> None:
    replies = [ask(session, opened(elf)) for _ in range(65)]
    assert replies[-1] == b"F-1,18"
    files = list(session.files.values())
    session.close()
    assert all(file.closed for file in files)


def test_what_is_mapped_can_be_read_as_of_a_process(
    session: Session, machine: MonitoredMachine
) -> None:
    ask(session, b"qSupported:multiprocess+")
    fd = ask(session, opened("/proc/2/smaps"))[1:]
    text = ask(session, b"vFile:pread:%b,1000,0" % fd).partition(b";")[2].decode()
    rows = [line for line in text.splitlines() if "-" in line]
    memory = machine.inferior(2).memory
    assert rows == [
        f"{start:x}-{start + len(data):x} rwxp 00000000 00:00 0 "
        for start, data in sorted(memory.items())
    ]
    assert text.count("Anonymous: 4 kB") == len(memory)
    assert ask(session, opened("/proc/9/smaps")) == b"F-1,2"
    assert ask(session, opened("/proc/1/mem")) == b"F-1,2"
