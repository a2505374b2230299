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
from stub.stops import Exited, Stopped, StopReason
from stub.target import Inferior, Machine


class _Attachment(Enum):
    """Whether this client holds the machine."""

    NOT_YET = "attaches when first needed"
    HELD = "holds at least one inferior"
    LEFT = "detached from all; attaches only when asked to"


class Session:
    """State between a client's packets.

    Attributes:
        machine: What is debugged.
        offers: Words for qSupported that are implemented.
        no_ack: Whether ``+`` and ``-`` have been switched off.
        features: Names the client announced.
        resuming: Threads that ``c`` and ``s`` are about (``Hc``).
        files: Open files by descriptor (``vFile``).
        max_packet: Longest packet, escapes counted.
    """

    max_packet = MAX_PACKET

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.offers: tuple[str, ...] = ()
        self.no_ack = False
        self.features: frozenset[str] = frozenset()
        self._general = ThreadId(ANY, ANY)
        self.resuming = ThreadId(ALL, ALL)
        self.files: dict[int, FileIO] = {}
        self._state = _Attachment.NOT_YET
        self._stop: StopReason | None = None
        self._attached: dict[int, Inferior] = {}
        self._detached: set[int] = set()

    def has(self, feature: str) -> bool:
        """Whether the client announced ``feature``."""
        return feature in self.features

    @property
    def inferiors(self) -> Sequence[Inferior]:
        """Attached inferiors the client can name: only one without multiprocess."""
        self._attach_if_new()
        return tuple(i for pid, i in self._attached.items() if self._nameable(pid))

    def _nameable(self, pid: int) -> bool:
        return self.has("multiprocess") or pid == self._general.pid

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
        self._attach_if_new()
        try:
            return self._attached[self._general.pid]
        except KeyError:
            raise TargetError(Errno.ESRCH, "no inferior is selected") from None

    def find(self, pid: int) -> Inferior:
        """Return an attached inferior by pid; ``ANY`` and ``ALL`` are the selected."""
        if pid in (ANY, ALL):
            return self.inferior
        self._attach_if_new()
        inferior = self._attached.get(pid)
        if inferior is None or not self._nameable(pid):
            raise TargetError(Errno.ESRCH, f"no inferior {pid}")
        return inferior

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
        alive = [
            inferior.pid for inferior in self.machine.inferiors() if inferior.alive
        ]
        if pid not in alive:
            raise TargetError(Errno.ESRCH, f"no inferior {pid}")
        if self._state is not _Attachment.HELD:
            self._detached = set(alive)
        self._detached.discard(pid)
        self._take(self.machine.attach())
        for other in self._detached:  # attaching took everything
            self.machine.detach(other)
        self._general = self._first_thread(self._attached[pid])
        self._stop = Stopped(self._general, stops.Signal.NONE)
        return self.stop_reply()

    def stop_reply(self) -> bytes:
        """Encode the last stop, or where the client can look if it is no more."""
        self._attach_if_new()
        stop = self._stop
        gone = not isinstance(stop, Stopped) or stop.thread.pid not in self._attached
        if gone and self._general.pid in self._attached:
            stop = Stopped(self._general)
        if stop is None or (gone and isinstance(stop, Stopped)):
            stop = Exited(max(self._general.pid, 1))
        return stops.encode(stop, self.features)

    def stopped(self, reason: StopReason) -> bytes:
        """Take over the end of a run; return the reply that reports it."""
        self._take(reason)
        return stops.encode(reason, self.features)

    def concerns(self, reason: StopReason) -> bool:
        """Whether the client can make sense of ``reason``.

        One that knows a single process would take the end of any for its own.
        """
        pid = reason.thread.pid if isinstance(reason, Stopped) else reason.pid
        return self._nameable(pid)

    def detach(self, pid: int) -> None:
        """Leave one inferior, which runs on; with the last one, leave the machine."""
        self.find(pid)
        self._detached.add(pid)
        self.machine.detach(pid)
        self._drop(pid)

    def kill(self, pid: int) -> None:
        """End one partition for good."""
        self.find(pid)
        self.machine.kill(pid)
        self._drop(pid)

    def leave(self) -> None:
        """Let everything run on without a client."""
        if self._state is _Attachment.HELD:
            self._state = _Attachment.LEFT
            self._attached.clear()
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
            self._take(self.machine.attach())

    def _take(self, reason: StopReason) -> None:
        self._state = _Attachment.HELD
        self._stop = reason
        self._attached = {
            inferior.pid: inferior
            for inferior in self.machine.inferiors()
            if inferior.alive and inferior.pid not in self._detached
        }
        if isinstance(reason, Stopped) and reason.thread.pid in self._attached:
            self._general = reason.thread
        else:
            self._select_any()

    def _drop(self, pid: int) -> None:
        self._attached.pop(pid, None)
        if not self._attached:
            self.leave()
        else:
            self._select_any()

    def _select_any(self) -> None:
        if self._attached and self._general.pid not in self._attached:
            first = next(iter(self._attached.values()))
            self._general = self._first_thread(first)

    @staticmethod
    def _first_thread(inferior: Inferior) -> ThreadId:
        return ThreadId(inferior.pid, inferior.threads()[0].tid)


@cache
def _implements(type_: type, protocol: type) -> bool:
    return issubclass(type_, protocol)
