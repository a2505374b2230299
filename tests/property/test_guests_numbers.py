# SPDX-License-Identifier: GPL-2.0-or-later
"""No number that a guest hands to the nanokernel or a device disturbs the machine."""

import random
import struct
import threading
from pathlib import Path

import pytest

from nanokernel_vm.abi.layout import Hypercall
from nanokernel_vm.clock import END
from nanokernel_vm.config import parse
from nanokernel_vm.machine import End, Machine
from nanokernel_vm.partition import Outcome
from tests.guests import WINDOW, link, symbols

# Loads five registers from a row of a table, does an OUT, then an IN, then waits.
ACTS = """
main:
    lea table(%rip), %rbp
    mov $512, %ebx
1:  mov (%rbp), %rax
    mov 8(%rbp), %rdi
    mov 16(%rbp), %rsi
    mov 24(%rbp), %rdx
    cmp $0xff, %dl
    je 2f
    outb %al, %dx
    inb %dx, %al
    jmp 3f
2:  testl $1, 32(%rbp)
    jnz 4f
    outb %al, $0xe0
    jmp 3f
4:  outb %al, $0xe1
3:  add $40, %rbp
    dec %ebx
    jnz 1b
    sti
5:  hlt
    jmp 5b
.data
.balign 8
table: .skip 512 * 40
"""
MACHINE = f"""
[machine]
[partition.guest]
pid = 1
base = 0
size = {WINDOW:#x}
kernel = "guest"
interrupts = "{{interrupts}}"
device = [
  {{{{ chip = "pit" }}}}, {{{{ chip = "cmos" }}}}, {{{{ chip = "portb" }}}},
  {{{{ chip = "uart", port = 0x2f8, irq = 3 }}}}{{more}}
]
"""
PIC = ', { chip = "pic" }, { chip = "i8042" }'
PORTS = (*range(0x20, 0x22), *range(0x40, 0x44), 0x60, 0x61, 0x64, 0x70, 0x71, 0xA0)
UART = range(0x2F8, 0x300)
NUMBERS = [
    *(0, 1, 2, 0xFF, 0x100, 0x800, 0x1000, 1 << 21, 1 << 31, (1 << 32) - 1, 1 << 46),
    *(1 << 47, (1 << 47) - 1, END, END * 5 // 2, (1 << 63) - 1, 1 << 63),
    *((1 << 64) - 4096, (1 << 64) - 1),
]


def row(chosen: random.Random) -> tuple[int, ...]:
    """A hypercall, a return, or an access to a device's port."""
    arguments = [
        chosen.choice([*NUMBERS, chosen.getrandbits(64), chosen.getrandbits(12)])
        for _ in range(3)
    ]
    match chosen.randrange(3):
        case 0:
            ends = (Hypercall.SHUT_DOWN, Hypercall.RESTART)
            call = chosen.choice([h for h in Hypercall if h not in ends])
            return (call, *arguments[:2], arguments[2] | 0xFF, 0)
        case 1:
            port = chosen.choice([*PORTS, *UART])
            return (chosen.getrandbits(8), 0, 0, port, 0)
    return (0, 0, 0, 0xFF, chosen.random() < 0.02)


def machine(folder: Path, interrupts: str, seed: int, warp: bool) -> Machine:
    """A machine whose guest is about to do random things."""
    (folder / "guest").write_bytes(link(ACTS))
    registered = interrupts == "registered"
    text = MACHINE.format(interrupts=interrupts, more="" if registered else PIC)
    made = Machine(parse(text, folder / "machine.toml"), warp=warp)
    chosen = random.Random(seed)
    rows = b"".join(struct.pack("<5Q", *row(chosen)) for _ in range(512))
    made.partitions[0].window.write(symbols(ACTS)["table"], rows)
    return made


@pytest.mark.parametrize("interrupts", ["registered", "hardware"])
@pytest.mark.parametrize("seed", range(15))
def test_the_machine_goes_on(tmp_path: Path, interrupts: str, seed: int) -> None:
    made = machine(tmp_path, interrupts, seed, warp=True)
    rounds = iter(range(40))
    made.goal = lambda: next(rounds, None) is None
    timer = threading.Timer(1, made.interrupt)  # if nothing is ever due
    timer.start()
    result = made.run(made.partitions)
    timer.cancel()
    assert isinstance(result, End) or result[1] is Outcome.DEAD
    assert made.partitions[0].clock < END + (1 << 40)


@pytest.mark.parametrize("delay", [1 << 62, (1 << 63) - 1, (1 << 64) - 1])
@pytest.mark.parametrize("warp", [False, True])
def test_a_timer_beyond_all_time(tmp_path: Path, delay: int, warp: bool) -> None:
    """Set again and again, as far as possible from where it last was."""
    source = f"""
main:
    mov $1, %eax
    mov $0x30, %edi
    lea tick(%rip), %rsi
    mov $0xe, %edx
    outb %al, $0xe0
    mov $4, %eax
    xor %edi, %edi
    outb %al, $0xe0
1:  mov $5, %eax
    xor %edi, %edi
    outb %al, $0xe0
    mov $6, %eax
    mov ${delay}, %rdi
    outb %al, $0xe0
    sti
    hlt
    jmp 1b
tick:
    iretq
"""
    (tmp_path / "guest").write_bytes(link(source))
    text = MACHINE.format(interrupts="registered", more="")
    made = Machine(parse(text, tmp_path / "machine.toml"), warp=warp)
    timer = threading.Timer(0.5, made.interrupt)
    timer.start()
    assert made.run(made.partitions) is End.INTERRUPTED
    timer.join()
    assert made.partitions[0].alive
    assert made.partitions[0].clock < END + (1 << 40)
