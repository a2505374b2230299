# SPDX-License-Identifier: GPL-2.0-or-later
from collections.abc import Callable

import pytest

from stub.handlers import PACKETS
from stub.outcomes import Outcome
from tests.fakes import MonitoredMachine, two_partitions

Ask = Callable[[bytes], Outcome]
GDB = b"qSupported:multiprocess+;swbreak+;hwbreak+;exec-events+;xmlRegisters=i386"


@pytest.fixture
def machine() -> MonitoredMachine:
    return two_partitions()


@pytest.fixture
def ask(machine: MonitoredMachine) -> Ask:
    """Give a session with a client like gdb 13; unlike ``plain``, of processes."""
    session = PACKETS.session(machine)
    PACKETS.dispatch(session, GDB)
    return lambda payload: PACKETS.dispatch(session, payload)


@pytest.fixture
def plain(machine: MonitoredMachine) -> Ask:
    """Give a session with a client that announced nothing."""
    session = PACKETS.session(machine)
    return lambda payload: PACKETS.dispatch(session, payload)
