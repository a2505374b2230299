# SPDX-License-Identifier: GPL-2.0-or-later
import pytest

from stub.dispatch import PacketTable, name_of, packet
from stub.ids import ThreadId
from stub.session import Session
from stub.target import Inferior, SupportsMonitor
from tests.fakes import FakeInferior, FakeMachine, two_partitions


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        (b"", b""),
        (b"?", b"?"),
        (b"m10,4", b"m"),
        (b"qC", b"qC"),
        (b"qCRC:0,1", b"qCRC"),
        (b"vCont?", b"vCont?"),
        (b"vCont;c", b"vCont"),
        (b"qXfer:features:read:target.xml:0,1", b"qXfer:features:read"),
        (b"qSearch:memory:0;1;x", b"qSearch:memory"),
        (b"vFile:open:2f,0,0", b"vFile:open"),
        (b"qRcmd,00", b"qRcmd"),
        (b"\xff\n", b"\xff"),
    ],
)
def test_name_of(payload: bytes, name: bytes) -> None:
    assert name_of(payload) == name


@packet("e{addr:x}[,{data:hex}]:{rest:raw}")
def echo(session: Session, addr: int, data: bytes | None, rest: bytes) -> bytes:
    return repr((addr, data, rest)).encode()


@packet("t{thread:thread}")
def thread(session: Session, thread: ThreadId) -> bytes:
    return str(thread).encode()


@packet("i", features=["inferior+"])
def inferior(session: Session, target: Inferior) -> bytes:
    return target.name.encode()


@packet("o", features=["monitor+"])
def optional(session: Session, target: SupportsMonitor) -> bytes:
    return b"there"


TABLE = PacketTable([echo, thread, inferior, optional])


@pytest.mark.parametrize(
    ("payload", "reply"),
    [
        (b"eFf,0aff:z\n#", b"(255, b'\\n\\xff', b'z\\n#')"),
        (b"e1:", b"(1, None, b'')"),
        (b"e1,0:", b"E22"),  # half a byte
        (b"e:", b"E22"),
        (b"e11111111111111111:", b"E22"),  # more than 64 bits
        (b"tp1.1", b"p1.1"),
        (b"tp-1.1", b"E22"),
        (b"i", b"host"),
        (b"ix", b"E22"),
        (b"u", b""),
        (b"", b""),
    ],
)
def test_dispatch(payload: bytes, reply: bytes) -> None:
    session = TABLE.session(two_partitions())
    assert TABLE.dispatch(session, payload) == reply


def test_a_missing_capability_is_neither_served_nor_announced() -> None:
    with_, without = two_partitions(), FakeMachine(FakeInferior(1))
    assert TABLE.session(with_).offers == ("inferior+", "monitor+")
    assert TABLE.session(without).offers == ("inferior+",)
    assert TABLE.dispatch(TABLE.session(without), b"o") == b""


def test_a_signature_must_fit_its_template() -> None:
    with pytest.raises(TypeError):

        @packet("w{addr:x}")
        def wrong_name(session: Session, address: int) -> bytes:
            return b""

    with pytest.raises(TypeError):

        @packet("w{addr:x}")
        def wrong_type(session: Session, addr: bytes) -> bytes:
            return b""


def test_two_rows_of_one_name_are_refused() -> None:
    with pytest.raises(TypeError):
        PacketTable([thread, thread])


def test_a_bug_is_not_turned_into_a_reply() -> None:
    @packet("b")
    def bug(session: Session) -> bytes:
        raise RuntimeError

    table = PacketTable([bug])
    with pytest.raises(RuntimeError):
        table.dispatch(table.session(two_partitions()), b"b")
