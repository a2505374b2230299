# SPDX-License-Identifier: GPL-2.0-or-later
"""Incidents cut out of a log; the real ones are in tests/boot/test_triage.py."""

import pytest

from nanokernel_vm.triage.findings import of_incidents, reported_panic, stopped
from nanokernel_vm.triage.incidents import Incident, incidents
from nanokernel_vm.triage.report import Kind

OOPS = """\
BUG: kernel NULL pointer dereference, address: 0000000000000038
#PF: supervisor read access in kernel mode
#PF: error_code(0x0000) - not-present page
PGD 5617067 P4D 5617067 PUD 5616067 PMD 0
Oops: 0000 [#1] PREEMPT SMP NOPTI
CPU: 0 PID: 85 Comm: my task Tainted: G           OE      6.1.0-56-cloud-amd64 #1
RIP: 0010:poke+0x10/0x19 [driver]
Code: 00 00 50 be c0 0c 00 00 <8b> 40 18
RSP: 0018:ffffc9000058bb10 EFLAGS: 00000246
RAX: 0000000000000000 RBX: ffffffffc0206000 RCX: 0000000000314000
CR2: 0000000000000038 CR3: 000000000548e000 CR4: 00000000001506b0
Call Trace:
 <TASK>
 do_one_initcall+0x56/0x220
 ? terminate_walk+0x61/0x100
 do_syscall_64+0x5d/0x90
RIP: 0033:0x47fbe9
RSP: 002b:00007fffd1fc4ff8 EFLAGS: 00000246 ORIG_RAX: 0000000000000139
RAX: ffffffffffffffda RBX: 0000000000000000 RCX: 000000000047fbe9
 </TASK>
Modules linked in: driver(OE+)
---[ end trace 0000000000000000 ]---
RIP: 0010:poke+0x10/0x19 [driver]
"""
HUNG = """\
INFO: task nk:waits:86 blocked for more than 120 seconds.
      Tainted: G           OE      6.1.0-56-cloud-amd64 #1
"echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.
task:nk:waits       state:D stack:0     pid:86    ppid:2      flags:0x00004000
Call Trace:
 <TASK>
 __schedule+0x34d/0x9e0
 schedule+0x5a/0xd0
 wait_for_nothing+0x11/0x20 [nk_fail]
 kthread+0xd7/0x100
 </TASK>
"""
LOCKUP = """\
watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [insmod:85]
Modules linked in: nk_fail(OE+)
CPU: 0 PID: 85 Comm: insmod Tainted: G           OE      6.1.0-56-cloud-amd64 #1
RIP: 0010:fail_spin+0x10/0x19 [nk_fail]
Call Trace:
 <TASK>
 do_one_initcall+0x56/0x220
 </TASK>
"""
WARNED = """\
------------[ cut here ]------------
Voluntary context switch within RCU read-side critical section!
WARNING: CPU: 0 PID: 86 at kernel/rcu/tree_plugin.h:320 note+0x4ee/0x650
CPU: 0 PID: 86 Comm: reads Tainted: G           OE      6.1.0-56-cloud-amd64 #1
RIP: 0010:note+0x4ee/0x650
Call Trace:
 <TASK>
 sleep_as_reader+0x14/0x20 [nk_fail]
 </TASK>
---[ end trace 0000000000000000 ]---
"""
STALL = """\
rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
rcu: \tTasks blocked on level-0 rcu_node (CPUs 0-0): P90/1:b..l
\t(detected by 0, t=752 jiffies, g=-875, q=5 ncpus=1)
task:nk_reads        state:D stack:0     pid:90    ppid:2      flags:0x00004000
Call Trace:
 <TASK>
 __schedule+0x34d/0xa00
 msleep+0x29/0x40
 sleep_as_reader+0x14/0x20 [nk_fail]
 </TASK>
"""
PANIC = """\
Kernel panic - not syncing: sysrq triggered crash
CPU: 0 PID: 1 Comm: sh Not tainted 6.1.0-56-cloud-amd64 #1
Call Trace:
 <TASK>
 dump_stack_lvl+0x44/0x5c
 panic+0x118/0x2f4
 sysrq_handle_crash+0x16/0x20
 __handle_sysrq.cold+0x43/0x11a
 </TASK>
Kernel Offset: disabled
---[ end Kernel panic - not syncing: sysrq triggered crash ]---
"""
NESTED = """\
general protection fault, probably for non-canonical address 0x7af1f6864c06102: 0
CPU: 0 PID: 0 Comm: swapper/0 Not tainted 6.1.0-56-cloud-amd64 #1
RIP: 0010:timer_fn+0x2d/0x36
Call Trace:
 <IRQ>
 call_timer_fn+0x27/0x130
 </IRQ>
 <TASK>
 asm_sysvec_apic_timer_interrupt+0x16/0x20
RIP: 0010:default_idle+0x10/0x20
 do_idle+0x20b/0x2a0
 </TASK>
---[ end trace 0000000000000000 ]---
Kernel panic - not syncing: Fatal exception in interrupt
---[ end Kernel panic - not syncing: Fatal exception in interrupt ]---
"""


def cut(text: str) -> list[Incident]:
    return incidents((number, line) for number, line in enumerate(text.splitlines()))


def test_an_oops() -> None:
    (oops,) = cut("loading\n" + OOPS + "and on it goes\n")
    assert (oops.kind, oops.time, oops.task) == (Kind.NULL_POINTER, 1, "my task (85)")
    assert oops.frames == ["poke [driver]", "do_one_initcall", "do_syscall_64"]
    assert oops.address == 0x38
    assert oops.registers["RBX"] == 0xFFFFFFFFC0206000  # the kernel's, not the user's
    assert oops.registers["RAX"] == 0
    assert not oops.panics
    assert "and on it goes" not in oops.lines


def test_a_hung_task_with_a_colon_in_its_name() -> None:
    (hung,) = cut(HUNG)
    assert (hung.kind, hung.comm, hung.pid) == (Kind.HUNG_TASK, "nk:waits", 86)
    assert hung.frames[2] == "wait_for_nothing [nk_fail]"


def test_a_lockup() -> None:
    (lockup,) = cut(LOCKUP)
    assert (lockup.kind, lockup.task) == (Kind.SOFT_LOCKUP, "insmod (85)")
    assert lockup.frames[0] == "fail_spin [nk_fail]"


def test_frames_of_the_interrupted_are_frames_too() -> None:
    fault, panic = cut(NESTED)
    assert fault.frames == [
        "timer_fn",
        "call_timer_fn",
        "asm_sysvec_apic_timer_interrupt",
        "default_idle",
        "do_idle",
    ]
    assert fault.address == 0x7AF1F6864C06102
    assert (panic.kind, panic.panics) == (Kind.PANIC, True)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("BUG: unable to handle page fault for address: ffffc90000587f48",
         Kind.BAD_POINTER),
        ("BUG: KASAN: slab-use-after-free in f+0x1/0x2", Kind.USE_AFTER_FREE),
        ("BUG: KFENCE: use-after-free read in f+0x1/0x2", Kind.USE_AFTER_FREE),
        ("BUG: KASAN: slab-out-of-bounds in f+0x1/0x2", Kind.BAD_POINTER),
        ("BUG kmalloc-64 (Not tainted): Poison overwritten", Kind.SLAB_CORRUPTION),
        ("refcount_t: underflow; use-after-free.", Kind.USE_AFTER_FREE),
        ("divide error: 0000 [#1] PREEMPT SMP NOPTI", Kind.DIVIDE_ERROR),
        ("invalid opcode: 0000 [#2] SMP", Kind.OOPS),
        ("rcu: INFO: rcu_preempt self-detected stall on CPU", Kind.RCU_STALL),
        ("rcu: INFO: rcu_sched detected stalls on CPUs/tasks:", Kind.RCU_STALL),
        ("NMI watchdog: Watchdog detected hard LOCKUP on cpu 3", Kind.HARD_LOCKUP),
        ("BUG: scheduling while atomic: sh/84/0x00000002", Kind.SCHEDULING),
        ("WARNING: CPU: 0 PID: 1 at mm/slab.c:1 f+0x1/0x2", Kind.WARNING),
        ("Kernel panic - not syncing: Out of memory: panic_on_oom", Kind.OUT_OF_MEMORY),
        ("Kernel panic - not syncing: Attempted to kill init!", Kind.PANIC),
    ],
)  # fmt: skip
def test_what_a_line_begins(line: str, kind: Kind) -> None:
    assert [incident.kind for incident in cut(line)] == [kind]


@pytest.mark.parametrize(
    "line",
    [
        "ACPI BIOS Warning (bug): Optional FADT field has zero length",
        "random: crng init done",
        "Kernel command line: panic=1 oops=panic",
        "NMI watchdog: Perf NMI watchdog permanently disabled",
        "process '/bin/busybox' started with executable stack",
        "rcu: RCU calculated value of scheduler-enlistment delay is 25 jiffies.",
        "",
    ],
)
def test_what_begins_none(line: str) -> None:
    assert cut(line) == []


def _kinds(text: str, freed: str = "") -> list[tuple[Kind, tuple[str, ...]]]:
    found = of_incidents(cut(text), (), lambda _: freed)
    return [(finding.kind, finding.functions) for finding in found]


def test_findings_name_who_is_to_blame() -> None:
    assert _kinds(OOPS + PANIC) == [
        (Kind.NULL_POINTER, ("poke [driver]",)),
        (Kind.PANIC, ("sysrq_handle_crash",)),
    ]


def test_a_null_pointer_stays_one_whatever_is_free() -> None:
    assert _kinds(OOPS, "proof")[0][0] is Kind.NULL_POINTER
    assert _kinds(NESTED, "proof")[0][0] is Kind.USE_AFTER_FREE
    assert _kinds(NESTED)[0][0] is Kind.GENERAL_PROTECTION


def test_a_hung_task_that_hangs_still_is_told_of_once() -> None:
    (seen,) = of_incidents(cut(HUNG), (), lambda _: "")
    assert seen.functions == ("wait_for_nothing [nk_fail]",)
    assert list(of_incidents(cut(HUNG), [seen], lambda _: "")) == []


def _whats(text: str) -> list[str]:
    return [found.what for found in of_incidents(cut(text), (), lambda _: "")]


def test_a_warning_says_what_it_is_about() -> None:
    message = "Voluntary context switch within RCU read-side critical section!"
    place = "at kernel/rcu/tree_plugin.h:320"
    _, *silent = WARNED.splitlines()[1:]
    assert _whats(WARNED) == [f"warning: {message} {place}"]
    assert _whats("\n".join(silent)) == [f"warning {place}"]


def test_a_stall_names_the_reader() -> None:
    (stall,) = of_incidents(cut(STALL), (), lambda _: "")
    assert stall.what == "RCU stall: rcu_preempt detected stalls on CPUs/tasks"
    assert (stall.task, stall.functions) == (
        "nk_reads (90)", ("sleep_as_reader [nk_fail]",),
    )  # fmt: skip
    assert list(of_incidents(cut(STALL), [stall], lambda _: "")) == []


def test_a_watchdog_that_says_it_again_is_told_of_once() -> None:
    (found,) = of_incidents(cut(HUNG + HUNG.replace("120", "241")), (), lambda _: "")
    assert found.what == "task nk:waits (86) was blocked for 241 s or more"
    assert found.time == 0.0
    assert found.evidence[0].startswith("said 2 times, the last at ")
    assert len(_whats(HUNG + HUNG.replace("86", "87"))) == 2


def test_memory_that_ran_out_is_one_finding() -> None:
    killing = "a invoked oom-killer: gfp_mask=0x1\nCall Trace:\n eat+0x1/0x2 [m]\n"
    end = "Kernel panic - not syncing: System is deadlocked on memory\n"
    (found,) = of_incidents(cut(2 * killing + end), (), lambda _: "")
    assert found.functions == ("eat [m]",)
    assert "deadlocked on memory" in found.what


def test_a_panic_that_shows_no_stack_is_where_the_cpu_is() -> None:
    line = "Kernel panic - not syncing: sysrq triggered crash"
    (found,) = of_incidents(cut(line), (), lambda _: "", ("delay", "panic", "f"))
    assert found.functions == ("f",)


def test_what_the_nanokernel_knows() -> None:
    triple = stopped("triple fault", ("f", "g"), 1.5)
    assert (triple.kind, triple.functions) == (Kind.NANOKERNEL, ("f",))
    assert "triple fault" in triple.what
    assert reported_panic("no init", ("panic", "f")).functions == ("f",)
