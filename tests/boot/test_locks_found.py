# SPDX-License-Identifier: GPL-2.0-or-later
"""Locks that tasks of the stock host wait for, and what is told of each."""

import json
import re
from typing import Any

import pytest

from tests.failures.copies import Booted, in_a_copy

pytestmark = pytest.mark.boot

Row = dict[str, Any]


def _ask(booted: Booted, how: str, seconds: float, command: str) -> str:
    """Let the host fail in a copy, wait, and ask what the monitor says then."""

    def work(copy: Booted) -> str:
        copy.type("host", f"insmod /nk_fail.ko how={how}\n")
        copy.pass_time(seconds)
        return copy.monitor.run(copy.partition("host"), command)

    return in_a_copy(booted, work)


@pytest.fixture(scope="module")
def queues(booted: Booted) -> dict[str, Row]:
    """The locks by name, those on the heap by the slab cache's."""
    answer = json.loads(_ask(booted, "queues", 0.5, "locks -j"))
    assert answer["cycles"] == answer["broken"] == []
    return {row["name"].partition(" ")[0]: row for row in answer["locks"]}


def _who(parties: list[Row]) -> list[tuple[str, str]]:
    return [(party["name"], party["mode"]) for party in parties]


def test_a_writer_keeps_readers_and_writers_out(queues: dict[str, Row]) -> None:
    row = queues["written"]
    assert (row["kind"], row["state"]) == ("rwsem", "locked for writing")
    assert _who(row["owners"]) == [("nk_writer", "write")]
    assert _who(row["waiters"]) == [("nk_to_read", "read"), ("nk_to_write", "write")]
    assert row["waiters"][1]["caller"] == "want_to_write [nk_fail]"
    assert row["waiters"][0]["age"] - row["waiters"][1]["age"] > 10_000_000


def test_a_reader_keeps_writers_out(queues: dict[str, Row]) -> None:
    row = queues["read"]
    assert (row["kind"], row["state"]) == ("rwsem", "locked by 1 readers")
    assert _who(row["owners"]) == [("nk_reader", "read")]
    assert _who(row["waiters"]) == [("nk_other", "write")]


def test_a_semaphore_has_no_owner(queues: dict[str, Row]) -> None:
    row = queues["never"]
    assert (row["kind"], row["state"], row["owners"]) == ("semaphore", "count 0", [])
    assert row["waiters"][0]["caller"] == "want_never [nk_fail]"


def test_a_lock_on_the_heap_is_named_by_its_cache(queues: dict[str, Row]) -> None:
    (row,) = (row for row in queues.values() if row["kind"] == "mutex")
    assert row["name"].startswith("kmalloc-")
    assert _who(row["owners"]) == [("nk_reader", "write")]
    assert _who(row["waiters"]) == [("nk_heap", "write")]


def test_two_mutexes_in_the_wrong_order_are_a_deadlock(booted: Booted) -> None:
    text = _ask(booted, "deadlock", 0.5, "locks")
    (cycle,) = re.findall(r"^DEADLOCK: (.*)$", text, re.MULTILINE)
    assert re.fullmatch(
        r"(\d+) waits for lock_[ab] of (\d+), \2 waits for lock_[ab] of \1", cycle
    )
    assert "asked by take_a_then_b [nk_fail]" in text
    assert "asked by take_b_then_a [nk_fail]" in text


def test_a_spinlock_taken_twice_is_a_deadlock(booted: Booted) -> None:
    text = _ask(booted, "twice", 0.1, "locks")
    assert re.match(r"spinlock 0x\w+ \(taken\): locked", text)
    assert re.search(r"spins  (\d+) \(insmod\) .*asked by fail_twice \[nk_fail\]", text)
    assert re.search(r"^DEADLOCK: (\d+) waits for taken of \1$", text, re.MULTILINE)


def test_a_failing_module_is_unwound_through_its_initialization(
    booted: Booted,
) -> None:
    text = _ask(booted, "twice", 0.1, "bt")
    assert "fail_twice+0x" in text
    after = text[text.index("fail_twice+0x") :].splitlines()[1:]
    assert "do_one_initcall+0x" in after[0]
    assert after[-1].endswith("(user space)")
