# SPDX-License-Identifier: GPL-2.0-or-later
import pytest

from tests.unit.stub.conftest import Ask


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"Hgp2.1", b"OK"),
        (b"Hgp2.-1", b"OK"),
        (b"Hgp0.0", b"OK"),
        (b"Hg0", b"OK"),
        (b"Hgp3.1", b"E03"),
        (b"Hgp2.2", b"E03"),
        (b"Hg2", b"E03"),
        (b"Hgp2.x", b"E22"),
        (b"Hg", b"E22"),
        (b"H", b"E22"),
        (b"Hx1", b""),
        (b"Hc-1", b"OK"),
        (b"Hcp-1.-1", b"OK"),
        (b"Hcp2.-1", b"OK"),
        (b"Hcp3.-1", b"E03"),
        (b"Hcp1.2", b"E03"),
        (b"Tp1.1", b"OK"),
        (b"Tp1.2", b"E03"),
        (b"Tp3.1", b"E03"),
        (b"T", b"E22"),
        (b"qC", b"QCp1.1"),
        (b"qfThreadInfo", b"mp1.1,p2.1"),
        (b"qsThreadInfo", b"l"),
        (b"qThreadExtraInfo,p2.1", b"running".hex().encode()),
        (b"qThreadExtraInfo,p2.7", b"E03"),
    ],
)
def test_reply(ask: Ask, request_: bytes, reply: bytes) -> None:
    assert ask(request_) == reply


def test_a_failed_selection_changes_nothing(ask: Ask) -> None:
    ask(b"Hgp2.1")
    ask(b"Hgp3.1")
    assert ask(b"qC") == b"QCp2.1"
