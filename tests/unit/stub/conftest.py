# SPDX-License-Identifier: GPL-2.0-or-later
from collections.abc import Callable

import pytest

from stub.errors import StubError, error_reply
from stub.handlers import PACKETS
from stub.outcomes import Outcome, Work
from stub.session import Session
from tests.fakes import MonitoredMachine, two_partitions

Ask = Callable[[bytes], Outcome]
GDB = (
    b"qSupported:multiprocess+;swbreak+;hwbreak+;exec-events+;vContSupported+"
    b";xmlRegisters=i386"
)


def done(session: Session, payload: bytes) -> Outcome:
    """Answer one packet; work that takes longer, too, if one reply comes of it."""
    outcome = PACKETS.dispatch(session, payload)
    if not isinstance(outcome, Work):
        return outcome
    try:
        (reply,) = outcome.do(outcome)
    except StubError as error:
        return error_reply(error, text=session.has("error-message"))
    return reply


@pytest.fixture
def machine() -> MonitoredMachine:
    return two_partitions()


@pytest.fixture
def ask(machine: MonitoredMachine) -> Ask:
    """Give a session with a client like gdb 13; unlike ``plain``, of processes."""
    session = PACKETS.session(machine)
    PACKETS.dispatch(session, GDB)
    return lambda payload: done(session, payload)


@pytest.fixture
def plain(machine: MonitoredMachine) -> Ask:
    """Give a session with a client that announced nothing."""
    session = PACKETS.session(machine)
    return lambda payload: PACKETS.dispatch(session, payload)
