# SPDX-License-Identifier: GPL-2.0-or-later
"""A debugger that does everything it can, at random places, and must change nothing.

Runs a machine to a fixed virtual time while it stops, steps, inserts breakpoints and
watchpoints, reads memory and registers, writes and restores them, changes the
scheduler's quantum, drops translations, and has clients come and go over the real stub.
``fingerprint`` is what must come out the same.
"""

import asyncio
import hashlib
import random
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

from nanokernel_vm.clock import TICKS_PER_MS
from nanokernel_vm.cpu.engine import NEVER
from nanokernel_vm.debug import DebugMachine, PartitionInferior
from nanokernel_vm.digest import digest
from nanokernel_vm.machine import Machine
from nanokernel_vm.partition import Partition
from stub import amd64
from stub.errors import TargetError
from stub.ids import ALL, ThreadId
from stub.server import parse_endpoint, serve
from stub.stops import AtBreakpoint, AtWatchpoint, StopReason
from stub.target import Action, BreakpointKind
from tests.raw_client import RawClient

_RIP, _RSP = amd64.BY_NAME["rip"].number, amd64.BY_NAME["rsp"].number
GRID = 20 * TICKS_PER_MS  # runs end on it; every quantum divides it
QUANTA = (1, 2, 4, 5, 10, 20)
#: Registers that a call of a function sets, and others
_LENT = ("rip", "rsp", "rdi", "rax", "r11", "eflags", "xmm3", "st0", "fs_base")
_PATIENCE = 60.0  # seconds
_WATCHES = (BreakpointKind.WRITE, BreakpointKind.READ, BreakpointKind.ACCESS)


class Mark:
    """A deadline just before each of the moments at which a run may end.

    Idle partitions leap from deadline to deadline; this one is in everybody's way.
    """

    def __init__(self) -> None:
        self._next = GRID - 1

    def deadline(self) -> int | None:
        """The next one."""
        return self._next

    def expire(self, now: int) -> None:
        """Nothing happens."""
        self._next = (now // GRID + 1) * GRID - 1
        self._next += GRID if self._next <= now else 0


def prepare(machine: Machine, inputs: Mapping[int, tuple[str, bytes]]) -> None:
    """Keep whole logs, and let inputs arrive at their virtual times.

    Args:
        machine: A new one.
        inputs: Virtual time to partition and the bytes typed at its console.
    """
    for partition in machine.partitions:
        partition.log.deliveries = deque()
        partition.timed = [*partition.timed, Mark()]
    for time, (name, data) in sorted(inputs.items()):
        board = machine.board(name)
        assert board is not None
        assert board.console_input is not None
        board.partition.life.inputs.append((time, board.console_input, data))


def fingerprint(machine: Machine) -> dict[str, object]:
    """All that a partition is and has seen, per partition."""
    found: dict[str, object] = {}
    for board in machine.boards:
        p = board.partition
        deliveries = hashlib.sha256(repr(list(p.log.deliveries)).encode())
        found |= {
            f"{p.name} clock": p.clock,
            f"{p.name} condition": p.condition,
            f"{p.name} delivered": p.log.delivered,
            f"{p.name} deliveries": deliveries.hexdigest(),
            f"{p.name} console": bytes(board.console.output),
            **{f"{p.name} {part}": d for part, d in digest(board).rows().items()},
        }
    return found


def run_plainly(machine: Machine, end: int) -> None:
    """Run all partitions to ``end`` ticks, undisturbed."""
    while running := _before(machine, end):
        machine.goal = lambda: any(p.clock >= end for p in running)
        machine.run(running)


def _before(machine: Machine, end: int) -> Sequence[Partition]:
    return [p for p in machine.partitions if p.alive and p.clock < end]


class Perturber:
    """Disturbs one machine.

    Args:
        machine: Prepared.
        end: Virtual time in ticks to run to, on the grid.
        seed: Of all that is random but the moments of an interrupt from outside.
        pace: Ticks between two disturbances, about.
        kinds: Names of what to do; all by default.
    """

    def __init__(
        self,
        machine: Machine,
        end: int,
        seed: int,
        pace: int,
        kinds: Sequence[str] = (),
    ) -> None:
        self._machine, self._end, self._pace = machine, end, pace
        self._random = random.Random(seed)
        self._debug = DebugMachine(machine, {}, self._on_end)
        self._ended = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._debug.attach()
        self._inferiors = {
            i.pid: i
            for i in self._debug.inferiors()
            if isinstance(i, PartitionInferior)
        }
        self._places: dict[int, list[int]] = {pid: [] for pid in self._inferiors}
        self._kinds = [
            k for k in self.KINDS if not kinds or k.__name__.strip("_") in kinds
        ]
        self.done: Counter[str] = Counter()

    def run(self) -> None:
        """Run to the end."""
        try:
            asyncio.run(self._run())
        finally:
            self._loop = None
            self._debug.close()

    def _on_end(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._ended.set)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        while running := _before(self._machine, self._end):
            await self._continue()
            self.done["stops"] += 1
            partition = self._random.choice(running)
            if partition.alive and partition.clock < self._end:
                places = self._places[partition.pid]
                places.append(partition.engine.state.rip)
                del places[:-200]
                kind = self._random.choice(self._kinds)
                await kind(self, self._inferiors[partition.pid])

    async def _continue(self, to_deadline: bool = False) -> StopReason | None:
        """Let all run that have not come to the end, but not for long."""
        running = _before(self._machine, self._end)
        if not running:
            return None
        for p in running:  # an idle one comes to its pause late, if ever
            due = p.deadline() if to_deadline else None
            p.ticker.pause = (
                p.clock + int(self._random.expovariate(1 / self._pace))
                if due is None
                else max(due - self._random.randrange(50), p.clock)
            )
        self._machine.goal = lambda: any(p.clock >= self._end for p in running)
        try:
            return await self._resume([Action(ThreadId(p.pid, ALL)) for p in running])
        finally:
            for p in running:
                p.ticker.pause = NEVER

    async def _resume(self, actions: Sequence[Action]) -> StopReason:
        reason = self._debug.resume(actions)
        return await reason if isinstance(reason, Awaitable) else reason

    # -- what it does to one inferior at a stop --------------------------------

    async def _look(self, inferior: PartitionInferior) -> None:
        """Read registers and memory, mapped or not."""
        inferior.read_registers(1)
        for base in (self._register(inferior, _RSP), self._register(inferior, _RIP)):
            offset = self._random.randrange(-4096, 4096)
            inferior.read_memory(base + offset & NEVER, self._random.randrange(1, 9000))
        inferior.read_memory(self._random.getrandbits(64), 64)
        self._debug.monitor(inferior.pid, f"translate {self._random.getrandbits(48)}")
        self.done["reads"] += 4

    async def _straddle(self, inferior: PartitionInferior) -> None:
        """Stop in the middle of the block in which a deadline passes."""
        await self._continue(to_deadline=True)
        for _ in range(self._random.randrange(1, 64)):
            await self._step_once(inferior)
        self.done["deadlines"] += 1

    async def _step(self, inferior: PartitionInferior) -> None:
        """Step some instructions, alone or with the others running."""
        for _ in range(int(2 ** self._random.uniform(0, 8))):
            await self._step_once(inferior)

    async def _step_once(self, inferior: PartitionInferior) -> None:
        if not self._near_the_end(inferior.partition):
            await self._resume([Action(ThreadId(inferior.pid, 1), step=True)])
            self.done["steps"] += 1

    async def _step_range(self, inferior: PartitionInferior) -> None:
        """Step within a range, as gdb's ``next`` does."""
        if self._near_the_end(inferior.partition):
            return
        rip = self._register(inferior, _RIP)
        span = (rip - self._random.randrange(64), rip + self._random.randrange(1, 64))
        await self._resume([Action(ThreadId(inferior.pid, 1), step=True, until=span)])
        self.done["ranges"] += 1

    async def _break(self, inferior: PartitionInferior) -> None:
        """Insert breakpoints where it has been, hit them some times, remove them."""
        places = self._places[inferior.pid]
        handlers = [d.handler for d in list(inferior.partition.log.deliveries)[-20:]]
        where = set(self._random.choices(places + handlers, k=4))
        kind = self._random.choice((BreakpointKind.SOFTWARE, BreakpointKind.HARDWARE))
        for addr in where:
            inferior.insert_breakpoint(kind, addr, 1)
        self.done["breakpoints"] += len(where)
        await self._hit(AtBreakpoint, "hits")
        for addr in where:
            inferior.remove_breakpoint(kind, addr, 1)

    async def _watch(self, inferior: PartitionInferior) -> None:
        """Watch a piece of the stack, some times."""
        addr = self._register(inferior, _RSP) + self._random.randrange(-64, 64)
        kind, size = self._random.choice(_WATCHES), self._random.choice((1, 2, 4, 8))
        try:
            inferior.insert_breakpoint(kind, addr & NEVER, size)
        except TargetError:
            return
        self.done["watchpoints"] += 1
        await self._hit(AtWatchpoint, "watched")
        inferior.remove_breakpoint(kind, addr & NEVER, size)

    async def _hit(self, kind: type[StopReason], name: str) -> None:
        """Continue some times."""
        for _ in range(10):
            reason = await self._continue()
            self.done[name] += isinstance(reason, kind)

    async def _interrupt(self, inferior: PartitionInferior) -> None:
        """Ctrl-C after some host time, which no two runs have in common."""
        delay = self._random.expovariate(1000)
        timer = threading.Timer(delay, self._debug.interrupt)
        timer.start()
        await self._continue()
        timer.join()
        self.done["interrupts"] += 1

    async def _forget(self, inferior: PartitionInferior) -> None:
        """Drop translations of code."""
        inferior.partition.engine.flush_translations()
        self.done["flushes"] += 1

    async def _deal(self, _: PartitionInferior) -> None:
        """Deal out time in other quanta."""
        self._machine.quantum = self._random.choice(QUANTA) * TICKS_PER_MS
        self.done["quanta"] += 1

    async def _pretend(self, inferior: PartitionInferior) -> None:
        """Do all that gdb does for ``call f()`` but run it, and undo it as gdb does."""
        registers = inferior.read_registers(1)
        rsp, rip = self._register(inferior, _RSP), self._register(inferior, _RIP)
        kept = {
            addr: inferior.read_memory(addr & NEVER, length)
            for addr, length in ((rsp - 256, 256), (rip, 15))
        }
        for name in self._random.choices(_LENT, k=6):
            register = amd64.BY_NAME[name]
            value = self._random.randbytes(register.size)
            inferior.write_register(1, register.number, value)
        for addr, data in kept.items():
            if data:
                inferior.write_memory(addr & NEVER, self._random.randbytes(len(data)))
        for addr, data in kept.items():
            if data:
                inferior.write_memory(addr & NEVER, data)
        inferior.write_registers(1, registers)
        self.done["calls"] += 1

    async def _visit(self, inferior: PartitionInferior) -> None:
        """A client comes, looks, goes away, and the machine runs on without any."""
        soon = max(p.clock for p in self._machine.partitions) + TICKS_PER_MS
        if soon + 2 * GRID > self._end:
            return
        self._machine.goal = lambda: any(
            p.clock >= soon for p in self._machine.partitions
        )
        server = await serve(self._debug, parse_endpoint("localhost:0"))
        try:
            async with RawClient.connected(server.address) as client:
                await client.ask(b"qSupported:multiprocess+;swbreak+")
                await client.ask(b"Hgp%x.1" % inferior.pid)
                for request in (b"?", b"g", b"m%x,40" % self._register(inferior, _RSP)):
                    await client.ask(request)
                if self._random.randrange(2):
                    await client.ask(b"D;%x" % inferior.pid)
            await self._run_unwatched()
        finally:
            server.close()
            await server.wait_closed()
        self._debug.attach()
        self.done["visits"] += 1

    async def _run_unwatched(self) -> None:
        """Wait for what the client has left running, wholly or in part."""
        async with asyncio.timeout(_PATIENCE):
            while not (self._machine.goal() and self._at_rest()):
                await self._ended.wait()
                self._ended.clear()

    def _at_rest(self) -> bool:
        free = self._debug._free
        return free is not None and free.done()

    def _near_the_end(self, partition: Partition) -> bool:
        """Whether a step, which may wait for a whole quantum, could lead past it."""
        return partition.clock + 2 * self._machine.quantum >= self._end

    def _register(self, inferior: PartitionInferior, number: int) -> int:
        return int.from_bytes(inferior.read_register(1, number), "little")

    KINDS: Sequence[Callable[..., Awaitable[None]]] = (
        *(
            _look,
            _look,
            _look,
            _look,
            _straddle,
            _straddle,
            _step,
            _step_range,
            _break,
            _watch,
        ),
        *(_interrupt, _forget, _deal, _pretend, _visit),
    )
