# SPDX-License-Identifier: GPL-2.0-or-later
"""Entries into busy kernels, as backtraces and ``nk frame`` show them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from nanokernel_vm.abi import frame
from tests.live.busy import BusyMachine
from tests.live.mi import GDBS

HOST, GUEST = 1, 2
HANDLER, FAULT = "handle_irq_event", "do_user_addr_fault"
EXIT = "syscall_exit_to_user_mode"
SHOW = ("bt", "nk frame -j", "nk frame")

Run = Callable[..., list[str]]


@pytest.fixture
def run(busy: BusyMachine, program: str, tmp_path: Path) -> Run:
    def commands(pid: int, *lines: str) -> list[str]:
        out = tmp_path / "printed"
        text = busy.debug(GDBS[program], "commands.py", (pid, out, *lines))
        printed = [json.loads(line) for line in out.read_text().splitlines()]
        assert len(printed) == len(lines), text
        return printed

    return commands


def to(*functions: str) -> list[str]:
    return [line for name in functions for line in (f"tbreak {name}", "continue")]


def entries(backtrace: str) -> list[str]:
    return re.findall(r"^#\d+ .*(<.*>) \(\)$", backtrace, re.MULTILINE)


def test_a_guests_interrupt_is_the_nanokernels(run: Run) -> None:
    lines = run(GUEST, *to(HANDLER), *SHOW, "nk irqlog -j 1", "nk bt -j")
    backtrace, as_json, text, log, task = lines[-5:]
    row, (irq,) = json.loads(as_json), json.loads(log)["last"]
    words = row["words"]
    assert words["sequence"] == irq["sequence"]
    assert words["time"] / 1e9 == pytest.approx(irq["seconds"])
    assert row["vector"] == irq["vector"]
    assert row["hardware"]["ip"] == irq["rip"]
    assert (row["class"], row["defects"]) == ("same", [])
    names = {0x30: "timer", 0x33: "COM2"}
    ring = "user" if irq["cpl"] else "kernel"
    assert entries(backtrace)[0] == (
        f"<{names[irq['vector']]} interrupt, vector {irq['vector']:#x}, "
        f"nanokernel #{words['sequence']} at {irq['seconds']:.3f} s, from {ring} "
        f"{_task(task)}>"
    )
    assert "magic, revision and check hold\nsame: as it was built" in text
    for name, value in words.items():
        assert re.search(rf"^  {name} +{value:#018x}  \w", text, re.MULTILINE)


def test_every_word_is_the_one_in_memory(run: Run) -> None:
    """``nk frame`` beside gdb's own reading, the server's, and the ABI's sums."""
    see = (
        "python import json; row = json.loads(gdb.execute('nk frame -j', False, True))"
    )
    dump = "python print(gdb.execute(f'x/11gx {row[\"address\"]}', False, True))"
    lines = run(
        *(GUEST, *to(HANDLER), "nk frame -j", see, dump),
        "monitor irqlog -j guest 1",
    )
    as_json, _, dumped, log = lines[-4:]
    row, (irq,) = json.loads(as_json), json.loads(log)["last"]
    found = [int(word, 16) for word in re.findall(r"\t(0x[0-9a-f]+)", dumped)]
    hardware, words = frame.Hardware(*found[:5]), frame.Words(*found[5:])
    assert row["hardware"] == hardware._asdict()
    assert row["words"] == words._asdict()
    assert words == frame.new_words(
        irq["vector"], row["address"], irq["sequence"], words.time, hardware
    )
    assert words.time / 1e9 == pytest.approx(irq["seconds"])
    assert (hardware.ip, hardware.cs & 3) == (irq["rip"], irq["cpl"])


def _task(answer: str) -> str:
    """Who runs, from drgn."""
    task = json.loads(answer)
    task = task[0] if isinstance(task, list) else task
    return f"pid {task['pid']} ({task['name']})"


def test_what_exec_rewrites_and_fork_copies_is_named(run: Run) -> None:
    lines = run(
        GUEST, *to("finalize_exec", EXIT), *SHOW, *to("ret_from_fork", EXIT), *SHOW
    )
    rewritten, copied = lines[4:7], lines[-3:]
    assert "<system call 59 (execve), rewritten by exec, " in rewritten[0]
    assert json.loads(rewritten[1])["class"] == "rewritten"
    assert re.search(
        r"<system call \d+ \((clone|fork|vfork|clone3)\), copied by fork from ",
        copied[0],
    )
    row = json.loads(copied[1])
    assert (row["class"], row["defects"]) == ("copy", [])
    assert row["words"]["built_at"] != row["address"]


def test_a_frame_whose_check_is_wrong(run: Run) -> None:
    find = "python place = json.loads(gdb.execute('nk frame -j', to_string=True))"
    sequence = "python place = place['address'] + 56"
    flip = "python gdb.execute(f'set *(long *) {place} ^= 1')"
    first, *_, bad, row, _, good = run(
        *(GUEST, *to(HANDLER), "bt", "python import json", find, sequence),
        *(flip, "bt", "nk frame -j", flip, "bt"),
    )[2:]
    assert "frame is corrupt (check: expected 0x" in entries(bad)[0]
    found = json.loads(row)
    assert found["class"] == "corrupt"
    assert re.match(r"check: expected 0x\w+, found 0x\w+", found["defects"][0])
    assert good == first


def test_the_host_is_told_by_pt_regs_and_the_log(run: Run) -> None:
    fault, fault_row, fault_text, _, _, call = run(
        HOST, *to(FAULT), *SHOW, *to("ksys_read"), "bt"
    )[2:]
    ring = r"from (user|kernel) pid \d+ \(\w+\)>$"
    assert re.match(
        rf"<page fault, vector 0xe, at \d+\.\d+ s, {ring}", entries(fault)[0]
    )
    assert json.loads(fault_row)["words"] is None
    assert "no nanokernel's words follow" in fault_text
    assert re.match(r"<system call 0 \(read\), from user pid \d+", entries(call)[-1])


def test_gdbs_own_frames_are_as_without_us(run: Run) -> None:
    name = "global nanokernel"
    lines = run(
        HOST, *to(FAULT), "bt", f"disable frame-filter {name}", "bt"
    )  # fmt: skip
    ours, gdbs = lines[2].splitlines(), lines[4].splitlines()
    assert len(ours) == len(gdbs)
    for mine, plain in zip(ours, gdbs, strict=True):
        assert mine == plain or "<signal handler called>" in plain


def test_who_was_interrupted_has_all_registers(run: Run) -> None:
    """And with them its variables, where there is DWARF as the guest's.

    The condition is that pt_regs' cs is the kernel's.
    """
    walk = "python import tests.live.in_gdb.walk as walk; walk.interrupted().select()"
    row, _, registers, arguments = run(
        *(GUEST, "tbreak *exc_page_fault if !(((long *) $rdi)[17] & 3)", "continue"),
        *("nk frame -j", walk, "info registers", "info frame"),
    )[2:]
    values = dict(line.split()[:2] for line in registers.splitlines())
    assert "not" not in values.values()
    assert int(values["rip"], 16) == json.loads(row)["hardware"]["ip"]
    assert {"rax", "rbx", "r12", "r13", "r14", "r15", "eflags"} <= values.keys()
    assert "source language" in arguments
