# SPDX-License-Identifier: GPL-2.0-or-later
"""One client's view of the machine: what it selected, what it may see.

Plain calls only: nothing here waits, and nothing knows a socket.

The machine is stopped (``Machine.attach``) when a packet first needs a target,
not when a client connects, so that a mere probe of the port disturbs nothing.
From then on the inferiors are those of the last stop: gdb 13 aborts if the
list of threads grows while it connects.
"""

from collections.abc import Sequence
from enum import Enum
from functools import cache
from io import FileIO

from stub import stops
from stub.errors import Errno, TargetError
from stub.framing import MAX_PACKET
from stub.ids import ALL, ANY, ThreadId
from stub.stops import Exited, Signal, Stopped, StopReason
from stub.target import Inferior, Machine


class _Attachment(Enum):
    """What this client has to do with the machine."""

    NOT_YET = "attaches when first needed"
    HOLDS = "has stopped what it holds"
    LEFT = "detached from all; attaches only when asked to"


class Session:
    """State between a client's packets.

    Attributes:
        machine: What is debugged; it knows which inferiors this client holds.
        read_only: Whether the client may only look.
        offers: Words for qSupported that are implemented.
        no_ack: Whether ``+`` and ``-`` have been switched off.
        features: Names the client announced.
        follows_one: The client can name processes but make sense of one only (lldb).
        resuming: Threads that ``c`` and ``s`` are about (``Hc``).
        files: Open files by descriptor (``vFile``).
        reads_files: Whether the client reads symbols from here (``vFile``).
        named: The inferior whose symbols the client has asked for first.
        max_packet: Longest packet, escapes counted.
    """

    max_packet = MAX_PACKET

    def __init__(self, machine: Machine, *, read_only: bool = False) -> None:
        self.machine = machine
        self.read_only = read_only
        self.offers: tuple[str, ...] = ()
        self.no_ack = False
        self.features: frozenset[str] = frozenset()
        self.follows_one = False
        self._general = ThreadId(ANY, ANY)
        self.resuming = ThreadId(ALL, ALL)
        self.files: dict[int, FileIO] = {}
        self.reads_files = False
        self.named: int | None = None
        self._state = _Attachment.NOT_YET
        self._stop: StopReason | None = None
        self._killed: int | None = None

    def has(self, feature: str) -> bool:
        """Whether the client announced ``feature``."""
        return feature in self.features

    @property
    def holds(self) -> bool:
        """Whether this client has stopped the machine and not left it."""
        return self._state is _Attachment.HOLDS

    @property
    def inferiors(self) -> Sequence[Inferior]:
        """Held inferiors the client can name: only one without multiprocess."""
        return tuple(i for i in self._held() if self._nameable(i.pid))

    def _held(self) -> Sequence[Inferior]:
        self._attach_if_new()
        return self.machine.held() if self.holds else ()

    def _nameable(self, pid: int) -> bool:
        every = self.has("multiprocess") and not self.follows_one
        return every or pid == self._general.pid

    @property
    def general(self) -> ThreadId:
        """The selected thread: ``g``, ``m`` and their like are about it (``Hg``)."""
        self._attach_if_new()
        return self._general

    @general.setter
    def general(self, thread: ThreadId) -> None:
        self._general = thread

    @property
    def inferior(self) -> Inferior:
        """The selected inferior."""
        for inferior in self._held():
            if inferior.pid == self._general.pid:
                return inferior
        raise TargetError(Errno.ESRCH, "no inferior is selected")

    def find(self, pid: int) -> Inferior:
        """Return a held inferior by pid; ``ANY`` and ``ALL`` are the selected."""
        if pid in (ANY, ALL):
            return self.inferior
        for inferior in self.inferiors:
            if inferior.pid == pid:
                return inferior
        raise TargetError(Errno.ESRCH, f"no inferior {pid}")

    def thread(self, wanted: ThreadId) -> ThreadId:
        """Return one existing thread that ``wanted`` names, or raise TargetError."""
        inferior = self.find(wanted.pid)
        for thread in inferior.threads():
            candidate = ThreadId(inferior.pid, thread.tid)
            if wanted.tid in (ANY, ALL, thread.tid):
                return candidate
        raise TargetError(Errno.ESRCH, f"no thread {wanted}")

    def show(self, thread: ThreadId) -> str:
        """Write a thread id the way the client knows it."""
        return str(thread) if self.has("multiprocess") else thread.plain()

    def resolve(self, wanted: type) -> object | None:
        """Return what a handler asks for as its target, None if there is none."""
        if wanted is Inferior:
            return self.inferior
        if wanted is Machine or _implements(type(self.machine), wanted):
            return self.machine
        inferior = self.inferior
        return inferior if _implements(type(inferior), wanted) else None

    def supports(self, wanted: type) -> bool:
        """Whether ``resolve`` can ever find one; stops nothing."""
        candidates: list[Machine | Inferior] = [self.machine, *self.machine.inferiors()]
        return wanted in (Inferior, Machine) or any(
            _implements(type(candidate), wanted) for candidate in candidates
        )

    def attach(self, pid: int) -> bytes:
        """Take (back) one inferior; return its stop reply."""
        if all(i.pid != pid or not i.alive for i in self.machine.inferiors()):
            raise TargetError(Errno.ESRCH, f"no inferior {pid}")
        self.machine.attach(pid)
        self._state = _Attachment.HOLDS
        self._general = self._first_thread(
            next(i for i in self._held() if i.pid == pid)
        )
        self._stop = Stopped(self._general, Signal.NONE)
        return self.stop_reply()

    def stop_reply(self) -> bytes:
        """Encode the last stop, or where the client can look if it is no more."""
        self._select_any()
        stop, held = self._stop, {inferior.pid for inferior in self._held()}
        if not isinstance(stop, Stopped) or stop.thread.pid not in held:
            lives = self._general.pid in held
            stop = Stopped(self._general) if lives else _end(self._general.pid)
        return stops.encode(stop, self.features)

    def stopped(self, reason: StopReason) -> bytes:
        """Take over the end of a run; return the reply that reports it."""
        self._take(reason)
        return stops.encode(reason, self.features)

    def interrupted(self, wanted: ThreadId) -> Stopped:
        """The stop of a run of ``wanted`` that a pending interrupt has kept still."""
        concrete = wanted.pid not in (ANY, ALL)
        return Stopped(self.thread(wanted if concrete else self.general), Signal.INT)

    def concerns(self, reason: StopReason) -> bool:
        """Whether the client can make sense of ``reason``.

        One that knows a single process would take the end of any for its own.
        """
        return self._nameable(stops.pid_of(reason))

    def detach(self, pid: int) -> None:
        """Leave one inferior, which runs on; with the last one, leave the machine."""
        self.machine.detach(self.find(pid).pid)
        self._dropped()

    def kill(self, pid: int) -> None:
        """End one partition for good."""
        pid = self.find(pid).pid
        self.machine.kill(pid)
        self._killed = pid
        self._dropped()

    def to_start(self, name: str) -> int:
        """Whom ``run`` means: by name or file, else the last one killed or selected."""
        every = self.machine.inferiors()
        if not name:
            last = self._general.pid if self._killed is None else self._killed
            return last if any(i.pid == last for i in every) else every[0].pid
        for inferior in every:
            if name in (inferior.name, inferior.exec_file):
                return inferior.pid
        names = ", ".join(inferior.name for inferior in every)
        raise TargetError(
            Errno.ENOENT,
            f"nothing called {name[:80]} can be started here, only {names}"
            " (set remote exec-file)",
        )

    def started(self, reason: StopReason) -> bytes:
        """Take over what was switched on for the client; return its stop reply."""
        self._state, self._killed = _Attachment.HOLDS, None
        return self.stopped(reason)

    def leave(self) -> None:
        """Let everything run on without a client."""
        if self.holds:
            self._state = _Attachment.LEFT
            self.machine.detach(None)

    def close(self, *, run_on: bool = True) -> None:
        """End the session: leave the machine and let go of everything."""
        if run_on:
            self.leave()
        for file in self.files.values():
            file.close()
        self.files.clear()

    def _attach_if_new(self) -> None:
        if self._state is _Attachment.NOT_YET:
            self._state = _Attachment.HOLDS
            self._take(self.machine.attach())

    def _take(self, reason: StopReason) -> None:
        self._stop = reason
        if isinstance(reason, Stopped):
            self._general = reason.thread
        self._select_any()

    def _dropped(self) -> None:
        if self._held():
            self._select_any()
        else:
            self.leave()

    def _select_any(self) -> None:
        """See to it that the selected inferior is one that is held, if there is one."""
        held = self._held()
        if held and all(i.pid != self._general.pid for i in held):
            self._general = self._first_thread(held[0])

    @staticmethod
    def _first_thread(inferior: Inferior) -> ThreadId:
        return ThreadId(inferior.pid, inferior.threads()[0].tid)


def _end(pid: int) -> Exited:
    return Exited(max(pid, 1))


@cache
def _implements(type_: type, protocol: type) -> bool:
    return issubclass(type_, protocol)
