# SPDX-License-Identifier: GPL-2.0-or-later
"""What makes two failures the same: their kind and the functions on top.

Addresses, offsets, task numbers, times and what the compiler adds to names differ from
boot to boot or build to build, so they do not count; nor do functions that only report,
allocate or wait, in which every failure of a kind looks alike.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from itertools import groupby

from nanokernel_vm.triage.report import Kind

TOP = 5
_DIGITS = 12
_INTERRUPT = re.compile(r"asm_(common_interrupt|sysvec_\w+)$")
_SUFFIX = re.compile(r"\.(isra|constprop|part|cold|llvm|lto_priv)(\.\d+)*")

# Functions in whose name nobody is to blame: they report, check, allocate, schedule,
# lock.  A trailing star stands for any end.
_MACHINERY_NAMES = """
    panic nmi_panic dump_stack* show_stack* die* __die* oops_* no_context
    page_fault_oops bad_area* __bad_area* exc_* asm_exc_* handle_bug do_error_trap
    do_trap* handle_stack_overflow report_bug __warn* warn_slowpath* fixup_bug
    __list_add* __list_del* list_add* list_del*
    refcount_warn_saturate usercopy_abort __stack_chk_fail fortify_panic
    dump_header oom_kill_process out_of_memory __oom* mem_cgroup_out_of_memory
    __alloc_pages* alloc_pages* __get_free_pages* get_zeroed_page* __folio_alloc*
    folio_alloc* vma_alloc_folio* pagecache_get_page __filemap_get_folio
    alloc_slab_page new_slab ___slab_alloc __slab_alloc kmem_cache_alloc*
    __kmem_cache_alloc* kmalloc* __kmalloc* vmalloc* __vmalloc*
    __schedule schedule* preempt_schedule* context_switch io_schedule* __switch_to*
    mutex_lock* __mutex_lock* down down_* __down* rwsem_* _raw_* __raw_* queued_spin*
    native_queued* do_raw_* delay_* __delay __udelay __const_udelay msleep* usleep*
    wait_for_completion* __wait_for_common rcu_note_context_switch
"""
_MACHINERY = re.compile(
    "|".join(rf"{name}$" for name in _MACHINERY_NAMES.replace("*", r"\w*").split())
)


def normalized(frame: str) -> str:
    """Return a frame's function without what differs between builds."""
    return _SUFFIX.sub("", frame)


def interrupted(frames: Sequence[str]) -> Sequence[str]:
    """Return the frames without those of interrupts that have come in between."""
    entries = [n for n, frame in enumerate(frames) if _INTERRUPT.match(frame)]
    return frames[entries[-1] + 1 :] if entries else frames


def blamed(frames: Iterable[str]) -> list[str]:
    """Return the frames from the first that is not mere machinery, normalized.

    All of them, if there is nothing else.
    """
    names = [normalized(frame) for frame in frames]
    for number, name in enumerate(names):
        if not _MACHINERY.match(name):
            return names[number:]
    return names


def signature(kind: Kind, traces: Sequence[Iterable[str]]) -> str:
    """Return a word for a failure.

    Args:
        kind: What has happened.
        traces: The frames of each task that takes part, innermost first; in any order.
    """
    tops = sorted(_top(trace) for trace in traces)
    total = hashlib.sha256("\n".join((kind.name, *tops)).encode())
    word = kind.name.lower().replace("_", "-")
    return f"{word}-{total.hexdigest()[:_DIGITS]}"


def _top(trace: Iterable[str]) -> str:
    """The innermost functions in one line, a recursion as one."""
    return " < ".join([name for name, _ in groupby(blamed(trace))][:TOP])
