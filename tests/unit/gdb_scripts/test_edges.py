# SPDX-License-Identifier: GPL-2.0-or-later
"""The first and the last instructions of the kernel, byte by byte."""

from struct import pack

import pytest
from nk.callers import GENERAL, HARDWARE
from nk.edges import after_return, before_syscall

CODE, STACK, SAVED, PER_CPU = 0x1000, 0x2000, 0x3000, 0x10_0000
USER = {"rip": 0x40_1000, "cs": 0x33, "eflags": 0x246, "rsp": 0x7FFD_0000, "ss": 0x2B}
LIVE = {name: 1000 + n for n, name in enumerate(GENERAL)}
LIVE |= {"cs": 0x10, "ss": 0x18, "eflags": 2, "gs_base": PER_CPU}
SYSRET = "ff 77 28  ff 37  5f  5c  0f 01 f8  eb 07 0f 00 2d 00 00 00 00  48 0f 07"
IRET = "ff 77 30  ff 77 28  ff 77 20  ff 77 18  ff 77 10  ff 37  50  eb 01 cc 58  5f"
IRET += " 0f 01 f8  e9 01 00 00 00 cc  48 cf"


def memory(regions: dict[int, bytes]):  # type: ignore[no-untyped-def]
    def read(addr: int, length: int) -> bytes:
        start = max(place for place in regions if place <= addr)
        return regions[start][addr - start : addr - start + length]

    return read


# With page table isolation: rax is a scratch register, too, and popped again
NO_PCID = "50 66 90 0f 20 df eb 34" + "cc" * 0x34
PCID = """
    50 66 90 0f 20 df 48 89 f8 48 81 e7 ff 07 00 00 65 48 0f a3 3c 25 56 15 03 00 73 0f
    65 48 0f b3 3c 25 56 15 03 00 48 89 c7 eb 08 48 89 c7 48 0f ba ef 3f
    48 81 cf 00 08 00 00"""
TO_USER = " 48 81 cf 00 10 00 00 0f 22 df 58 "
ISOLATED = "ff 77 28 ff 37 {} 5f 5c 0f 01 f8 66 90 0f 00 2d 19 fe ff ff 48 0f 07"
ISOLATED_IRET = """
    ff 77 30 ff 77 28 ff 77 20 ff 77 18 ff 77 10 ff 37 {} 5f 0f 01 f8
    0f 1f 44 00 00 66 0f 1f 44 00 00 f6 44 24 20 04 75 02 48 cf"""
WAYS = {
    "sysretq": SYSRET,
    "iretq": IRET,
    "isolated sysretq": ISOLATED.format(NO_PCID + TO_USER),
    "isolated sysretq with PCID": ISOLATED.format(PCID + TO_USER),
    "isolated iretq": ISOLATED_IRET.format(NO_PCID + TO_USER),
    "isolated iretq with PCID": ISOLATED_IRET.format(PCID + TO_USER),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_way_out_leads_to_what_was_saved(way: str) -> None:
    """Executed by hand here: what each leaves for those behind it to do."""
    code = bytes.fromhex(way)
    # orig_rax is behind rdi in pt_regs, where pop rdi would be
    pt_regs = [LIVE["rdi"], 77, *(USER[name] for name in HARDWARE)]
    read = memory({CODE: code + bytes(32), SAVED: pack("<7Q", *pt_regs)})
    live = LIVE | {"rcx": USER["rip"], "r11": USER["eflags"]}
    registers = live | {"rip": CODE, "rsp": STACK, "rdi": SAVED}
    found = after_return(registers.__getitem__, read)
    assert found is not None
    assert {name: found[name] for name in USER} == USER
    kept = {name: live[name] for name in GENERAL}
    assert {name: found[name] for name in GENERAL} == kept


def test_half_way_the_stack_has_it() -> None:
    code = bytes.fromhex("5f 5c 0f 01 f8 48 0f 07") + bytes(32)
    stack = pack("<2Q", 5, USER["rsp"])
    read = memory({CODE: code, STACK: stack})
    registers = LIVE | {"rip": CODE, "rsp": STACK, "rcx": 3, "r11": 4}
    found = after_return(registers.__getitem__, read)
    assert found is not None
    names = ("rip", "eflags", "rdi", "rsp")
    assert [found[name] for name in names] == [3, 4, 5, USER["rsp"]]


def test_what_does_not_lead_out_has_no_caller() -> None:
    for code in ("90 90 e8 00 00 00 00", "eb fe", "0f 22 d8 48 cf"):
        read = memory({CODE: bytes.fromhex(code) + bytes(32)})
        registers = LIVE | {"rip": CODE, "rsp": STACK}
        assert after_return(registers.__getitem__, read) is None


@pytest.mark.parametrize(
    ("code", "rsp"),
    [
        ("", STACK),
        ("0f 01 f8", STACK),
        ("0f 01 f8 65 48 89 24 25 14 60 00 00", 0x7FFD_0000),  # mov %rsp,%gs:0x6014
        ("0f 01 f8 48 89 24 25 14 60 10 00 6a 2b", 0x7FFD_0000),  # mov %rsp,0x106014
    ],
)
def test_before_the_frame_is_built(code: str, rsp: int) -> None:
    read = memory({PER_CPU + 0x6014: pack("<Q", 0x7FFD_0000)})
    registers = LIVE | {"rsp": STACK, "rcx": 0x40_1000, "r11": 0x246}
    found = before_syscall(bytes.fromhex(code), registers.__getitem__, read)
    assert {name: found[name] for name in USER} == USER | {"rsp": rsp}
    assert found["rdi"] == LIVE["rdi"]
