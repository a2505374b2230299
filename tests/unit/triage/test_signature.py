# SPDX-License-Identifier: GPL-2.0-or-later
"""What counts in a signature and what does not."""

from nanokernel_vm.triage.report import Kind
from nanokernel_vm.triage.signature import (
    blamed,
    interrupted,
    normalized,
    signature,
)

TRACE = ("__list_del_entry_valid.cold", "drop [m]", "close", "exit", "main", "start")


def test_what_the_compiler_adds_does_not_count() -> None:
    for name in ("f.isra.0", "f.constprop.12", "f.part.0.isra.1", "f.cold", "f"):
        assert normalized(name) == "f"
    assert normalized("f.isra.0 [module]") == "f [module]"


def test_who_only_reports_is_not_to_blame() -> None:
    assert blamed(TRACE)[0] == "drop [m]"
    assert blamed(["dump_stack_lvl", "panic", "sysrq_handle_crash"]) == [
        "sysrq_handle_crash"
    ]
    assert blamed(["__schedule", "schedule"]) == ["__schedule", "schedule"]
    assert blamed([]) == []


def test_an_interrupt_is_not_what_a_task_is_stuck_in() -> None:
    timer = ["tick", "asm_sysvec_apic_timer_interrupt"]
    line = ["handle", "common_interrupt", "asm_common_interrupt"]
    assert interrupted([*timer, *line, "spin [m]", "main"]) == ["spin [m]", "main"]
    assert interrupted(["copy", "asm_exc_page_fault", "f"])[0] == "copy"
    assert interrupted([]) == []


def test_a_modules_function_is_never_machinery() -> None:
    assert blamed(["panic [m]", "f"]) == ["panic [m]", "f"]


def test_same_failures_are_the_same() -> None:
    once = signature(Kind.LIST_CORRUPTION, [TRACE])
    assert once.startswith("list-corruption-")
    assert once == signature(Kind.LIST_CORRUPTION, [TRACE[1:]])
    assert once == signature(Kind.LIST_CORRUPTION, [("drop.isra.3 [m]", *TRACE[2:])])


def test_the_bottom_of_the_stack_does_not_count() -> None:
    assert signature(Kind.BUG, [TRACE]) == signature(
        Kind.BUG, [(*TRACE, "ret_from_fork")]
    )


def test_different_failures_differ() -> None:
    rows = [
        signature(Kind.BUG, [TRACE]),
        signature(Kind.LIST_CORRUPTION, [TRACE]),
        signature(Kind.BUG, [TRACE[2:]]),
        signature(Kind.BUG, [("drop [n]", *TRACE[2:])]),
        signature(Kind.BUG, [TRACE, TRACE]),
        signature(Kind.BUG, []),
    ]
    assert len(set(rows)) == len(rows)


def test_the_order_of_tasks_does_not_count() -> None:
    pair = [("a", "b"), ("c", "d")]
    assert signature(Kind.DEADLOCK, pair) == signature(Kind.DEADLOCK, pair[::-1])


def test_the_depth_of_a_recursion_does_not_count() -> None:
    deep = signature(Kind.STACK_OVERFLOW, [["f"] * 90 + ["g", "h"]])
    assert deep == signature(Kind.STACK_OVERFLOW, [["f"] * 80 + ["g", "h"]])
    assert deep != signature(Kind.STACK_OVERFLOW, [["f"] * 90 + ["x", "h"]])
