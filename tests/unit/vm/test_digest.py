# SPDX-License-Identifier: GPL-2.0-or-later
"""The fingerprint of a partition covers all of it, and nothing of a debugger."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from nanokernel_vm.board import Board
from nanokernel_vm.cpu.delivery import Gate
from nanokernel_vm.debug import PartitionInferior
from nanokernel_vm.digest import canonical, digest, state
from nanokernel_vm.machine import Machine
from nanokernel_vm.nanokernel.frames import Frames
from nanokernel_vm.nanokernel.hypercalls import Guest
from stub import amd64
from stub.target import BreakpointKind
from tests.guests import MS
from tests.unit.vm.conftest import Build

WORKS = """
main:
    mov $5, %ebx
1:  add $7, %ecx
    bts %ecx, %edx
    out %al, $0x80
    cmp %ecx, %edx
    jmp 1b
"""


def machine(build: Build) -> Machine:
    machine = build(WORKS, WORKS)
    for partition in machine.partitions:
        partition.run(MS)
    machine.boards[1].guest = Guest(machine.partitions[1], 0)
    return machine


def set_state(name: str) -> Callable[[Board], None]:
    def change(board: Board) -> None:
        cpu = board.partition.engine.state
        setattr(cpu, name, getattr(cpu, name) ^ 8)
        board.partition.engine.put_state()

    return change


def set_register(name: str, value: int) -> Callable[[Board], None]:
    def change(board: Board) -> None:
        register = amd64.BY_NAME[name]
        PartitionInferior(board.partition, None).write_register(
            1, register.number, value.to_bytes(register.size, "little")
        )

    return change


def set_hidden_base(board: Board) -> None:
    board.partition.engine.state.segs[3].base ^= 8
    board.partition.engine.put_state()


def write(chip: str, offset: int, value: int) -> Callable[[Board], None]:
    return lambda board: board.devices[chip].writer(offset)(value)


def use_frames(board: Board) -> None:
    assert board.guest is not None
    board.guest.frames = Frames(board.partition, 1 << 14)


def set_gate(board: Board) -> None:
    assert board.guest is not None
    board.guest.gates[3] = Gate(1, 16, False, 0, 0)


def mask(board: Board) -> None:
    assert board.guest is not None
    board.guest.lines.unmask(3)


@pytest.mark.parametrize(
    ("part", "who", "change"),
    [
        ("ram", "host", lambda b: b.partition.window.write(0x1000, b"\1")),
        *(
            ("cpu", "host", set_state(name))
            for name in (
                *("lstar", "star", "fmask", "kernel_gs_base", "efer", "rip", "rflags"),
                "hflags",
            )
        ),
        ("cpu", "host", set_hidden_base),
        *(
            ("cpu", "host", set_register(name, 0x77))
            for name in ("mxcsr", "fctrl", "xmm9", "st3", "r9", "cr2")
        ),
        ("devices", "host", write("pic8259@0x20", 1, 0x55)),
        ("devices", "host", write("pit8254@0x40", 3, 0x34)),
        ("devices", "guest", write("uart16550@0x2f8", 7, 0x55)),
        ("life", "host", lambda b: b.partition.reschedule()),
        ("life", "host", lambda b: b.partition.shut_down(restart=False)),
        ("life", "host", lambda b: b.partition.type(lambda data: None, b"x")),
        ("nanokernel", "guest", use_frames),
        ("nanokernel", "guest", set_gate),
        ("nanokernel", "guest", mask),
    ],
)
def test_a_change_is_seen_in_its_part(
    build: Build, part: str, who: str, change: Callable[[Board], None]
) -> None:
    board = machine(build).board(who)
    assert board is not None
    before = digest(board)
    change(board)
    after = digest(board)
    changed = {n for n, found in after.rows().items() if found != before.rows()[n]}
    assert changed >= {part}
    assert changed <= {part, "life"}
    assert after.whole != before.whole


def test_what_a_debugger_does_is_not_seen(build: Build) -> None:
    plain, watched = machine(build), machine(build)
    board = watched.boards[0]
    inferior = PartitionInferior(board.partition, None)
    rip = board.partition.engine.state.rip
    for place in range(rip, rip + 20):
        inferior.insert_breakpoint(BreakpointKind.SOFTWARE, place, 1)
    inferior.insert_breakpoint(BreakpointKind.WRITE, rip, 8)
    inferior.prepare(stepping=True)
    inferior.remove_all()
    inferior.prepare(stepping=False)
    inferior.read_registers(1)
    assert [digest(b) for b in plain.boards] == [digest(b) for b in watched.boards]


def test_every_chip_is_on_its_board(build: Build) -> None:
    host, guest = (state(board)["devices"] for board in machine(build).boards)
    assert isinstance(host, dict)
    assert isinstance(guest, dict)
    pics = ["pic8259@0x20", "pic8259@0xa0", "elcr@0x4d0"]
    assert list(host) == [*pics, "pit8254@0x40", "uart16550@0x3f8"]
    assert list(guest) == ["uart16550@0x2f8"]


@dataclass
class Pair:
    left: int
    right: int


def test_equal_values_and_no_others_have_equal_texts() -> None:
    values = [
        *(None, True, 0, 1, "1", b"1", 1.0, [1], [[1]], [1, 1], {1: 1}, {1}, [], {}),
        *(set[int](), Pair(1, 2), Pair(2, 1), {"left": 1, "right": 2}),
    ]
    assert max(Counter(canonical(value) for value in values).values()) == 1
    assert canonical({1: 2, 3: 4}) == canonical({3: 4, 1: 2})
    assert canonical({3, 1}) == canonical({1, 3})
    assert canonical((1, 2)) == canonical([1, 2])


def test_what_is_no_plain_data_is_refused() -> None:
    with pytest.raises(TypeError, match="no plain data"):
        canonical({"device": object()})
