# SPDX-License-Identifier: GPL-2.0-or-later
"""A report as lines for a terminal."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby

from nanokernel_vm.triage.report import Finding, Interrupt, Memory, Report, Stack

_FRAMES_MAX = 24
_CALLERS = 8
_LOG = 24  # lines


def lines(report: Report) -> Iterator[str]:
    """Yield the report, what matters most first; a few lines if nothing is wrong.

    A kernel's log may hold anything: no terminal is to obey it.
    """
    return map(_printable, _lines(report))


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def _lines(report: Report) -> Iterator[str]:
    yield f"{report.partition}: {report.verdict}"
    yield from _indented(_facts(report))
    if report.wrong:
        yield from _details(report)
    if report.problems:
        yield from _section("could not be found out", report.problems)


def _details(report: Report) -> Iterator[str]:
    for number, finding in enumerate(report.findings, 1):
        yield from _section(f"{number}. {finding.what}", _finding(finding))
    for stack in report.stacks:
        note = f" ({stack.note})" if stack.note else ""
        yield from _section(f"stack of {stack.title}{note}", frames(stack))
    if report.interrupts:
        title = f"last interrupts of {report.delivered}"
        yield from _section(title, interrupts(report.interrupts))
    if report.memory:
        yield from _section("memory", memory(report.memory))
    if report.dmesg:
        yield from _section("end of the log", report.dmesg[-_LOG:])


def _section(title: str, rows: Iterable[str]) -> Iterator[str]:
    yield ""
    yield title
    yield from _indented(rows)


def _indented(rows: Iterable[str]) -> Iterator[str]:
    return (f"  {row}" for row in rows)


def _facts(report: Report) -> Iterator[str]:
    for name, value in facts(report):
        yield f"{name:10} {value}"


def facts(report: Report) -> Iterator[tuple[str, str]]:
    """Yield names and values of what is one word or two."""
    if report.signature:
        yield "signature", report.signature
    if report.release:
        yield "kernel", report.release
    if report.uptime is not None:
        yield "uptime", f"{report.uptime:.6f} s"
    if report.taint:
        yield "taint", report.taint
    if report.modules:
        yield "modules", ", ".join(report.modules)
    if report.condition:
        yield "partition", report.condition
    if "eflags" in report.registers:
        on = "on" if report.registers["eflags"] & 1 << 9 else "off"
        yield "CPU", f"rip {report.registers['rip']:#x}, interrupts {on}"


def _finding(finding: Finding) -> Iterator[str]:
    if finding.functions:
        yield f"in   {' and '.join(finding.functions)}"
    if finding.task:
        yield f"task {finding.task}"
    if finding.time is not None:
        yield f"at   {finding.time:.6f} s"
    if path := calls(finding):
        yield f"by   {path}"
    yield from (f"| {line}" for line in finding.evidence)


def calls(finding: Finding) -> str:
    """Return who has called whom, innermost first, a recursion as one."""
    if len(finding.functions) != 1:
        return ""  # several tasks, whose stacks are shown
    path = [name for name, _ in groupby(finding.frames)]
    more = " ..." if len(path) > _CALLERS else ""
    return " < ".join(path[:_CALLERS]) + more


def frames(stack: Stack) -> Iterator[str]:
    """Yield the frames with numbers; a long recursion is cut out in the middle."""
    rows = [f"#{number:<2} {frame}" for number, frame in enumerate(stack.frames)]
    if len(rows) <= _FRAMES_MAX:
        yield from rows
        return
    half = _FRAMES_MAX // 2
    yield from rows[:half]
    yield f"    ... {len(rows) - 2 * half} more ..."
    yield from rows[-half:]


def interrupts(rows: Iterable[Interrupt]) -> Iterator[str]:
    """Yield deliveries, each in a line; the same again and again in one."""
    for _, group in groupby(rows, key=lambda row: replace(row, time=0)):
        first, *again = group
        more = f"  and {len(again)} more until {again[-1].time:.6f} s" if again else ""
        yield _interrupt(first) + more


def _interrupt(row: Interrupt) -> str:
    where = row.where or ("a program" if row.cpl else "?")
    return (
        f"{row.time:12.6f} s  vector {row.vector:#04x}  "
        f"from {row.rip:#018x} cpl {row.cpl}  {where}"
    )


def memory(row: Memory) -> Iterator[str]:
    """Yield how memory is used."""
    yield (
        f"{row.free} of {row.total} KiB free; slab {row.slab}, page cache {row.cache}, "
        f"processes {row.processes}, other pages of the kernel {row.other}"
    )
    yield from row.consumers
