# SPDX-License-Identifier: GPL-2.0-or-later
import os
from xml.etree import ElementTree

import pytest

from stub import amd64
from tests.fakes import MonitoredMachine
from tests.unit.stub.conftest import Ask


def fetch(ask: Ask, what: bytes, length: int = 0x1000) -> str:
    """Read a document the way gdb does."""
    text = b""
    while True:
        reply = ask(b"qXfer:%b:%x,%x" % (what, len(text), length))
        assert isinstance(reply, bytes)
        text += reply[1:]
        if reply[:1] == b"l":
            return text.decode()
        assert reply[:1] == b"m", reply


def test_the_description_comes_in_pieces(ask: Ask) -> None:
    assert fetch(ask, b"features:read:target.xml") == amd64.description()
    assert fetch(ask, b"features:read:target.xml", 7) == amd64.description()


def test_threads_have_names_and_cores(ask: Ask) -> None:
    rows = ElementTree.fromstring(fetch(ask, b"threads:read:"))
    assert [dict(row.items()) for row in rows] == [
        {"id": "p1.1", "core": "0", "name": "host/cpu0"},
        {"id": "p2.1", "core": "1", "name": "guest/cpu0"},
    ]
    assert rows[0].text == "running"


def test_each_inferior_has_its_exec_file(ask: Ask, machine: MonitoredMachine) -> None:
    machine.inferior(2).exec_file = "/boot/vmlinux"
    assert fetch(ask, b"exec-file:read:1") == ""
    assert fetch(ask, b"exec-file:read:2").endswith("/boot/vmlinux")
    ask(b"Hgp2.1")
    assert fetch(ask, b"exec-file:read:").endswith("/boot/vmlinux")


@pytest.mark.parametrize("reads", [True, False])
def test_who_reads_no_files_here_finds_them_from_any_directory(
    ask: Ask, machine: MonitoredMachine, reads: bool
) -> None:
    """Of the first inferior it cannot be known yet; of others a relative name works."""
    for pid in (1, 2):
        machine.inferior(pid).exec_file = f"/boot/{pid}"
    assert fetch(ask, b"exec-file:read:1", 3) == "/boot/1"
    if reads:
        ask(b"vFile:open:%b,0,0" % b"/boot/1".hex().encode())
    path = fetch(ask, b"exec-file:read:2", 50)
    assert path.startswith("../" if not reads else "/boot")
    assert os.path.normpath(os.path.join("/some/where", path)) == "/boot/2"
    assert fetch(ask, b"exec-file:read:1") == "/boot/1"


def test_partitions_are_processes(ask: Ask, machine: MonitoredMachine) -> None:
    machine.inferior(1).name = "a<b"
    table = ElementTree.fromstring(fetch(ask, b"osdata:read:processes"))
    commands = [i.findtext("column[@name='command']") for i in table]
    assert commands == ["a<b", "guest"]
    types = ElementTree.fromstring(fetch(ask, b"osdata:read:"))
    assert [i.findtext("column[@name='Type']") for i in types] == ["processes"]


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"qXfer:features:read:other.xml:0,10", b"E02"),
        (b"qXfer:features:read:target.xml:ffffff,10", b"l"),
        (b"qXfer:features:read:target.xml:0", b"E22"),
        (b"qXfer:exec-file:read:9:0,10", b"E03"),
        (b"qXfer:osdata:read:cows:0,10", b"E02"),
        (b"qXfer:features:write:target.xml:0:aa", b""),
        (b"qXfer:auxv:read::0,10", b""),
        (b"qXfer", b""),
    ],
)
def test_refused(ask: Ask, request_: bytes, reply: bytes) -> None:
    assert ask(request_) == reply
