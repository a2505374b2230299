# SPDX-License-Identifier: GPL-2.0-or-later
"""gdb's own side: the nk commands, the printers, and how they come to be there."""

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator

import pytest

from nanokernel_vm.build.cache import root
from nanokernel_vm.cli.gdb import ENTRY
from tests.live.mi import GDBS, Gdb, GdbError
from tests.live.process import NK, TIMEOUT, NkRun

each = pytest.mark.parametrize("number", [1, 2])
NAMES = {1: "host", 2: "guest"}
TASK = "0x[0-9a-f]+ {} [RSDI]"


@pytest.fixture(scope="module")
def attached(machine: NkRun, program: str) -> Iterator[Gdb]:
    """Attach a gdb with the scripts once for all tests here."""
    debugger = Gdb(GDBS[program])
    debugger(f"source {ENTRY}")
    debugger.attach(machine.address)
    yield debugger
    debugger.close()


# -- commands -------------------------------------------------------------------


@each
def test_every_command_is_about_the_current_inferior(gdb: Gdb, number: int) -> None:
    gdb(f"inferior {number}")  # which gdb does not tell the server
    assert f"Linux {NAMES[number]} 6.1" in gdb("nk sysinfo")
    for name in ("irqlog", "handlers", "dmesg", "ps", "bt", "locks", "irq", "runq",
                 "meminfo", "sysinfo"):  # fmt: skip
        assert gdb(f"nk {name}") == gdb(f"monitor {name} {NAMES[number]}")
    rows = json.loads(gdb("nk ps -j"))
    assert rows == json.loads(gdb(f"monitor ps -j {NAMES[number]}"))
    assert gdb("nk modules") == "no modules\n"
    assert json.loads(gdb("nk modules -j")) == []
    assert gdb("nk bt -a").count("\ntask ") > 10


@each
def test_addresses_are_expressions(gdb: Gdb, number: int) -> None:
    gdb(f"inferior {number}")
    text = gdb("nk pte &init_task")
    assert f"{gdb.word('&init_task'):#x} is init_task" in text
    row = json.loads(gdb("nk pte -j &init_task"))
    assert [step["name"] for step in row["steps"]][:2] == ["PGD", "PUD"]
    assert "of task 1 (init)" in gdb("nk pte 0x401000 1")


def test_partitions_are_the_servers(gdb: Gdb) -> None:
    assert gdb("nk partitions").split()[1] == "host"
    assert len(json.loads(gdb("nk partitions -j"))) == 2


def test_wrong_commands_are_told_what_is_right(gdb: Gdb) -> None:
    assert "no task 4711" in gdb("nk bt 4711")
    assert "usage: monitor bt" in gdb("nk bt one two")
    with pytest.raises(GdbError, match="an address is missing"):
        gdb("nk pte")
    with pytest.raises(GdbError, match="no_such_thing is no address"):
        gdb("nk pte no_such_thing")
    with pytest.raises(GdbError, match="/no/such is no directory"):
        gdb("nk modules /no/such")


def test_commands_have_help_and_completion(gdb: Gdb) -> None:
    assert "Usage: nk bt [-j] [-a | PID]" in gdb("help nk bt")
    listed = set(re.findall(r"^nk (\w+) --", gdb("help nk"), re.MULTILINE))
    assert {"partitions", "irqlog", "handlers", "dmesg", "ps", "bt"} <= listed
    assert {"modules", "locks", "irq", "runq", "meminfo", "pte", "sysinfo"} <= listed
    assert set(gdb("complete nk bt -").split("\n")) == {"nk bt -a", "nk bt -j", ""}
    assert "nk pte init_task" in gdb("complete nk pte init_tas")


def test_unattached_it_says_so(program: str) -> None:
    debugger = Gdb(GDBS[program])
    debugger(f"source {ENTRY}")
    with pytest.raises(GdbError, match="attach to one: target remote"):
        debugger("nk ps")
    debugger.close()


# -- answers that take long ---------------------------------------------------------


def test_an_answer_later_than_gdbs_patience_is_waited_for(
    gdb: Gdb, machine: NkRun
) -> None:
    """gdb would give up after three times its timeout, and take what comes then for
    the answer to whatever it asks next.
    """
    answer, patience = (
        gdb("nk partitions"),
        gdb('output $_gdb_setting("remotetimeout")'),
    )
    gdb("set remotetimeout 1")
    machine.signal(signal.SIGSTOP)
    later = threading.Timer(5, machine.signal, [signal.SIGCONT])
    later.start()
    try:
        assert gdb("nk partitions") == answer
    finally:
        later.join()
        assert "is 1." in gdb("show remotetimeout")
        gdb(f"set remotetimeout {patience}")
    assert gdb.value("$part") == 1


def test_where_no_answer_comes_the_connection_is_dropped(program: str) -> None:
    debugger = Gdb(GDBS[program])
    debugger(f"source {ENTRY}")
    with NkRun("--freeze") as run:
        debugger.attach(run.address)
        run.signal(signal.SIGSTOP)
        later = threading.Timer(1, run.signal, [signal.SIGKILL])
        later.start()
        with pytest.raises(GdbError, match="attach again: target remote"):
            debugger("nk partitions")
        later.join()
    assert "<null>" in debugger("info inferiors")
    debugger.close()


# -- what gdb does by itself ----------------------------------------------------


@each
def test_the_description_reaches_both_inferiors(gdb: Gdb, number: int) -> None:
    gdb(f"inferior {number}")
    assert gdb.value("$part") == number
    assert gdb.word("$cr3") > 0


def test_the_scripts_let_all_kernels_run(program: str) -> None:
    debugger = Gdb(GDBS[program])
    assert "schedule-multiple off" in debugger(f"source {ENTRY}")
    assert "is on" in debugger("show schedule-multiple")
    assert debugger(f"source {ENTRY}") == ""  # what the user sets later stays
    debugger.close()


def test_no_event_is_swallowed_whichever_inferior_is_current(
    gdb: Gdb, machine: NkRun, program: str
) -> None:
    """gdb would wait for ever for the first stop of the one that was not resumed."""
    gdb("disconnect")
    line = [str(GDBS[program]), "-nx", "-batch", "-iex", f"source {ENTRY}"]
    for command in (
        "set sysroot",
        f"target remote {machine.address}",
        "inferior 2",
        "tbreak update_process_times if $part == 1",
        "continue",
        "p $part",
    ):
        line += ["-ex", command]
    assert "= 1" in _batch(line, program)
    gdb.attach(machine.address)


@pytest.fixture
def address(gdb: Gdb, machine: NkRun) -> Iterator[str]:
    """Leave the machine to another gdb."""
    gdb("disconnect")
    yield machine.address
    gdb.attach(machine.address)


def _batch(line: list[str], program: str) -> str:
    """What a gdb says that is started, asks and leaves."""
    done = subprocess.run(
        line,
        env={**os.environ, "NK_GDB": str(GDBS[program])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Python Exception" not in done.stderr
    return done.stdout


ASK = ("-ex", "inferior 2", "-ex", "p $part", "-ex", "nk sysinfo")


def _is_loaded(text: str) -> None:
    assert re.search(r"^\$1 = 2$", text, re.MULTILINE)
    assert "Linux guest 6.1" in text


def test_nk_gdb_has_all_by_itself(address: str, program: str) -> None:
    connect = [NK, "gdb", "--connect", address]
    _is_loaded(_batch([*map(str, connect), "--", "-nx", "-batch", *ASK], program))


def test_the_symbol_files_bring_the_scripts(address: str, program: str) -> None:
    options = ["-iex", "set sysroot", "-iex", f"add-auto-load-safe-path {root()}"]
    attach = ["-ex", f"target remote {address}"]
    line = [str(GDBS[program]), "-nx", "-batch", *options, *attach, *ASK]
    _is_loaded(_batch(line, program))


def test_scripts_may_come_after_the_inferiors(address: str, program: str) -> None:
    attach = ["-iex", "set sysroot", "-ex", f"target remote {address}"]
    source = ["-ex", f"source {ENTRY}"]
    _is_loaded(
        _batch([str(GDBS[program]), "-nx", "-batch", *attach, *source, *ASK], program)
    )


# -- printers ---------------------------------------------------------------------


@each
def test_values_are_printed_for_people(gdb: Gdb, number: int) -> None:
    gdb(f"inferior {number}")
    shown = {
        "&init_task": r"0x\w+ 0 \(swapper.*\) R",
        "init_task.usage": r"\d+",
        "init_mm.mm_count": r"\d+",
        "init_task.alloc_lock": "unlocked|no lock on one CPU",
        "init_task.pi_lock": "unlocked|no lock on one CPU",
        "init_task.cpus_mask": "CPUs 0",
        "init_task.sighand->siglock": "unlocked|no lock on one CPU",
        "init_task.pending.list": "0 nodes",
        "init_mm.mmap_lock.wait_list": "0 nodes",
        "init_mm.mmap_lock": "unlocked.*",
    }
    for expression, pattern in shown.items():
        text = gdb(f"output {expression}")
        assert re.fullmatch(pattern, text), (expression, text)


@each
def test_a_list_has_as_many_nodes_as_there_are_tasks(gdb: Gdb, number: int) -> None:
    gdb(f"inferior {number}")
    rows = json.loads(gdb("nk ps -j"))
    processes = sum(row["pid"] == row["process"] for row in rows)
    assert gdb("output init_task.tasks").startswith(f"{processes} nodes = {{0x")


@each
def test_a_task_is_printed_as_ps_has_it(gdb: Gdb, number: int) -> None:
    gdb(f"inferior {number}")
    for row in json.loads(gdb("nk ps -j"))[:10]:
        text = gdb(f"output (struct task_struct *){row['address']}")
        task = f"{row['pid']} ({row['name']}) {row['state']}"
        assert text == f"{row['address']:#x} {task}"


@each
def test_registers_of_a_system_call(gdb: Gdb, number: int) -> None:
    """init waits for its children in wait4, number 61."""
    gdb(f"inferior {number}")
    (init,) = (row for row in json.loads(gdb("nk ps -j")) if row["pid"] == 1)
    task = f"((struct task_struct *){init['address']})"
    frames = json.loads(gdb("nk bt -j 1"))[0]["frames"]
    size = gdb.value("sizeof(struct pt_regs)")
    text = gdb(f"output *(struct pt_regs *)({task}->stack + 0x4000 - {size})")
    assert text.startswith("user, system call or error code 61 at 0x"), text
    assert f" at {frames[-1]['pc']:#x}, flags " in text
    assert f"ip = {frames[-1]['pc']:#x}" in text


@each
def test_a_mutex_says_who_has_it(gdb: Gdb, number: int) -> None:
    gdb(f"inferior {number}")
    mutex = "init_task.signal->cred_guard_mutex"
    assert gdb(f"output {mutex}") == "unlocked mutex"
    gdb(f"set var {mutex}.owner.counter = (long)&init_task | 1")
    try:
        text = gdb(f"output {mutex}")
    finally:
        gdb(f"set var {mutex}.owner.counter = 0")
    assert text.startswith("mutex of 0 (swapper")
