# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a bad pointer was read out of memory that had been freed.

SLUB keeps the list of free objects in the objects themselves.  With
CONFIG_SLAB_FREELIST_HARDENED the word at ``s->offset`` of a free object is

    next ^ s->random ^ swab(address of the word)        (mm/slub.c: freelist_ptr)

so that whoever still uses the object takes garbage for a pointer.  From that garbage
and a cache's secret the address of the word follows, byte by byte, because both it
and ``next`` lie in the direct map; if there is an object of that very cache, with its
link there, it is no accident.  It holds even if the object has been given away again.

With slub_debug, or list poison, the pointer speaks for itself (include/linux/poison.h).
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from drgn import Object, Program
from drgn.helpers.linux.slab import for_each_slab_cache, slab_object_info

from nanokernel_vm.linux.awareness.kernel import Awareness, has, text_of, understood

_CACHES_MAX = 4096
_MAP_SIZE = 1 << 36  # of RAM is looked for, 64 GiB

# value's upper bits: by how many bits it is shifted, what they are, what it means
_POISONS = (
    (16, 0x6B6B6B6B6B6B, "POISON_FREE, which slub_debug writes into freed objects"),
    (12, 0xDEAD000000000, "LIST_POISON, which list_del leaves in what it removes"),
)


def poison(pointers: Iterable[int]) -> str:
    """Return what a poisoned pointer among these says; empty: none is."""
    for pointer in pointers:
        for shift, pattern, meaning in _POISONS:
            if pointer >> shift == pattern:
                return f"{pointer:#x} is {meaning}"
    return ""


@understood
def free_link(kernel: Awareness, pointers: Iterable[int]) -> str:
    """Return which free object a pointer among these is the link of; empty: none."""
    program = kernel.program
    base = _direct_map(program)
    suspects = sorted({pointer for pointer in pointers if _odd(pointer)})
    for cache in islice(for_each_slab_cache(program), _CACHES_MAX):
        if not has(cache, "random"):
            return ""  # not hardened: the link would be a good address
        secret = cache.random.value_()
        for pointer in suspects:
            for place in link_places(pointer ^ secret, base):
                if (found := _object(program, cache, place)) is not None:
                    return (
                        f"{pointer:#x} is the link that SLUB keeps in a free object of "
                        f"{text_of(cache.name)}, at {found:#x}+{place - found:#x}"
                    )
    return ""


def link_places(word: int, base: int) -> Iterator[int]:
    """Yield where a link may stand, by ``next ^ swab(address)``.

    Args:
        word: That.
        base: Where the direct map begins.
    """
    mapped = range(base, base + _MAP_SIZE, 8)
    last = _swab(word)  # the end of the list: next is 0
    if last in mapped:
        yield last
    for upper in range(base, mapped.stop, 1 << 32):
        place = _place(word, upper)
        if place in mapped and word ^ _swab(place) in mapped:
            yield place


def _place(word: int, upper: int) -> int:
    """Where a link stands whose address, and its next's, begins as ``upper``.

    Bytes 7 to 4 of both are known.  Those of ``next`` meet bytes 0 to 3 of the place in
    the word, so these follow, and nothing is unknown any more.
    """
    known, mixed = upper.to_bytes(8, "little"), word.to_bytes(8, "little")
    low = bytes(mixed[7 - number] ^ known[7 - number] for number in range(4))
    return int.from_bytes(low + known[4:], "little")


def _swab(word: int) -> int:
    return int.from_bytes(word.to_bytes(8, "little"), "big")


def _odd(pointer: int) -> bool:
    """Whether a word is nothing that a register holds in good health."""
    upper = pointer >> 47
    return upper not in (0, (1 << 17) - 1)


def _direct_map(program: Program) -> int:
    """Where it begins: a variable, unless the kernel knows no other place."""
    try:
        place = program.symbol("page_offset_base").address
    except LookupError:
        return 0xFFFF888000000000  # Documentation/x86/x86_64/mm.rst
    return int(program.read_u64(place))


def _object(program: Program, cache: Object, place: int) -> int | None:
    """The object of a cache whose link stands at an address."""
    try:
        info = slab_object_info(program, place)
    except Exception:  # no page of memory
        return None
    if info is None or info.slab_cache != cache:
        return None
    return info.address if place - info.address == cache.offset.value_() else None
