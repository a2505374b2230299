# SPDX-License-Identifier: GPL-2.0-or-later
"""Random code in ring 0 and in ring 3, beside a neighbour that counts.

The machine goes on, the neighbour has what it has alone, and has its turns.
"""

import ctypes
import random
import tempfile
from pathlib import Path

from nanokernel_vm.memory import PAGE_SIZE
from nanokernel_vm.partition import Condition, Partition
from tests.fuzz.campaign import Broken, still_alive
from tests.fuzz.hypercalls import build
from tests.fuzz.neighbour import NEIGHBOUR, check_neighbour
from tests.guests import MS, WINDOW, symbols

LENGTH = 64
_ROUNDS = 2  # turns of a quantum that a block may run
_CHECKED = 100  # blocks between two looks at the neighbour

_GATES = "\n".join(f"    gate {v}, stop, 0x8e, {1 if v == 8 else 0}" for v in range(22))
_VICTIM = """
main:
{gates}
    {enter}
user:
    jmp user
stop:
    cli
    hlt
.data
.balign 4096
block: .fill 4096, 1, 0xcc
data: .skip 0x10000
.text
"""
_RINGS = {
    0: _VICTIM.format(gates=_GATES, enter=""),
    3: _VICTIM.format(gates=_GATES, enter="call open_pages\n    enter_user user"),
}

_MACHINE = f"""
[machine]
quantum_ms = 1
[partition.victim]
pid = 1
base = 0
size = {WINDOW:#x}
kernel = "victim"
device = [
    {{ chip = "uart", port = 0x3f8, irq = 4 }},
    {{ chip = "pic" }}, {{ chip = "pit" }}, {{ chip = "cmos" }},
]
[partition.neighbour]
pid = 2
base = {WINDOW:#x}
size = {WINDOW:#x}
kernel = "neighbour"
device = [{{ chip = "uart", port = 0x2f8, irq = 3 }}]
"""

_PREFIXES = b"\xf0\xf2\xf3\x66\x67\x2e\x36\x3e\x26\x64\x65" + bytes(range(0x40, 0x50))
_ESCAPES = (
    b"",
    b"",
    b"\x0f",
    b"\x0f",
    b"\x0f\x38",
    b"\x0f\x3a",
    b"\xc5",
    b"\xc4",
    b"\x62",
)


def block(rng: random.Random) -> bytes:
    """64 bytes: at random, or instructions of random prefixes and opcodes."""
    if rng.random() < 0.3:
        return rng.randbytes(LENGTH)
    code = b""
    while len(code) < LENGTH:
        prefixes = bytes(rng.choices(_PREFIXES, k=rng.choice((0, 0, 1, 1, 2))))
        code += prefixes + rng.choice(_ESCAPES) + rng.randbytes(rng.randrange(2, 8))
    return code[:LENGTH]


def _filled(memory: bytes) -> bytes:
    """Put INT3 where nothing is: zeros would be a very long run of ADDs."""
    empty = bytes(PAGE_SIZE)
    return b"".join(
        page if page != empty else b"\xcc" * PAGE_SIZE
        for page in (
            memory[at : at + PAGE_SIZE] for at in range(0, len(memory), PAGE_SIZE)
        )
    )


class _Victim:
    """The partition that runs the code, put back to one moment before each block."""

    def __init__(self, folder: Path, ring: int) -> None:
        self.source = _RINGS[ring]
        self.machine = build(folder, _MACHINE, victim=self.source, neighbour=NEIGHBOUR)
        self.machine.goal = lambda: True  # one round a run
        self.partition, self.neighbour = self.machine.partitions
        self._round()
        state = self.partition.engine.state
        if state.cpl != ring:
            raise Broken(f"the victim is in ring {state.cpl}")
        self._state = ctypes.string_at(ctypes.addressof(state), ctypes.sizeof(state))
        window = self.partition.window
        self._memory = _filled(window.read(window.base, window.size))

    def _round(self) -> None:
        self.machine.run(self.machine.partitions)

    def try_block(self, code: bytes, rng: random.Random) -> None:
        """Run one block for a bounded time; then the neighbour has had its turn."""
        partition, engine = self.partition, self.partition.engine
        partition.window.write(partition.window.base, self._memory)
        partition.window.write(_symbol(partition, self.source, "block"), code)
        ctypes.memmove(ctypes.addressof(engine.state), self._state, len(self._state))
        self._aim(rng)
        engine.put_state()
        engine.flush_translations()
        engine.flush_tlb()
        partition.life.condition, partition.life.failure = Condition.RUNNING, ""
        turns = self.neighbour.clock // MS
        for _ in range(_ROUNDS):
            self._round()
        # The round in which the victim ends is cut short; the next one goes on with it.
        if self.neighbour.clock // MS < turns + _ROUNDS - 1:
            raise Broken(f"the neighbour did not have its turns beside {code.hex()}")

    def _aim(self, rng: random.Random) -> None:
        """Registers: mostly pointers to what is there."""
        state = self.partition.engine.state
        data = _symbol(self.partition, self.source, "data")
        for index in range(16):
            near = rng.random() < 0.7 or index == 4
            state.regs[index] = (
                data + 0x4000 + rng.randrange(0x8000) if near else rng.getrandbits(64)
            )
        state.rip = _symbol(self.partition, self.source, "block")

    @property
    def spent(self) -> bool:
        """Whether the engine itself has failed: it runs nothing any more."""
        return "engine died" in self.partition.failure


def _symbol(partition: Partition, source: str, name: str) -> int:
    return symbols(source)[name] + partition.window.base


def _some(rng: random.Random, folder: Path, ring: int, count: int) -> None:
    victim = _Victim(folder, ring)
    for number in range(1, count + 1):
        still_alive()
        victim.try_block(block(rng), rng)
        if number % _CHECKED == 0 or number == count:
            check_neighbour(victim.neighbour)
        if victim.spent:
            check_neighbour(victim.neighbour)
            victim = _Victim(folder, ring)


def piece(rng: random.Random, count: int) -> int:
    """Half of the blocks in each ring."""
    with tempfile.TemporaryDirectory() as folder:
        for ring in _RINGS:
            _some(rng, Path(folder), ring, count // 2)
    return count // 2 * 2
