# SPDX-License-Identifier: GPL-2.0-or-later
"""An unprivileged program with code that Unicorn dies of, in the real kernels."""

import re
from functools import partial

import pytest

from nanokernel_vm.partition import Condition, Partition
from tests.boot.programs.typed import ENTRY, commands
from tests.failures.copies import Booted, in_a_copy

pytestmark = pytest.mark.boot

UD2 = b"\x0f\x0b"
LOCKED = {
    "lock bts %esp,%ebx": b"\xf0\x0f\xab\xe3",
    "lock btr %esp,%ebx": b"\xf0\x0f\xb3\xe3",
    "lock btc %esp,%ebx": b"\xf0\x0f\xbb\xe3",
    "lock bts $1,%ebx": b"\xf0\x0f\xba\xeb\x01",
    "lock mov %ebx,%eax": b"\xf0\x89\xd8",
}
# Other instructions before it in its block: what Unicorn does depends on them.
BLOCK = b"\xff\xc3\x01\xd8\xff\xc1"
KERNELS = ("host", "guest")


def _install(booted: Booted, name: str, code: bytes) -> None:
    for command in commands(code, "/tmp/x"):
        booted.type(name, f"{command}\n")


def _alive(booted: Booted, name: str) -> None:
    booted.type(name, "echo seven $((3 + 4))\n")
    booted.run_to({name: "seven 7"})


def _output(booted: Booted, name: str, start: int) -> str:
    board = booted.machine.board(name)
    assert board is not None
    return board.console.output[start:].decode(errors="replace")


def _is_refused(name: str, code: bytes, booted: Booted) -> str:
    board = booted.machine.board(name)
    assert board is not None
    _install(booted, name, BLOCK + code + UD2)
    start = len(board.console.output)
    booted.type(name, "/tmp/x; echo it en''ded $?; dmesg | tail -2; echo that''s all\n")
    booted.run_to({name: "thats all"})
    for kernel in KERNELS:
        _alive(booted, kernel)
    return _output(booted, name, start)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("code", LOCKED.values(), ids=LOCKED)
def test_linux_sees_an_invalid_opcode(booted: Booted, name: str, code: bytes) -> None:
    """At the instruction itself; the program is killed, both kernels go on."""
    printed = in_a_copy(booted, partial(_is_refused, name, code))
    assert "it ended 132" in printed, printed  # 128 + SIGILL
    where = f"trap invalid opcode ip:{ENTRY + len(BLOCK):x}"
    assert where in printed or name == "guest", printed  # has no such message


def _dies(name: str, booted: Booted) -> str:
    """Let one kernel's engine die of it, as it would without the rule."""
    dead = booted.partition(name)
    (other,) = (p for p in booted.machine.partitions if p is not dead)
    dead.engine.core.lenient = True
    _install(booted, name, BLOCK + LOCKED["lock bts %esp,%ebx"] + UD2)
    booted.type(name, "/tmp/x\n")
    booted.run_while(lambda: dead.alive)
    assert dead.condition is Condition.FAILED
    _goes_on(booted, other)
    answers = [booted.monitor.run(dead, command) for command in ("ps", "bt", "pte 0")]
    return "\n".join([dead.failure, *answers, booted.monitor.run(other, "ps")])


def _goes_on(booted: Booted, other: Partition) -> None:
    before = other.clock
    _alive(booted, other.name)
    booted.type(other.name, "sleep 3; echo la''ter\n")
    booted.run_to({other.name: "later"})
    assert other.clock > before


@pytest.mark.parametrize("name", KERNELS)
def test_what_kills_an_engine_kills_one_kernel(booted: Booted, name: str) -> None:
    """Who looks at it sees everything; the other one goes on."""
    seen = in_a_copy(booted, partial(_dies, name))
    assert seen.startswith("the emulator died of abort() translating f0 0f ab e3 0f 0b")
    assert f"at {ENTRY + len(BLOCK):#x}, in libunicorn" in seen.splitlines()[0]
    assert re.search(r"^ +\d+ +\d+ R .*\(has the CPU\) +x$", seen, re.MULTILINE), seen
