# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a function's arguments are when it is entered (System V psABI, section 3.2.3).

The kernel passes no floating point, so that of the classes only INTEGER and MEMORY
are left: up to two eightbytes go to registers, all else to the stack.
"""

from nanokernel_vm.linux.btf import Btf, Kind, Type
from nanokernel_vm.linux.leb128 import uleb

# DWARF numbers of rdi, rsi, rdx, rcx, r8, r9.
_REGISTERS = (5, 4, 1, 2, 8, 9)

_OP_REG, _OP_PIECE, _OP_CALL_FRAME_CFA, _OP_PLUS_UCONST = 0x50, 0x93, 0x9C, 0x23
_SCALAR = (Kind.INT, Kind.PTR, Kind.ENUM, Kind.ENUM64)
_RECORD = (Kind.STRUCT, Kind.UNION)
_WORD = 8


def locations(btf: Btf, prototype: Type) -> list[bytes | None]:
    """Return a DWARF expression for each row of a FUNC_PROTO.

    None where the rules above do not tell, and for all arguments behind it.
    """
    free, stacked = list(_REGISTERS), 0
    places: list[bytes | None] = []
    for _, argument in prototype.rows:
        words = _words(btf, argument)
        if not words:
            break
        if words <= min(len(free), 2):
            places.append(_in_registers([free.pop(0) for _ in range(words)]))
        else:
            places.append(_on_stack(stacked))
            stacked += words * _WORD
    return places + [None] * (len(prototype.rows) - len(places))


def _words(btf: Btf, argument: int) -> int:
    """Return how many eightbytes an argument takes, 0 if that is not clear."""
    size = btf.size(argument)
    kind = btf.strip(argument).kind
    if (kind in _SCALAR and size <= _WORD) or kind in _RECORD:
        return -(-size // _WORD)
    return 0  # ..., and __int128 with its alignment


def _in_registers(registers: list[int]) -> bytes:
    if len(registers) == 1:
        return bytes((_OP_REG + registers[0],))
    return b"".join(
        bytes((_OP_REG + register, _OP_PIECE, _WORD)) for register in registers
    )


def _on_stack(offset: int) -> bytes:
    """Arguments lie above the return address, which is where the CFA is."""
    return bytes((_OP_CALL_FRAME_CFA, _OP_PLUS_UCONST)) + uleb(offset)
