# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports as one HTML file: no script, nothing fetched, readable on a phone.

Whatever a kernel has said is escaped: its log is anybody's who can print there.
"""

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from nanokernel_vm.triage import text
from nanokernel_vm.triage.report import Finding, Report

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --bad: #c22; --good: #2a7; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem;
       padding: 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .3rem;
     border-top: 1px solid var(--line); padding-top: 1rem; }
h3 { font-size: 1rem; margin: 1rem 0 .2rem; overflow-wrap: anywhere; }
.verdict { border-left: .4rem solid var(--good); padding: .3rem .8rem;
           font-weight: 600; overflow-wrap: anywhere; }
.wrong .verdict { border-color: var(--bad); }
pre { font: 13px/1.4 ui-monospace, monospace; overflow-x: auto; margin: .3rem 0;
      padding: .6rem; border: 1px solid var(--line); border-radius: .4rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .8rem;
     margin: .6rem 0; } dt { opacity: .7; } dd { margin: 0; overflow-wrap: anywhere; }
summary { cursor: pointer; padding: .4rem 0; }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(reports: Sequence[Report]) -> str:
    """Return the whole file."""
    title = escape("; ".join(f"{r.partition}: {r.verdict}" for r in reports))
    body = "\n".join(part for report in reports for part in _report(report))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Crash triage</h1>
{body}
</body>
</html>
"""


def _report(report: Report) -> Iterator[str]:
    yield f'<section class="{"well" if report.well else "wrong"}">'
    yield f"<h2>{escape(report.partition)}</h2>"
    yield f'<p class="verdict">{escape(report.verdict)}</p>'
    yield _facts(text.facts(report))
    for number, finding in enumerate(report.findings, 1):
        yield from _finding(number, finding)
    for number, stack in enumerate(report.stacks):
        note = f" ({stack.note})" if stack.note else ""
        title = f"Stack of {stack.title}{note}"
        yield _folded(title, text.frames(stack), shown=report.wrong and not number)
    if report.interrupts:
        title = f"Last interrupts of {report.delivered}"
        yield _folded(title, text.interrupts(report.interrupts))
    if report.memory:
        yield _folded("Memory", text.memory(report.memory))
    if report.dmesg:
        yield _folded("End of the log", report.dmesg)
    if report.problems:
        yield _folded("Could not be found out", report.problems, shown=True)
    yield "</section>"


def _finding(number: int, finding: Finding) -> Iterator[str]:
    yield f"<h3>{number}. {escape(finding.what)}</h3>"
    rows = [("in", " and ".join(finding.functions)), ("task", finding.task)]
    rows.append(("by", text.calls(finding)))
    if finding.time is not None:
        rows.append(("at", f"{finding.time:.6f} s"))
    yield _facts(row for row in rows if row[1])
    yield f"<pre>{escape(chr(10).join(finding.evidence))}</pre>"


def _facts(rows: Iterable[tuple[str, str]]) -> str:
    pairs = (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    return f"<dl>{''.join(pairs)}</dl>"


def _folded(title: str, rows: Iterable[str], shown: bool = False) -> str:
    state = " open" if shown else ""
    content = escape("\n".join(rows))
    return (
        f"<details{state}><summary>{escape(title)}</summary>"
        f"<pre>{content}</pre></details>"
    )
