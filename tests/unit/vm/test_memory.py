# SPDX-License-Identifier: GPL-2.0-or-later
import ctypes
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanokernel_vm.errors import LoadError
from nanokernel_vm.memory import Ram, Window

RAM = Ram(0x6000)
WINDOW = Window(RAM, 0x2000, 0x2000)
ADDRESSES = st.integers(0, 0x8000)


@given(ADDRESSES, st.binary(max_size=0x3000))
def test_what_is_written_is_read_back_and_the_rest_vanishes(
    pa: int, data: bytes
) -> None:
    RAM.view[:] = bytes(len(RAM.view))
    WINDOW.write(pa, data)
    inside = [a in WINDOW for a in range(pa, pa + len(data))]
    expected = bytes(b if i else 0xFF for b, i in zip(data, inside, strict=True))
    assert WINDOW.read(pa, len(data)) == expected
    assert not any(RAM.view[:0x2000])
    assert not any(RAM.view[0x4000:])


@given(ADDRESSES)
def test_a_word_is_eight_bytes(pa: int) -> None:
    pa &= ~7
    RAM.view[:] = bytes(n * 7 & 0xFF for n in range(len(RAM.view)))
    assert WINDOW.word(pa) == int.from_bytes(WINDOW.read(pa, 8), "little")


@pytest.mark.parametrize(
    ("pa", "inside"), [(0x1FFF, False), (0x2000, True), (0x3FFF, True), (0x4000, False)]
)
def test_a_window_has_its_own_bytes(pa: int, inside: bool) -> None:
    assert (pa in WINDOW) is inside


def test_the_digest_is_of_the_window_alone() -> None:
    WINDOW.write(0x2000, bytes(0x2000))
    before = WINDOW.digest()
    assert before == hashlib.sha256(bytes(0x2000)).hexdigest()
    RAM.view[0x1FFF] ^= 1
    RAM.view[0x4000] ^= 1
    assert WINDOW.digest() == before
    RAM.view[0x3FFF] ^= 1
    assert WINDOW.digest() != before


def test_the_pointer_is_where_the_bytes_are() -> None:
    RAM.view[0x123] = 0xA5
    assert ctypes.c_uint8.from_address(RAM.pointer + 0x123).value == 0xA5


def test_more_memory_than_there_is() -> None:
    with pytest.raises(LoadError, match="no room for a machine of"):
        Ram(1 << 60)
