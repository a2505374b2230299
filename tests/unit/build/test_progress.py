# SPDX-License-Identifier: GPL-2.0-or-later
import io

import pytest

from nanokernel_vm.build import progress
from nanokernel_vm.build.progress import Progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Time:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(progress, "time", time)
    return time


def test_a_terminal_s_line_is_rewritten(time: Time) -> None:
    stream = Terminal()
    with Progress("compile", 200, "steps", stream) as line:
        time.now += 10
        line.at(50)
        time.now += 10
        line.at(100)
    assert stream.getvalue().split("\r\x1b[K") == [
        "",
        "compile",
        "compile  50/200 steps (25 %)  10 s, about 30 s to go",
        "compile  100/200 steps (50 %)  20 s, about 20 s to go",
        "compile  100/200 steps (50 %)  20 s  done\n",
    ]


def test_a_log_gets_a_line_now_and_then(time: Time) -> None:
    stream = io.StringIO()
    with Progress("compile", 100, "steps", stream) as line:
        for step in range(100):
            time.now += 1
            line.at(step + 1)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "compile  ..."
    assert lines[-1] == "compile  100/100 steps (100 %)  100 s  done"
    assert len(lines) == 2 + int(99 / progress.QUIET_INTERVAL)


def test_bytes_are_shown_in_megabytes(time: Time) -> None:
    stream = io.StringIO()
    with Progress("download", 139_000_000, "B", stream) as line:
        line.at(139_000_000)
    assert "139/139 MB (100 %)" in stream.getvalue()


def test_an_unknown_total_is_not_invented(time: Time) -> None:
    stream = Terminal()
    with Progress("unpack", unit="files", stream=stream) as line:
        time.now += 5
        line.at(1234)
    assert stream.getvalue().endswith("unpack  1234 files  5 s  done\n")


def test_failure_is_shown() -> None:
    stream = io.StringIO()
    with pytest.raises(RuntimeError), Progress("compile", stream=stream):
        raise RuntimeError
    assert stream.getvalue().endswith("compile  failed\n")


def test_more_steps_than_expected_stay_below_all(time: Time) -> None:
    stream = Terminal()
    with Progress("compile", 10, "steps", stream) as line:
        time.now += 5
        line.at(12)
    assert "12/10 steps (100 %)" in stream.getvalue()
    assert "to go" not in stream.getvalue()
