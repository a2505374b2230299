# SPDX-License-Identifier: GPL-2.0-or-later
"""What is seen while the processor is on a user's copy of the page tables."""

import pytest

from nanokernel_vm.cpu.paging import NO_EXECUTE
from nanokernel_vm.debug import PartitionInferior
from nanokernel_vm.debug.sight import Sight
from tests.guests import Tiny

# As Linux's pti.c: the top tables of kernel and user in two pages, the kernel's first.
# User space (here the first 4 GiB) is in both, without execution in the kernel's; the
# kernel, at the top, in its own only.
_TABLES = """
main:
    mov %cr3, %rbx
    mov (%rbx), %rax
    lea kernel(%rip), %rdi
    lea user(%rip), %rsi
    mov %rax, (%rsi)
    bts $63, %rax
    mov %rax, (%rdi)
    lea pdpt(%rip), %rcx
    or $3, %rcx
    mov %rcx, 0xff8(%rdi)
    lea directory(%rip), %rcx
    or $3, %rcx
    mov %rcx, pdpt+0xff0(%rip)
    movq $0x83, directory(%rip)
    die
.data
.balign 8192
kernel: .skip 4096
user: .skip 4096
pdpt: .skip 4096
directory: .skip 4096
"""
KERNEL = 0xFFFF_FFFF_8000_0000


@pytest.fixture
def guest() -> Tiny:
    guest = Tiny(_TABLES)
    guest.finish()
    guest.engine.state.cr[3] = guest.label("user") | 0x800  # and a user's PCID
    return guest


def test_the_kernel_is_seen_through_its_own_tables(guest: Tiny) -> None:
    inferior = PartitionInferior(guest, None)
    main = guest.label("main")
    code = guest.window.read(main, 16)
    assert inferior.read_memory(KERNEL + main, 16) == code
    assert inferior.read_memory(main, 16) == code
    inferior.write_memory(KERNEL + main, b"\x90")
    assert guest.window.read(main, 1) == b"\x90"


def test_it_is_asked_for_addresses_of_the_kernel_only(guest: Tiny) -> None:
    sight = Sight(guest)
    assert sight.space_of(KERNEL).cr3 == guest.label("kernel") | 0x800
    assert sight.space_of(1 << 40) == sight.space  # not mapped, and not the kernel's
    guest.engine.state.cr[3] = guest.label("kernel")
    assert Sight(guest).space_of(KERNEL).cr3 == guest.label("kernel")


@pytest.mark.parametrize("entry", [0, NO_EXECUTE | 3, 1])
def test_a_page_below_that_shares_no_user_space_is_not_the_kernels(
    guest: Tiny, entry: int
) -> None:
    guest.window.write(guest.label("kernel"), entry.to_bytes(8, "little"))
    assert Sight(guest).page(KERNEL) is None


def test_two_empty_tables_prove_nothing(guest: Tiny) -> None:
    for table in ("kernel", "user"):
        guest.window.write(guest.label(table), bytes(8))
    assert Sight(guest).page(KERNEL) is None
