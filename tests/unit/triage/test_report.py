# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports as data, text and HTML."""

import json
from dataclasses import replace

import pytest

from nanokernel_vm.linux.awareness import Cpu, NoLinuxError
from nanokernel_vm.triage import Finding, Interrupt, Kind, Report, Stack, Subject
from nanokernel_vm.triage.examine import examine
from nanokernel_vm.triage.html import page
from nanokernel_vm.triage.report import RANKS, Memory
from nanokernel_vm.triage.text import lines

EVIL = "<script>alert(1)</script>&\"'"
FINDING = Finding(
    Kind.BUG, f"BUG(): {EVIL}", (f"{EVIL} [m]",), 1.5, EVIL, (EVIL,), ("f", "g")
)
REPORT = Report(
    partition=EVIL,
    condition="running",
    release="6.1.0",
    uptime=12.5,
    taint="OE",
    findings=(FINDING,),
    signature="bug-123",
    registers={"rip": 0x1000, "eflags": 2},
    stacks=(Stack(EVIL, EVIL, tuple(f"frame{n}" for n in range(100))),),
    delivered=77,
    interrupts=(Interrupt(1.25, 0x30, 0, 0x1000, EVIL),),
    memory=Memory(1000, 10, 20, 30, 40, 900, (EVIL,)),
    modules=(EVIL,),
    dmesg=(EVIL, "last words"),
    problems=(EVIL,),
)


def test_a_report_survives_json() -> None:
    assert Report.from_dict(json.loads(json.dumps(REPORT.to_dict()))) == REPORT


@pytest.mark.parametrize("row", [{}, {**REPORT.to_dict(), "findings": [{}]}])
def test_what_is_no_report_is_refused(row: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Report.from_dict(row)


def test_nothing_that_a_kernel_says_is_markup() -> None:
    text = page([REPORT])
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#x27;") > 8
    assert 'name="viewport"' in text
    assert "default-src 'none'" in text
    assert "http://" not in text
    assert "https://" not in text


def test_the_text_has_everything() -> None:
    shown = "\n".join(lines(REPORT))
    assert shown.startswith(f"{EVIL}: BUG(): {EVIL}, in {EVIL} [m]\n")
    for word in ("bug-123", "12.500000 s", "OE", "interrupts off", "last words",
                 "vector 0x30", "10 of 1000 KiB free", "... 76 more ..."):  # fmt: skip
        assert word in shown
    assert "frame50" not in shown
    assert "by   f < g" in shown


def test_little_is_said_if_nothing_is_wrong() -> None:
    calm = replace(REPORT, findings=(), signature="", problems=())
    shown = list(lines(calm))
    assert shown[0] == f"{EVIL}: running, nothing wrong"
    assert calm.well
    assert not any("last words" in line for line in shown)


def test_no_terminal_obeys_a_kernel() -> None:
    shown = list(lines(replace(REPORT, dmesg=("\x1b[2J\x9b1m\rgone", "caf\u00e9"))))
    assert "  \\x1b[2J\\x9b1m\\rgone" in shown
    assert "  caf\u00e9" in shown


def test_what_could_not_be_read_may_be_wrong() -> None:
    problems = ("tasks: nonsense", "log: nonsense")
    report = replace(REPORT, findings=(), signature="", problems=problems)
    assert not report.well
    assert not report.wrong
    assert report.verdict.endswith("no telling: tasks, log cannot be read")
    assert list(lines(report))[-2:] == [f"  {problem}" for problem in problems]


def test_no_linux_is_a_problem_but_no_cause() -> None:
    report = examine(Subject("host", NoLinuxError("too early"), Cpu()))
    assert not report.wrong
    assert report.verdict == "no Linux to be seen"
    assert report.problems == ("too early",)
    assert list(lines(report))
    assert page([report])


def test_a_partition_that_was_stopped_before_linux_came() -> None:
    subject = Subject(
        "host", NoLinuxError("too early"), Cpu(), "failed", "triple fault", now=0.5
    )
    report = examine(subject)
    assert report.findings[0].kind is Kind.NANOKERNEL
    assert "triple fault" in report.verdict
    assert report.signature


def test_every_kind_has_a_rank() -> None:
    assert set(RANKS) == set(Kind)
