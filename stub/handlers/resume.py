# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets that let threads run: ``vCont``, ``c``, ``C``, ``s``, ``S``.

A signal given with ``C`` or ``S`` is dropped: a CPU has exceptions, which the
partition gets by itself, and nothing that a signal could be delivered to.
"""

import re
from functools import lru_cache

from stub import amd64
from stub.dispatch import packet
from stub.errors import Errno, ProtocolError, TargetError
from stub.handlers.threads import known
from stub.ids import ALL, ANY, ThreadId
from stub.outcomes import Resume
from stub.session import Session
from stub.target import Action

_ACTION = re.compile(
    rb"(?:c|C[0-9a-fA-F]{2}|(?P<step>s|S[0-9a-fA-F]{2})"
    rb"|r(?P<start>[0-9a-fA-F]{1,16}),(?P<end>[0-9a-fA-F]{1,16}))"
    rb"(?::(?P<thread>[p.0-9a-fA-F-]+))?"
)
_EVERYTHING = ThreadId(ALL, ALL)
_ACTIONS_MAX = 256  # each names a partition or one of its CPUs


@packet("vCont?")
def actions_supported(session: Session) -> bytes:
    """List the actions; gdb uses vCont only if both c and C, s and S are there."""
    return b"vCont;c;C;s;S;r"


@packet("vCont;{actions:raw}", features=["vContSupported+"], changes=True)
def resume(session: Session, actions: bytes) -> Resume:
    """Let the named threads run, each by the first action that names it."""
    texts = actions.split(b";", _ACTIONS_MAX)
    if len(texts) > _ACTIONS_MAX:
        raise ProtocolError(f"more than {_ACTIONS_MAX} actions")
    return _run(session, *(_action(session, text) for text in texts))


def _action(session: Session, text: bytes) -> Action:
    action = _parse(text)
    thread = known(session, action.thread)
    if thread.pid == ANY:
        thread = session.general
    return Action(thread, action.step, action.until)


@lru_cache  # a debugger that steps sends the same one thousands of times
def _parse(text: bytes) -> Action:
    match = _ACTION.fullmatch(text)
    if match is None:
        raise ProtocolError(f"{text!r} is not an action")
    name = match["thread"]
    thread = _EVERYTHING if name is None else ThreadId.parse(name)
    if match["start"] is None:
        return Action(thread, step=match["step"] is not None)
    until = int(match["start"], 16), int(match["end"], 16)
    # An empty range means one step, and so does a missing one.
    return Action(thread, step=True, until=until if until[0] < until[1] else None)


def _run(session: Session, *actions: Action) -> Resume:
    if not session.inferiors:
        raise TargetError(Errno.ESRCH, "nothing is left to resume")
    return Resume(actions)


def _resume_from(session: Session, addr: int | None, *, step: bool) -> Resume:
    """Do the old way, one thread or all, as ``Hc`` selected."""
    thread = known(session, session.resuming)  # it may be gone since Hc
    if thread.pid == ANY or (step and thread == _EVERYTHING):
        thread = session.general
    if addr is not None:
        pc = addr.to_bytes(8, "little")
        session.inferior.write_register(session.general.tid, amd64.PC, pc)
    return _run(session, Action(thread, step=step))


@packet("c[{addr:x}]", changes=True)
def resume_freely(session: Session, addr: int | None) -> Resume:
    """Continue, from ``addr`` if given."""
    return _resume_from(session, addr, step=False)


@packet("C{signal:x}[;{addr:x}]", changes=True)
def resume_with_signal(session: Session, signal: int, addr: int | None) -> Resume:
    """Continue as ``c`` does."""
    return _resume_from(session, addr, step=False)


@packet("s[{addr:x}]", changes=True)
def step(session: Session, addr: int | None) -> Resume:
    """Step one instruction, from ``addr`` if given."""
    return _resume_from(session, addr, step=True)


@packet("S{signal:x}[;{addr:x}]", changes=True)
def step_with_signal(session: Session, signal: int, addr: int | None) -> Resume:
    """Step as ``s`` does."""
    return _resume_from(session, addr, step=True)
