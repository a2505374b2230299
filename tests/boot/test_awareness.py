# SPDX-License-Identifier: GPL-2.0-or-later
"""What drgn reads in RAM is what the kernels say of themselves at their shells."""

import re
import subprocess
from pathlib import Path

import pytest

from nanokernel_vm import build
from nanokernel_vm.cpu.delivery import address_space
from nanokernel_vm.linux.awareness import (
    Awareness,
    NoLinuxError,
    find_vmcoreinfo,
)
from nanokernel_vm.linux.awareness.interrupts import handlers, irqs
from nanokernel_vm.linux.awareness.locks import locks
from nanokernel_vm.linux.awareness.log import dmesg
from nanokernel_vm.linux.awareness.memory import meminfo
from nanokernel_vm.linux.awareness.modules import modules
from nanokernel_vm.linux.awareness.paging import page_walk
from nanokernel_vm.linux.awareness.runqueues import runqueues
from nanokernel_vm.linux.awareness.stacks import backtraces, cpu_backtrace
from nanokernel_vm.linux.awareness.system import sysinfo
from nanokernel_vm.linux.awareness.tasks import tasks
from nanokernel_vm.linux.symbols import make_symbol_file
from nanokernel_vm.memory import Ram, Window
from nanokernel_vm.symbols import symbol_file
from tests.boot.shells_of_pair import NAMES, Shells

pytestmark = pytest.mark.boot

each = pytest.mark.parametrize("name", NAMES)


@each
def test_tasks_are_those_of_proc(shells: Shells, name: str) -> None:
    text = shells.ask(name, "cat /proc/[0-9]*/stat 2>/dev/null")
    told = re.findall(r"^(\d+) \((.*)\) (\w) (\d+)", text, re.MULTILINE)
    told = [row for row in told if row[1] != "cat"]
    assert len(told) > 10
    read = {task.pid: task for task in shells.tasks(name)}
    for pid, task, _, parent in told:
        # /proc knows longer names, and adds what a worker has in hand.
        assert task.startswith(read[int(pid)].name)
        assert int(parent) == read[int(pid)].parent
    assert len(read) - len(told) <= 2  # workers come and go


@each
def test_kernel_threads_have_no_user_space(shells: Shells, name: str) -> None:
    kernel = {task.name: task.kernel for task in shells.tasks(name)}
    assert kernel["kthreadd"]
    assert not kernel["init"]
    assert not kernel["sh"]


@each
def test_the_log_is_dmesg(shells: Shells, name: str) -> None:
    told = shells.ask(name, "dmesg").splitlines()
    told = [line for line in map(str.rstrip, told) if line.startswith("[")]
    read = [str(record).rstrip() for record in dmesg(shells.aware[name])]
    assert len(read) > 50
    assert read[: len(told)] == told


@each
def test_a_sleeping_task_waits_where_it_waits(shells: Shells, name: str) -> None:
    frames = shells.backtrace(name, 1)
    names = [frame.name for frame in frames]
    assert names.index("schedule") < names.index("do_wait")
    assert names.index("do_wait") < names.index("do_syscall_64")
    assert frames[-1].name == ""  # user space
    assert frames[-1].pc < 1 << 47


@each
def test_a_kernel_thread_ends_where_it_was_forked(shells: Shells, name: str) -> None:
    names = [frame.name for frame in shells.backtrace(name, 2)]
    assert names[-2:] == ["kthreadd", "ret_from_fork"]


@each
def test_the_cpu_is_followed_from_its_registers(shells: Shells, name: str) -> None:
    frames = cpu_backtrace(shells.aware[name], shells.cpu(name)).frames
    assert frames[0].pc == shells.partition(name).engine.state.rip
    rows = backtraces(shells.aware[name], shells.cpu(name))
    assert [row.frames for row in rows if row.running] == [frames]
    assert shells.backtrace(name, 0)[-2].name == "start_kernel"


@each
def test_nothing_is_changed_by_asking(shells: Shells, name: str) -> None:
    window = shells.partition(name).window
    before = window.digest()
    aware = shells.aware[name]
    cpu = shells.cpu(name)
    space = address_space(shells.partition(name).engine.state, window)
    assert all((tasks(aware, cpu), dmesg(aware), backtraces(aware, cpu), irqs(aware)))
    assert all((locks(aware, cpu), runqueues(aware, cpu), meminfo(aware)))
    assert all((sysinfo(aware, cpu), page_walk(aware, space, 0)))
    assert all((handlers(aware, lambda _: None), modules(aware) == []))
    assert window.digest() == before


@each
def test_the_wait_channel_is_that_of_proc(shells: Shells, name: str) -> None:
    before = sysinfo(shells.aware[name], shells.cpu(name)).uptime
    text = shells.ask(name, "cd /proc; grep -H . [0-9]*/wchan; cd /")
    told = dict(re.findall(r"^(\d+)/wchan:(\w+)", text, re.MULTILINE))
    read = {str(task.pid): task for task in shells.tasks(name)}
    slept_on = [pid for pid in told if pid in read and read[pid].since < before]
    assert len(slept_on) > 5
    for pid in slept_on:
        assert read[pid].waits_in.partition(".")[0] == told[pid]
        assert read[pid].state in "SDI"


@each
def test_a_task_sleeps_since_it_was_put_to_sleep(shells: Shells, name: str) -> None:
    before = sysinfo(shells.aware[name], shells.cpu(name)).uptime
    shells.ask(name, "sleep 0.5 & sleep 0.1")
    (sleeper,) = [task for task in shells.tasks(name) if task.name == "sleep"]
    after = sysinfo(shells.aware[name], shells.cpu(name)).uptime
    assert before < sleeper.since < after
    assert sleeper.since + sleeper.age == after
    assert sleeper.age > 50_000_000


@each
def test_memory_is_that_of_proc(shells: Shells, name: str) -> None:
    text = shells.ask(name, "cat /proc/meminfo")
    told = {key: int(size) for key, size in re.findall(r"([\w()]+): +(\d+) kB", text)}
    read = meminfo(shells.aware[name])
    assert read.total == told["MemTotal"]
    for key in ("Shmem", "Unevictable", "Active(file)"):
        assert read.counters[key] == told[key], key
    slack = 1024  # the shell and cat have gone on
    assert abs(read.free - told["MemFree"]) < slack
    for key in ("SReclaimable", "SUnreclaim", "KernelStack", "PageTables", "Mapped"):
        assert abs(read.counters[key] - told[key]) < slack, key
    assert {row.name for row in read.processes} >= {"init", "sh"}
    assert sum(zone.free for zone in read.zones) <= read.free


@each
def test_interrupts_are_those_of_proc(shells: Shells, name: str) -> None:
    text = shells.ask(name, "cat /proc/interrupts")
    told = re.findall(r"^ *(\d+): +(\d+) +(\S+) +(.*?)\r?$", text, re.MULTILINE)
    read = {row.number: row for row in irqs(shells.aware[name])}
    assert len(told) >= 2
    for number, count, chip, what in told:
        row = read[int(number)]
        assert row.chip == chip
        assert what.endswith(", ".join(row.actions))
        assert 0 <= row.count - int(count) < 100


@each
def test_the_system_is_that_of_uname(shells: Shells, name: str) -> None:
    told = shells.ask(name, "uname -a; cat /proc/cmdline").splitlines()
    read = sysinfo(shells.aware[name], shells.cpu(name))
    assert told[0].split()[:3] == [read.sysname, read.nodename, read.release]
    assert read.version in told[0]
    assert told[1].strip() == read.command_line.strip()
    assert (read.online, read.state, read.panicked) == ("0", "running", None)


@each
def test_registered_handlers_are_those_the_kernel_believes_in(
    shells: Shells, name: str
) -> None:
    partition = shells.partition(name)

    def in_force(vector: int) -> tuple[int, int] | None:
        gate = partition.gate(vector)
        return None if gate is None else (gate.handler, gate.dpl)

    rows = handlers(shells.aware[name], in_force)
    assert len(rows) > 40
    wrong = [row for row in rows if not row.agree]
    assert not wrong
    assert rows[14].name == "asm_exc_page_fault"


@each
def test_an_address_is_followed_level_by_level(shells: Shells, name: str) -> None:
    partition = shells.partition(name)
    space = address_space(partition.engine.state, partition.window)
    aware = shells.aware[name]
    task = shells.tasks(name)[0]
    found = page_walk(aware, space, task.address)
    assert [step.name for step in found.steps] == ["PGD", "PUD", "PMD"]
    assert found.physical == task.address - 0xFFFF_8880_0000_0000
    gone = page_walk(aware, space, 0x10, pid=1)
    assert gone.physical is None
    assert "is not present" in gone.reason
    assert "segmentation fault" in gone.meaning
    code = page_walk(aware, space, shells.backtrace(name, 1)[-1].pc, pid=1)
    assert "r-x- busybox of init (1)" in code.meaning
    assert code.physical is not None


@each
def test_a_task_that_is_not_there(shells: Shells, name: str) -> None:
    with pytest.raises(NoLinuxError, match="no task 4000"):
        shells.backtrace(name, 4000)


def test_another_kernels_symbols_are_refused(shells: Shells) -> None:
    guest = next(p for p in shells.config.partitions if p.name == "guest")
    with pytest.raises(NoLinuxError, match="is not of the kernel"):
        Awareness(shells.partition("host").window, symbol_file(guest.kernel))


def test_symbols_without_types_are_not_called_another_kernels(
    shells: Shells, tmp_path: Path
) -> None:
    image, made = tmp_path / "vmlinux", tmp_path / "vmlinux.debug"
    subprocess.check_call(["objcopy", "-S", build.ensure("guest"), image])
    assert "has no BTF" in make_symbol_file(image, made)[0]
    for file in (image, made):
        with pytest.raises(NoLinuxError, match=f"{file} has no types"):
            Awareness(shells.partition("guest").window, file)


def test_empty_memory_is_no_linux(tmp_path: Path) -> None:
    window = Window(Ram(1 << 20), 0, 1 << 20)
    assert find_vmcoreinfo(window) is None
    with pytest.raises(NoLinuxError, match="no Linux has introduced itself"):
        Awareness(window, tmp_path / "none")
