# SPDX-License-Identifier: GPL-2.0-or-later
"""gdb's nk commands beside the server's monitor commands that they are views of."""

import re

import pytest
from nk.views import (
    VIEWS,
    View,
    answer,
    module_line,
    offers,
    options,
    packet,
    question,
    symbol_command,
)

from nanokernel_vm.debug.monitor import COMMANDS

BT = next(view for view in VIEWS if view.name == "bt")
ROW = {
    "name": "crash",
    "state": "live",
    "address": 0xFFFF_FFFF_C000_0000,
    "size": 16384,
    "references": 2,
    "sections": {
        ".text": 0xFFFF_FFFF_C000_0000,
        ".init.text": 0xFFFF_FFFF_C000_9000,
        ".note.gnu.build-id": 0xFFFF_FFFF_C000_2000,
        ".bss": 0xFFFF_FFFF_C000_3000,
    },
}


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_the_server_knows_every_view(view: View) -> None:
    command = COMMANDS[view.name]
    assert view.partition == command.partition
    if view.name != "modules":  # whose argument is gdb's own
        words = re.findall(r"\[?[-\w| ]+\]?", view.usage.replace("] ", "]|"))
        usage = command.usage.removeprefix(view.name).replace("[PARTITION]", "")
        assert usage.split() == view.usage.split(), words


def test_a_question_names_the_partition() -> None:
    assert question(BT, 2, ["-a"], as_json=False) == "bt -p 2 -a"
    assert question(BT, 1, [], as_json=True) == "bt -j -p 1"
    assert question(VIEWS[0], 1, [], as_json=False) == "partitions"


def test_questions_and_answers_are_packets() -> None:
    assert packet("ps") == "qRcmd,7073"
    assert answer(b"7073c3a90a") == "psé\n"
    assert answer(b"OK") == ""
    assert [answer(reply) for reply in (b"", None, b"E01")] == [None] * 3


def test_help_tells_the_usage() -> None:
    first, usage, *rest = BT.doc.splitlines()
    assert first.endswith(".")
    assert usage == "Usage: nk bt [-j] [-a | PID]"
    assert "JSON" in rest[-1]


def test_j_is_found_anywhere() -> None:
    assert options(["1", "-j"]) == (True, ["1"])
    assert options(["-a"]) == (False, ["-a"])


def test_completion_offers_what_is_not_there_yet() -> None:
    assert offers(BT, "", "") == ["-j", "-a"]
    assert offers(BT, "-", "") == ["j", "a"]
    assert offers(BT, "-j -", "") == ["a"]
    assert offers(BT, "-j -a ", "") == []
    assert offers(BT, "4", "4") == []
    assert offers(BT, "-", None) == []  # gdb asks first where the word begins


def test_a_modules_symbols_go_where_it_lies() -> None:
    assert symbol_command("/tmp/a b/crash.ko", ROW) == (
        'add-symbol-file "/tmp/a b/crash.ko" 0xffffffffc0000000 '
        "-s .init.text 0xffffffffc0009000 -s .bss 0xffffffffc0003000"
    )


def test_a_module_says_whether_gdb_has_symbols() -> None:
    assert module_line(ROW, "").endswith("16384 bytes  live, 2 users, symbols: none")
    assert module_line(ROW, "/x.ko").endswith("symbols: /x.ko")
