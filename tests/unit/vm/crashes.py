# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways to make the emulator die at a label ``here`` of a tiny guest, and where from.

No defect is built in for this: memory is taken away under the engine, or a hook is the
address of something that must not be called.
"""

import ctypes
import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from elftools.elf.elffile import ELFFile
from unicorn import unicorn_const as k
from unicorn.unicorn_py3.unicorn import uclib

from nanokernel_vm.cpu.engine import Engine
from nanokernel_vm.memory import Window
from tests.guests import Tiny

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_MAP_FIXED = 0x10
PAGE = 0x1000
TAKE = 0xF6  # a write to this port takes the memory away
LOCK_BTS = bytes.fromhex("f0 0f ab e3")


class Victim(Protocol):
    """A partition with labels."""

    @property
    def window(self) -> Window: ...
    @property
    def engine(self) -> Engine: ...
    def label(self, name: str) -> int:
        """Physical address of a label."""


def protect(guest: Victim, label: str, protection: int) -> None:
    """Change what this process may do with the guest's page of a label."""
    address = guest.window.ram.pointer + (guest.label(label) & -PAGE)
    done = _LIBC.mprotect(ctypes.c_void_p(address), PAGE, protection)
    assert done == 0, os.strerror(ctypes.get_errno())


def _map(guest: Victim, flags: int, descriptor: int) -> None:
    """Map something else in the place of the guest's page of data."""
    address = guest.window.ram.pointer + (guest.label("data") & -PAGE)
    found = _LIBC.mmap(
        *(ctypes.c_void_p(address), ctypes.c_size_t(PAGE)),
        *(mmap.PROT_READ | mmap.PROT_WRITE, flags | _MAP_FIXED),
        *(descriptor, ctypes.c_long(0)),
    )
    assert found == address


def _map_nothing(guest: Victim) -> None:
    """A page of a file that has none: a bus error."""
    descriptor = os.memfd_create("nothing")
    _map(guest, mmap.MAP_SHARED, descriptor)
    os.close(descriptor)


def give_back(guest: Victim) -> None:
    """A page of data, where one may have been taken away."""
    _map(guest, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1)


def hook(engine: Engine, function: int, va: int) -> None:
    """Call ``function`` before the instruction at ``va``."""
    engine._hook(k.UC_HOOK_CODE, function, 0).arm(va, va)


def address(function: object) -> int:
    """Where a function of a library begins."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]


def linked(name: str) -> int:
    """What libunicorn's linkage table has for a function of the C library."""
    with Path(uclib._name).open("rb") as file:
        elf = ELFFile(file)
        rows, symbols, strings = (
            section.data()
            for name_ in (".rela.plt", ".dynsym", ".dynstr")
            if (section := elf.get_section_by_name(name_)) is not None
        )

    def called(number: int, text: str) -> bool:
        (start,) = struct.unpack_from("<I", symbols, 24 * number)
        return bool(strings.startswith(text.encode() + b"\0", start))

    known = next(n for n in range(len(symbols) // 24) if called(n, "uc_version"))
    base = (
        address(uclib.uc_version) - struct.unpack_from("<8xQ", symbols, 24 * known)[0]
    )
    offset = next(
        offset
        for offset, info, _ in struct.iter_unpack("<QQq", rows)
        if called(info >> 32, name)
    )
    return ctypes.c_uint64.from_address(base + offset).value


@dataclass(frozen=True, slots=True)
class Way:
    """A way to die.

    Attributes:
        body: What the guest executes, from the label before ``here`` on.
        cause: What the crash must be put down to.
        translating: Whether it is found in translation.
        place: What the crash's place must name.
        arrange: Done before the guest runs.
        take: Done by the guest's OUT to TAKE.
    """

    body: str
    cause: str
    translating: bool
    place: str
    arrange: Callable[[Victim], None] = lambda _: None
    take: Callable[[Victim], None] = lambda _: None


def _lenient(guest: Victim) -> None:
    guest.engine.core.lenient = True


def _call_nothing(guest: Victim) -> None:
    hook(guest.engine, 0, guest.label("here"))


def _take_data(guest: Victim) -> None:
    protect(guest, "data", 0)


def _take_code(guest: Victim) -> None:
    """Until the engine has died of it: the crash's text shows the code, too."""
    protect(guest, "far", 0)
    replace = guest.engine._replace

    def give_back() -> None:
        protect(guest, "far", mmap.PROT_READ | mmap.PROT_WRITE)
        replace()

    guest.engine._replace = give_back  # type: ignore[method-assign]


_TOUCH_FIRST = f"""
    mov data(%rip), %eax
    out %al, ${TAKE}
taken:
    inc %ebx
here:
    mov data(%rip), %eax"""
WAYS = {
    "abort in translation": Way(
        "inc %ebx\nhere: .byte 0xf0, 0x0f, 0xab, 0xe3\nnop",
        *("abort()", True, "libunicorn", _lenient),
    ),
    "fault of made code": Way(
        _TOUCH_FIRST, "SIGSEGV", False, "code made", take=_take_data
    ),
    "bus error of made code": Way(
        _TOUCH_FIRST, "SIGBUS", False, "code made", take=_map_nothing
    ),
    **{
        f"fault of a helper: {name}": Way(
            f"out %al, ${TAKE}\ntaken: inc %ebx\nhere: {instruction}\nnop",
            *("SIGSEGV", False, "libunicorn"),
            take=_take_data,
        )
        for name, instruction in {
            "load": "mov data(%rip), %eax",
            "store": "mov %eax, data(%rip)",
            "exchange": "lock xadd %eax, data(%rip)",
            "fxsave": "fxsave data(%rip)",
        }.items()
    },
    "fault in translation": Way(
        f"out %al, ${TAKE}\ntaken: inc %ebx\njmp far\n.p2align 12\nfar: here: nop",
        *("SIGSEGV", True, "libunicorn"),
        take=_take_code,
    ),
    "call of nothing": Way(
        "inc %ebx\nhere: nop", "SIGSEGV", False, "code made", _call_nothing
    ),
}
SOURCE = """
main:
    mov $0x1234, %rcx
    xor %ebx, %ebx
{body}
after:
    report $7
    die
.data
.p2align 12
data: .quad 5
.p2align 12
"""


def doomed(way: Way) -> Tiny:
    """A guest that is about to die that way."""
    guest = Tiny(SOURCE.format(body=way.body))
    guest.ports.actions[TAKE] = lambda: way.take(guest)
    way.arrange(guest)
    return guest
