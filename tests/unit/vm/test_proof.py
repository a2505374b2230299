# SPDX-License-Identifier: GPL-2.0-or-later
"""A Unicorn that keeps its state elsewhere is refused, whatever field has moved."""

import ctypes
import subprocess
import sys
from typing import Any

import pytest

from nanokernel_vm.cpu import hook, proof
from nanokernel_vm.cpu._interpose import Core
from nanokernel_vm.cpu.state import CONTEXT_SIZE, HEADER_SIZE, LAYOUT, State
from nanokernel_vm.errors import EngineError

prove = proof.prove.__wrapped__


def moved(name: str, offset: int, ctype: Any) -> type[State]:
    """A State that looks for one field 8 bytes behind where it is."""

    def field(self: State) -> Any:
        place = ctypes.addressof(self) + HEADER_SIZE + offset + 8
        return ctype.from_address(place)

    def get(self: State) -> Any:
        found = field(self)
        return found.value if hasattr(found, "value") else found

    def put(self: State, value: Any) -> None:
        field(self).value = value

    return type(f"Moved{name}", (State,), {name: property(get, put)})


def test_the_installed_one_is_accepted() -> None:
    prove()


@pytest.mark.parametrize(("name", "offset", "ctype"), LAYOUT, ids=lambda v: str(v)[:20])
def test_a_field_that_has_moved_is_noticed(
    name: str, offset: int, ctype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "State", moved(name, offset, ctype))
    with pytest.raises(EngineError, match=r"install unicorn==2\.1\.4"):
        prove()


def test_another_size_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "CONTEXT_SIZE", CONTEXT_SIZE + 8)
    with pytest.raises(EngineError, match="5608 bytes, not 5616"):
        prove()


def test_a_function_that_is_missing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "MISSING", "tlb_flush_x86_64")
    with pytest.raises(EngineError, match="no tlb_flush_x86_64"):
        prove()


def test_a_tlb_that_is_elsewhere_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lost(Core):
        def page(self, va: int, /) -> int:
            return 0

    monkeypatch.setattr(proof, "Core", Lost)
    with pytest.raises(EngineError, match="its TLB has"):
        prove()


def test_a_library_that_was_there_first_is_noticed() -> None:
    """Its calls of its own functions have been bound to them for good."""
    text = "import unicorn, nanokernel_vm.cpu.proof as p; p.prove()"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert "EngineError" in done.stderr
    assert "imported before nanokernel_vm" in done.stderr


def test_too_little_address_space_is_said_and_not_the_end() -> None:
    """The library itself ends the process."""
    text = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
from nanokernel_vm.cpu.proof import prove
from nanokernel_vm.errors import EngineError
try:
    prove()
except EngineError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert "see ulimit -v" in done.stdout, done.stderr
    assert done.returncode == 0


def test_a_decoder_that_goes_by_another_way_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Lenient:
        def __init__(self, uc: int) -> None:
            self.core = Core(uc)
            self.core.lenient = True

        def run(self, rip: int) -> int:
            return self.core.run(rip)

    monkeypatch.setattr(proof, "Core", Lenient)
    with pytest.raises(EngineError, match="LOCK MOV"):
        prove()


def test_the_fields_do_not_overlap() -> None:
    ends = [offset + ctypes.sizeof(ctype) for _, offset, ctype in LAYOUT]
    starts = [offset for _, offset, _ in LAYOUT]
    assert all(e <= s for e, s in zip(ends, starts[1:], strict=False))
    assert HEADER_SIZE + ends[-1] <= CONTEXT_SIZE


def test_a_hook_that_looks_otherwise_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fields = hook._Layout._fields_
    swapped = (*fields[:1], ("more", ctypes.c_uint64), *fields[1:])
    moved = type("Moved", (ctypes.Structure,), {"_fields_": swapped})
    monkeypatch.setattr(hook, "_Layout", moved)
    with pytest.raises(EngineError, match="a hook's range"):
        prove()
