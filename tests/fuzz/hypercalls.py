# SPDX-License-Identifier: GPL-2.0-or-later
"""Hypercalls with any arguments, from a guest beside a neighbour that counts.

Nothing is raised in the machine, each result is one that the interface has, and the
neighbour has what it has when it runs alone.
"""

import random
import struct
import tempfile
from pathlib import Path

from nanokernel_vm.abi.layout import PORT_HYPERCALL, PORT_RETURN, Error, Hypercall
from nanokernel_vm.config import parse
from nanokernel_vm.cpu.state import RBP
from nanokernel_vm.machine import Machine
from nanokernel_vm.partition import Partition
from tests.fuzz.campaign import Broken, still_alive
from tests.fuzz.neighbour import NEIGHBOUR, check_neighbour
from tests.guests import WINDOW, link, symbols

_BATCH = 20_000
_RETURN = 1 << 32  # stands for the return port among functions
_ENTRY = struct.Struct("<4Q")
_VALUES = {Hypercall.READ_CLOCK, Hypercall.READ_WALL_CLOCK}
_ENDS = (Hypercall.SHUT_DOWN, Hypercall.RESTART)
_FEW = [int(h) for h in Hypercall if h not in _ENDS] + [0, 13, 255]
_ERRORS = {error & (1 << 64) - 1 for error in Error}

_CALLER = f"""
main:
    lea table(%rip), %rbx
    mov $0x{_BATCH:x}, %ebp
1:  mov (%rbx), %rax
    mov 8(%rbx), %rdi
    mov 16(%rbx), %rsi
    mov 24(%rbx), %rdx
    bt $32, %rax
    jc 2f
    out %al, ${PORT_HYPERCALL:#x}
    mov %rax, (%rbx)
    jmp 3f
2:  mov %rsp, %r15
    mov %rdi, %rsp
    out %al, ${PORT_RETURN:#x}
    mov %r15, %rsp
3:  add $32, %rbx
    dec %ebp
    jnz 1b
    report $1
    die
.data
.balign 4096
table: .skip {_BATCH * 32}
text: .skip 64
"""

_MACHINE = f"""
[machine]
quantum_ms = 4
[partition.caller]
pid = 1
base = 0
size = {WINDOW:#x}
kernel = "caller"
interrupts = "registered"
[partition.neighbour]
pid = 2
base = {WINDOW:#x}
size = {WINDOW:#x}
kernel = "neighbour"
device = [{{ chip = "uart", port = 0x2f8, irq = 3 }}]
"""


def _argument(rng: random.Random) -> int:
    match rng.randrange(6):
        case 0:
            return rng.getrandbits(64)
        case 1:
            return rng.randrange(300)
        case 2:
            return 1 << rng.randrange(64)
        case 3:
            return ((1 << rng.randrange(1, 65)) - 1) & (1 << 64) - 1
        case 4:
            return symbols(_CALLER)["table"] + rng.randrange(_BATCH * 32)
        case _:
            return rng.choice((0, 1, 2, 4096, 8192, 0x1_0000))


def _call(rng: random.Random) -> tuple[int, int, int, int]:
    function = rng.choice(_FEW) if rng.random() < 0.95 else rng.getrandbits(33)
    if function in _ENDS or function & _RETURN:
        function = 0
    return function, _argument(rng), _argument(rng), _argument(rng)


def build(folder: Path, text: str, **programs: str) -> Machine:
    """A machine of ``text`` whose kernels are tiny guests."""
    for name, source in programs.items():
        (folder / name).write_bytes(link(source))
    return Machine(parse(text, folder / "machine.toml"), warp=True)


def _batch(rng: random.Random, folder: Path) -> int:
    machine = build(folder, _MACHINE, caller=_CALLER, neighbour=NEIGHBOUR)
    caller = machine.partitions[0]
    calls = [_call(rng) for _ in range(_BATCH)]
    # What may end the guest comes last, or the rest would not be tried.
    last = rng.choice((_RETURN, *_ENDS, 0))
    calls[-1] = last, _argument(rng), _argument(rng), _argument(rng)
    place = symbols(_CALLER)["table"]
    caller.window.write(place, b"".join(_ENTRY.pack(*call) for call in calls))
    while caller.alive:
        machine.run(machine.partitions)
    _check_results(caller, calls, place)
    check_neighbour(machine.partitions[1])
    return _BATCH - 1 if caller.engine.state.regs[RBP] == 1 else _BATCH


def _check_results(
    caller: Partition, calls: list[tuple[int, int, int, int]], place: int
) -> None:
    if caller.engine.state.regs[RBP] > 1:
        raise Broken(f"the caller ended early: {caller.failure}")
    raw = caller.window.read(place, _BATCH * 32)
    for call, (result, *_) in zip(calls, _ENTRY.iter_unpack(raw), strict=True):
        function = call[0]
        free = function in _VALUES or function >> 32 & 1 or function == result
        if not free and result and result not in _ERRORS:
            raise Broken(f"hypercall {call} returned {result:#x}")


def piece(rng: random.Random, count: int) -> int:
    """Batches, each in a machine of its own."""
    tried = 0
    with tempfile.TemporaryDirectory() as folder:
        while tried < count:
            still_alive()
            tried += _batch(rng, Path(folder))
    return tried
