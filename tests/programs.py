# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of tests/boot/programs that need no library."""

import subprocess
from pathlib import Path

PROGRAMS = Path(__file__).parent / "boot/programs"
_GCC = ("gcc", "-Wall", "-Wextra", "-Werror", "-O1", "-static", "-nostdlib")
_BARE = ("-ffreestanding", "-fno-stack-protector", "-fno-pic", "-no-pie", "-s")


def compile_bare(program: Path, *arguments: str | Path) -> None:
    """Make a program of nothing but its own sources."""
    subprocess.check_call([*_GCC, *_BARE, "-o", program, *arguments])


def executor(program: Path, slots: str, displacement: int = 0) -> None:
    """Make promises.c for these slots, whose operands lie there in a page."""
    source = program.with_suffix(".s")
    source.write_text(
        f"""
        .globl slots, slots_end, displacement
        .set displacement, {displacement}
        .text
        .balign 32
slots:  {slots}
slots_end:
mxcsr:  .long 0x1f80
        .section .note.GNU-stack, "", @progbits
        """
    )
    flag = "-mgeneral-regs-only"
    compile_bare(program, flag, PROGRAMS / "promises.c", source)
