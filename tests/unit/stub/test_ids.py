# SPDX-License-Identifier: GPL-2.0-or-later
import pytest

from stub.errors import ProtocolError
from stub.ids import ALL, ANY, ThreadId


@pytest.mark.parametrize(
    ("text", "thread"),
    [
        (b"p1.2", ThreadId(1, 2)),
        (b"p1f.aB", ThreadId(0x1F, 0xAB)),
        (b"p2", ThreadId(2, ALL)),
        (b"p2.-1", ThreadId(2, ALL)),
        (b"p0.0", ThreadId(ANY, ANY)),
        (b"p-1.-1", ThreadId(ALL, ALL)),
        (b"p-1", ThreadId(ALL, ALL)),
        (b"1", ThreadId(ANY, 1)),
        (b"-1", ThreadId(ANY, ALL)),
    ],
)
def test_parse(text: bytes, thread: ThreadId) -> None:
    assert ThreadId.parse(text) == thread


@pytest.mark.parametrize(
    "text", [b"", b"p", b"p1.", b"x", b"p-1.1", b"p-2.1", b"1.1", b"p1.1 ", b"-"]
)
def test_what_is_no_thread_id_is_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        ThreadId.parse(text)


def test_both_forms_are_hexadecimal() -> None:
    assert (str(ThreadId(17, 26)), ThreadId(17, 26).plain()) == ("p11.1a", "1a")
    assert str(ThreadId(ALL, ALL)) == "p-1.-1"
