# SPDX-License-Identifier: GPL-2.0-or-later
from xml.etree import ElementTree

from stub import amd64


def test_the_layout_begins_as_gdb_knows_it() -> None:
    # gdb refuses more than this for an inferior it has no description of
    # ("expected 560 bytes"); offsets are those of gdb/features/i386/64bit-*.xml.
    assert amd64.GENERAL_SIZE == 560
    offsets = {"rax": 0, "rsp": 56, "rip": 128, "eflags": 136, "gs": 160, "st0": 164}
    offsets |= {"fctrl": 244, "xmm0": 276, "mxcsr": 532}
    assert {name: amd64.BY_NAME[name].offset for name in offsets} == offsets
    assert amd64.PC == 16


def test_registers_lie_side_by_side() -> None:
    position = 0
    for number, register in enumerate(amd64.REGISTERS):
        assert (register.number, register.offset) == (number, position)
        position += register.size
    assert position == amd64.SIZE


def test_the_description_says_what_the_table_says() -> None:
    target = ElementTree.fromstring(amd64.description())
    rows = [
        (r.get("name"), r.get("bitsize"), r.get("regnum")) for r in target.iter("reg")
    ]
    assert rows == [(r.name, str(r.bits), str(r.number)) for r in amd64.REGISTERS]


def test_every_type_used_is_declared_or_known_to_gdb() -> None:
    known = {"int", "int32", "int64", "uint32", "data_ptr", "code_ptr", "i387_ext"}
    for feature in ElementTree.fromstring(amd64.description()).iter("feature"):
        declared = {
            e.get("id") for e in feature if e.tag in ("flags", "union", "vector")
        }
        used = {register.get("type") for register in feature.iter("reg")}
        assert used <= known | declared
