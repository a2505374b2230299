# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory: what of it is free, and who has the rest."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from drgn import Object, Program
from drgn.helpers.linux.mm import task_rss, totalram_pages
from drgn.helpers.linux.mmzone import (
    for_each_online_pgdat,
    high_wmark_pages,
    low_wmark_pages,
    min_wmark_pages,
)
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.slab import (
    for_each_slab_cache,
    slab_cache_pages_per_slab,
    slab_cache_usage,
)
from drgn.helpers.linux.vmstat import (
    global_node_page_state,
    global_zone_page_state,
    zone_page_state,
)

from nanokernel_vm.linux.awareness.kernel import Awareness, text_of, understood

_PAGE = 4  # KiB
_SLABS_MAX = 4096

# /proc/meminfo's name: counter of a node (enum node_stat_item), in pages
_NODE = {
    "Active(anon)": "NR_ACTIVE_ANON",
    "Inactive(anon)": "NR_INACTIVE_ANON",
    "Active(file)": "NR_ACTIVE_FILE",
    "Inactive(file)": "NR_INACTIVE_FILE",
    "Unevictable": "NR_UNEVICTABLE",
    "Dirty": "NR_FILE_DIRTY",
    "Writeback": "NR_WRITEBACK",
    "AnonPages": "NR_ANON_MAPPED",
    "Mapped": "NR_FILE_MAPPED",
    "Shmem": "NR_SHMEM",
    "PageTables": "NR_PAGETABLE",
    "SReclaimable": "NR_SLAB_RECLAIMABLE_B",  # in pages, whatever its name says
    "SUnreclaim": "NR_SLAB_UNRECLAIMABLE_B",
}
# Kept in KiB already
_KIB = {"KernelStack": "NR_KERNEL_STACK_KB"}


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone of memory; sizes in KiB, the watermarks too."""

    name: str
    managed: int
    free: int
    min: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Consumer:
    """A process or a slab cache; size in KiB."""

    name: str
    pid: int | None
    size: int


@dataclass(frozen=True, slots=True)
class Meminfo:
    """Memory in KiB.

    Attributes:
        total: What Linux may use.
        free: What nobody has.
        counters: By the names of /proc/meminfo, those that this kernel keeps.
        zones: Those that have pages.
        processes: Resident sizes, the largest first.
        slabs: Slab caches, the largest first.
    """

    total: int
    free: int
    counters: dict[str, int]
    zones: tuple[Zone, ...]
    processes: tuple[Consumer, ...]
    slabs: tuple[Consumer, ...]


@understood
def meminfo(kernel: Awareness, largest: int = 5) -> Meminfo:
    """Return how memory is used, with the ``largest`` processes and slab caches."""
    program = kernel.program
    return Meminfo(
        total=totalram_pages(program) * _PAGE,
        free=_zone_pages(program, "NR_FREE_PAGES") * _PAGE,
        counters=dict(_counters(program)),
        zones=tuple(_zones(program)),
        processes=_largest(_processes(program), largest),
        slabs=_largest(_slabs(program), largest),
    )


def _zone_pages(program: Program, item: str) -> int:
    return global_zone_page_state(program, program.constant(item))


def _counters(program: Program) -> Iterator[tuple[str, int]]:
    for name, item in _NODE.items():
        if (pages := _node_state(program, item)) is not None:
            yield name, pages * _PAGE
    for name, item in _KIB.items():
        if (size := _node_state(program, item)) is not None:
            yield name, size
    yield "PageCache", (_node_state(program, "NR_FILE_PAGES") or 0) * _PAGE


def _node_state(program: Program, item: str) -> int | None:
    try:
        return global_node_page_state(program, program.constant(item))
    except LookupError:
        return None


def _zones(program: Program) -> Iterator[Zone]:
    for node in for_each_online_pgdat(program):
        for zone in node.node_zones:
            if zone.present_pages:
                yield _zone(program, zone.address_of_())


def _zone(program: Program, zone: Object) -> Zone:
    return Zone(
        name=text_of(zone.name),
        managed=zone.managed_pages.counter.value_() * _PAGE,
        free=zone_page_state(zone, program.constant("NR_FREE_PAGES")) * _PAGE,
        min=min_wmark_pages(zone) * _PAGE,
        low=low_wmark_pages(zone) * _PAGE,
        high=high_wmark_pages(zone) * _PAGE,
    )


def _processes(program: Program) -> Iterator[Consumer]:
    for task in for_each_task(program):
        if task.mm and task.pid.value_() == task.tgid.value_():
            size = task_rss(program, task).total * _PAGE
            yield Consumer(text_of(task.comm), task.pid.value_(), size)


def _slabs(program: Program) -> Iterator[Consumer]:
    for cache in islice(for_each_slab_cache(program), _SLABS_MAX):
        try:
            usage = slab_cache_usage(cache)
        except Exception:  # one broken list must not hide the others
            continue
        pages = usage.num_slabs * slab_cache_pages_per_slab(cache)
        yield Consumer(text_of(cache.name), None, pages * _PAGE)


def _largest(consumers: Iterator[Consumer], count: int) -> tuple[Consumer, ...]:
    rows = sorted(consumers, key=lambda row: row.size, reverse=True)
    return tuple(rows[:count])
