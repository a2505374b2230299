# SPDX-License-Identifier: GPL-2.0-or-later
"""How nk starts, and how it hears signals."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanokernel_vm.cli.wishes import heard

NK = Path(sys.executable).with_name("nk")
SIGNALS = (signal.SIGINT, signal.SIGTERM)

# Stands for Python: says what it was started with, and which signals it has to wait for
PYTHON = """#!{}
import signal, sys
print(*map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ())))
print(*sys.argv[1:])
"""


def test_a_signal_waits_while_python_starts(tmp_path: Path) -> None:
    """Through a link from another directory, with arguments of any kind."""
    shutil.copy(NK, tmp_path / "nk")
    (tmp_path / "python3").write_text(PYTHON.format(sys.executable))
    (tmp_path / "python3").chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/nk").symlink_to("../nk")
    done = subprocess.run(
        [tmp_path / "bin/nk", "a b", "*"], capture_output=True, text=True, check=True
    )
    blocked, arguments = done.stdout.splitlines()
    assert int(blocked) == signal.SIGINT
    assert arguments == "-P -m nanokernel_vm.cli a b *"


def test_a_signal_that_waited_ends_it_at_once() -> None:
    """Whatever was asked for; nothing is printed."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "nanokernel_vm.cli", "info"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[0] == b""
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_standard_files_that_are_closed(closed: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" info {closed}', NK], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert ("machine:" in done.stdout) == ("1>" not in closed)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_names_that_standard_output_has_no_letters_for(
    encoding: str, tmp_path: Path
) -> None:
    example = Path(__file__).parents[3] / "examples/host-only.toml"
    machine = tmp_path / os.fsdecode(b"\xe2\x82\xac\xff.toml")
    shutil.copy(example, machine)
    done = subprocess.run(
        [NK, "info", machine],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.fixture
def _as_before() -> Iterator[None]:
    handlers = [signal.getsignal(number) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, handlers, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_is_a_wish(number: signal.Signals) -> None:
    stop = asyncio.Event()
    with heard(asyncio.get_running_loop(), stop.set):
        os.kill(os.getpid(), number)
        await stop.wait()
        stop.clear()
        os.kill(os.getpid(), number)  # each time
        await stop.wait()
    assert [signal.getsignal(n) for n in SIGNALS] == [signal.SIG_DFL] * 2


@pytest.mark.usefixtures("_as_before")
async def test_a_signal_where_python_cannot_raise_is_heard_too() -> None:
    """As in what is called by a finalizer, where an exception is lost."""
    stop = asyncio.Event()

    class Finalized:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    with heard(asyncio.get_running_loop(), stop.set):
        Finalized()
        await stop.wait()
