# SPDX-License-Identifier: GPL-2.0-or-later
"""Who holds what, who runs on, who is current, and how a partition is ended."""

from collections.abc import Awaitable, Iterator, Sequence

import pytest

from nanokernel_vm.debug import DebugMachine
from nanokernel_vm.partition import Condition
from stub.conversation import Conversation
from stub.errors import TargetError
from stub.framing import Decoder, Packet, encode
from stub.handlers import PACKETS
from stub.ids import ALL, ThreadId
from stub.outcomes import Work
from stub.stops import Exited, Killed, Signal, Stopped, StopReason
from stub.target import Action
from tests.guests import symbols
from tests.unit.vm.conftest import Build

LOOP = "main: incl %ecx\njmp main"
FAILS = "main: lidt 1f(%rip)\nud2\n1: .word 0\n.quad 0"
ENDS = "main: cli\nhlt"
EVERYTHING = Action(ThreadId(ALL, ALL))


class Debugged:
    """A machine of two programs, and what becomes of it."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self.opened: list[DebugMachine] = []

    def __call__(self, host: str, guest: str) -> DebugMachine:
        self.opened.append(DebugMachine(self._build(host, guest), {}))
        return self.opened[-1]


@pytest.fixture
def debugged(build: Build) -> Iterator[Debugged]:
    debugged = Debugged(build)
    yield debugged
    for machine in debugged.opened:
        machine.interrupt()
        machine.close()


async def resume(debug: DebugMachine, *actions: Action) -> StopReason:
    result = debug.resume(actions)
    return await result if isinstance(result, Awaitable) else result


def held(debug: DebugMachine) -> list[int]:
    return [inferior.pid for inferior in debug.held()]


def clock(debug: DebugMachine, pid: int) -> int:
    return debug.machine.partitions[pid - 1].clock


@pytest.mark.parametrize(
    ("host", "guest", "current", "signal"),
    [
        (LOOP, LOOP, 1, Signal.TRAP),
        (ENDS, LOOP, 2, Signal.TRAP),
        (LOOP, ENDS, 1, Signal.TRAP),
        (FAILS, LOOP, 1, Signal.SEGV),
        (LOOP, FAILS, 2, Signal.SEGV),
        (ENDS, FAILS, 2, Signal.SEGV),
        (FAILS, FAILS, 1, Signal.SEGV),
    ],
)
async def test_who_is_current_is_fixed(
    debugged: Debugged, host: str, guest: str, current: int, signal: int
) -> None:
    """It is who stopped for a reason, else the first: whoever was looked at before."""
    debug = debugged(host, guest)
    for partition, program in zip(debug.machine.partitions, (host, guest), strict=True):
        if program is not LOOP:
            debug.machine.run([partition])
    debug.run_freely()
    for _ in range(3):
        reason = debug.attach()
        assert isinstance(reason, Stopped)
        assert (reason.thread.pid, reason.signal) == (current, signal)
        for pid in held(debug):
            await resume(debug, Action(ThreadId(pid, 1), step=True))
        debug.detach()


async def test_the_end_of_all_is_said(debugged: Debugged) -> None:
    debug = debugged(ENDS, ENDS)
    debug.attach()
    ends = [await resume(debug, EVERYTHING) for _ in range(2)]
    assert ends == [Exited(1), Exited(2)]
    assert held(debug) == []
    assert debug.attach() == Exited(1)
    with pytest.raises(TargetError, match="what is to run has ended"):
        await resume(debug, EVERYTHING)


async def test_who_is_left_runs_on_and_can_be_taken_back(debugged: Debugged) -> None:
    debug = debugged(LOOP, LOOP)
    debug.attach()
    debug.detach(2)
    assert held(debug) == [1]
    still = clock(debug, 1)
    debug.attach(2)
    ran = clock(debug, 2)
    assert held(debug) == [1, 2]
    await resume(debug, Action(ThreadId(2, 1), step=True))
    assert clock(debug, 1) == still
    assert clock(debug, 2) > ran


def test_vkill_ends_at_once(
    debugged: Debugged, caplog: pytest.LogCaptureFixture
) -> None:
    debug = debugged(LOOP, LOOP)
    debug.attach()
    debug.kill(2)
    assert held(debug) == [1]
    assert debug.machine.partitions[1].condition is Condition.SHUT_DOWN
    assert "guest was ended by a debugger: there is still host" in caplog.text
    debug.kill(1)
    assert "host was ended by a debugger: it was the last partition" in caplog.text


async def test_what_monitor_ends_is_held_until_the_client_is_told(
    debugged: Debugged,
) -> None:
    debug = debugged(LOOP, LOOP)
    debug.attach()
    text = debug.monitor(1, "kill guest")
    assert text == "guest is ended\nwhat still runs: host\n"
    assert held(debug) == [1, 2]
    assert await resume(debug, Action(ThreadId(1, ALL))) == Killed(2)
    assert held(debug) == [1]
    assert debug.monitor(1, "kill guest").startswith("guest had ended before\n")
    assert debug.monitor(1, "kill", read_only=True).startswith("kill changes something")
    assert debug.machine.partitions[0].alive


class Line:
    """A client that is all there at once; runs are awaited by the test."""

    def __init__(self, debug: DebugMachine) -> None:
        self.runs: list[Awaitable[StopReason]] = []
        self._sent = bytearray()
        self._debug = debug
        self.talk = Conversation(self, PACKETS.session(debug))
        session = self.talk.session
        self.talk.begin(lambda payload: PACKETS.dispatch(session, payload))

    def write(self, data: bytes) -> None:
        self._sent += data

    def close(self) -> None: ...
    def abort(self) -> None:
        raise AssertionError("hung up on")

    def work(self, work: Work) -> None:
        self.talk.worked(lambda: work.do(work))

    def watch(self, run: Awaitable[StopReason]) -> None:
        self.runs.append(run)

    def interrupt(self) -> None:
        self._debug.interrupt()

    async def ask(self, *payloads: bytes) -> Sequence[bytes]:
        self._sent.clear()
        for payload in payloads:
            self.talk.feed(payload if payload == b"\x03" else encode(payload))
        while self.runs:
            reason = await self.runs.pop()
            self.talk.ran(lambda reason=reason: reason)  # type: ignore[misc]
        events = Decoder().feed(bytes(self._sent))
        return [event.payload for event in events if isinstance(event, Packet)]


async def test_a_plain_client_stepping_what_it_cannot_name_is_answered(
    debugged: Debugged,
) -> None:
    """Hc names what it forgets to know of: no step of that may go round for ever."""
    line = Line(debugged(LOOP, LOOP))
    await line.ask(b"qSupported:multiprocess+", b"Hcp2.1", b"qSupported:xmlRegisters=x")
    assert await line.ask(b"s") == [b"E03"]
    assert (await line.ask(b"Hc0", b"s"))[-1].startswith(b"T05thread:1;")


async def test_a_plain_client_goes_on_over_the_ends_of_others(
    debugged: Debugged,
) -> None:
    line = Line(debugged(LOOP, FAILS))
    assert (await line.ask(b"Z0,0,1", b"?"))[-1].startswith(b"T")
    line = Line(debugged(LOOP, ENDS))
    (stop,) = await line.ask(b"?")
    assert stop.startswith(b"T05thread:1;")
    line.talk.feed(encode(b"c"))
    run = line.runs.pop()
    reason = await run
    assert reason == Exited(2)
    line.talk.ran(lambda: reason)
    assert len(line.runs) == 1  # it goes on
    assert (await line.ask(b"\x03"))[-1].startswith(b"T02thread:1;")


SHORT = [b"vCont;s:p1.1", b"vCont;r0,ffffffff:p1.1", b"vCont;c:p1.-1", b"s"]


@pytest.mark.parametrize("run", SHORT)
async def test_an_interrupt_is_never_lost_whenever_it_comes(
    debugged: Debugged, run: bytes
) -> None:
    """Before, during and after runs that end by themselves, for every place of it."""
    line = Line(debugged(LOOP, LOOP))
    await line.ask(b"qSupported:multiprocess+;swbreak+", b"QStartNoAckMode")
    assert await line.ask(b"Z0,%x,1" % symbols(LOOP)["main"]) == [b"OK"]
    packets = [run, b"g", run, b"p10", run]
    for before in range(len(packets)):
        with_it = [*packets[:before], b"\x03", *packets[before:], run, run]
        heard = await line.ask(*with_it)
        stops = [reply[:3] for reply in heard if reply.startswith(b"T")]
        assert stops.count(b"T02") == 1, (before, stops)
