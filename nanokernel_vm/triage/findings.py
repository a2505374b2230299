# SPDX-License-Identifier: GPL-2.0-or-later
"""Incidents of the log, and the nanokernel's own knowledge, as findings."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from nanokernel_vm.triage.incidents import Incident
from nanokernel_vm.triage.report import Finding, Kind
from nanokernel_vm.triage.signature import blamed, interrupted
from nanokernel_vm.triage.states import SECOND

_EVIDENCE = 6  # lines
_DULL = (
    "Code: ",
    "CPU: ",
    "PGD ",
    "---",
    "R",
    "#PF",
    " ",
    "Call Trace",
    "CS:",
    "CR2:",
    "FS:",
    "Modules",
    "note:",
)
# Kinds in which a pointer was bad that may have been read out of freed memory.
_POINTERS = {Kind.BAD_POINTER, Kind.GENERAL_PROTECTION, Kind.BAD_JUMP, Kind.OOPS}

# Kinds that a task's state shows, too, for as long as it lasts.
_SEEN = {Kind.HUNG_TASK, Kind.RCU_STALL}
# Kinds of a task that is told of in an interrupt.
_STUCK = {Kind.SOFT_LOCKUP, Kind.HARD_LOCKUP, Kind.RCU_STALL}

Freed = Callable[[Sequence[int]], str]


def of_incidents(
    told: Iterable[Incident],
    now: Sequence[Finding],
    freed: Freed,
    stack: Sequence[str] = (),
) -> Iterator[Finding]:
    """Yield the findings of the log.

    Args:
        told: All incidents.
        now: What the kernel's state has shown already, not to be said twice.
        freed: Says of pointers whether one was read out of freed memory; empty: no.
        stack: Functions on the CPU: where the kernel is if it has panicked, of which it
            says nothing in its log after an oops (kernel/panic.c: panic).
    """
    busy = {word for row in now for word in row.task.split(", ")}
    told = [row for row in told if row.kind not in _SEEN or row.task not in busy]
    yield from _once(
        _finding(row, tuple(_frames(row, stack)), freed)
        for row in told
        if row.kind is not Kind.OUT_OF_MEMORY
    )
    starved = [row for row in told if row.kind is Kind.OUT_OF_MEMORY]
    if starved:
        yield _out_of_memory(starved)


def _once(found: Iterable[Finding]) -> Iterator[Finding]:
    """What a watchdog says again and again, once: as it began, but for the age."""
    groups: dict[tuple[Kind, tuple[str, ...], str], list[Finding]] = {}
    for row in found:
        groups.setdefault((row.kind, row.functions, row.task), []).append(row)
    for first, *again in groups.values():
        if again:
            last = f"said {len(again) + 1} times, the last at {again[-1].time:.6f} s"
            evidence = (last, *first.evidence)
            first = replace(first, what=again[-1].what, evidence=evidence)
        yield first


def _frames(incident: Incident, stack: Sequence[str]) -> Sequence[str]:
    if incident.panics and not incident.frames:
        return _panicked(stack)
    if incident.kind in _STUCK:
        return interrupted(incident.frames)
    return incident.frames


def _panicked(stack: Sequence[str]) -> Sequence[str]:
    """The functions from panic() on: inside it the kernel waits for ever."""
    return stack[stack.index("panic") :] if "panic" in stack else stack


def _finding(incident: Incident, frames: tuple[str, ...], freed: Freed) -> Finding:
    kind = incident.kind
    evidence = tuple(row for row in incident.lines if _telling(row))[:_EVIDENCE]
    if kind in _POINTERS:
        pointers = [*incident.registers.values()]
        pointers += [incident.address] if incident.address is not None else []
        if proof := freed(pointers):
            kind, evidence = Kind.USE_AFTER_FREE, (proof, *evidence)
    return Finding(
        kind=kind,
        what=_what(kind, incident),
        functions=_functions(frames),
        time=incident.time / SECOND,
        task=incident.task,
        evidence=evidence,
        frames=frames,
    )


def _telling(line: str) -> bool:
    return line.startswith("RIP: 0010") or not line.startswith(_DULL)


def _out_of_memory(starved: Sequence[Incident]) -> Finding:
    """All of them as one: the kernel goes on killing, and may give up in the end.

    The first to want more is named: it had what others then lacked.
    """
    first = starved[0]
    last = next((row for row in starved if row.panics), first)
    killed = [
        line for row in starved for line in row.lines if line.startswith("Out of mem")
    ]
    return Finding(
        kind=Kind.OUT_OF_MEMORY,
        what=f"{Kind.OUT_OF_MEMORY.value}: {last.text}",
        functions=_functions(first.frames),
        time=first.time / SECOND,
        task=first.task,
        evidence=(first.lines[0], *killed, *last.lines[:1])[:_EVIDENCE],
        frames=tuple(first.frames),
    )


def _what(kind: Kind, incident: Incident) -> str:
    if kind is Kind.NULL_POINTER and incident.address is not None:
        return f"{kind.value} at {incident.address:#x}"
    if kind is Kind.HUNG_TASK or kind.value.lower() in incident.text.lower():
        return incident.text
    if incident.text.startswith("at "):
        return f"{kind.value} {incident.text}"
    return f"{kind.value}: {incident.text}"


def _functions(frames: Sequence[str]) -> tuple[str, ...]:
    return tuple(blamed(frames)[:1])


def stopped(failure: str, trace: Sequence[str], now: float | None) -> Finding:
    """Return the finding that the nanokernel itself has ended the partition."""
    return Finding(
        kind=Kind.NANOKERNEL,
        what=f"{Kind.NANOKERNEL.value}: {failure}",
        functions=tuple(blamed(trace)[:1]),
        time=now,
        task="",
        evidence=(failure,),
        frames=tuple(trace),
    )


def reported_panic(text: str, trace: Sequence[str]) -> Finding:
    """Return the finding of a panic that the guest has told the nanokernel of."""
    return Finding(
        kind=Kind.PANIC,
        what=f"{Kind.PANIC.value}: {text}",
        functions=tuple(blamed(trace)[:1]),
        time=None,
        task="",
        evidence=(text,),
        frames=tuple(trace),
    )
