# SPDX-License-Identifier: GPL-2.0-or-later
"""A partition: one operating system, its processor, memory, devices and virtual time.

The rules that make a run the same run whoever watches:

* Deadlines are absolute ticks in device state.  They are looked at only at an eligible
  entry (``cpu/_ticker.c``: a taken transfer, also that to a handler, or the first
  instruction of a page) because one was due, never at a debugger's stop.  The end of a
  turn is such an entry, too.
* Whatever may let an interrupt in calls ``reschedule``; one that finds IF clear is
  tried again POLL ticks later.  Both are state; any other stop lets nothing in.
* What the TLB holds can be seen in accessed bits.  It is flushed when the program says
  so and on a grid of virtual time, life.TLB_GRID, and never for a debugger.
* Every delivery moves the clock by BUMP, more than the longest instruction, so that the
  clock alone names a position.  It is also what a delivery costs: a turn, which ends by
  the clock, is bounded in work, too.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Protocol

from nanokernel_vm.clock import END, TICKS_PER_SECOND
from nanokernel_vm.cpu import state as s
from nanokernel_vm.cpu.cpuid import Registers, answer
from nanokernel_vm.cpu.delivery import (
    GP,
    PF,
    UD,
    Delivery,
    Gate,
    TripleFault,
    address_space,
    read_virtual,
    system_enter,
)
from nanokernel_vm.cpu.engine import NEVER, Engine, Event, Ports
from nanokernel_vm.cpu.io_privilege import CheckedPorts
from nanokernel_vm.life import Condition, Life, Wish, next_flush
from nanokernel_vm.memory import Window
from nanokernel_vm.nanokernel.frames import Frames
from nanokernel_vm.nanokernel.log import LENGTH, Delivered, Log, Violation

__all__ = ["BUMP", "POLL", "Condition", "Controller", "Outcome", "Partition", "Timed"]

BUMP = 400  # 1 us
POLL = 4000
# As long as this a kernel has interrupts off by mistake only: Linux's hard lockup
# detector waits 10 s, too (kernel/watchdog.c, watchdog_thresh).
_TOO_LONG = 10 * TICKS_PER_SECOND
_FRUITLESS = 10_000  # deliveries with no instruction between them
_SYSCALL_LENGTH = 2

_LOG = logging.getLogger(__name__)


class Outcome(Enum):
    """Why ``Partition.run`` returned."""

    QUANTUM = "quantum"  # the clock has come to the given time
    DEAD = "dead"
    RESTARTED = "restarted"  # it was switched on again, at its own wish
    BREAKPOINT = "breakpoint"
    STEP = "step"
    WATCH = "watch"
    PAUSE = "pause"
    INTERRUPT = "interrupt"


_STOPS = {
    Event.BREAKPOINT: Outcome.BREAKPOINT,
    Event.STEP: Outcome.STEP,
    Event.WATCH: Outcome.WATCH,
    Event.PAUSE: Outcome.PAUSE,
    Event.INTERRUPT: Outcome.INTERRUPT,
}


class Timed(Protocol):
    """A device, or the nanokernel's timer, with a deadline in ticks."""

    def deadline(self) -> int | None:
        """When it wants ``expire``."""

    def expire(self, now: int) -> None:
        """Its deadline has passed."""


class Controller(Protocol):
    """An interrupt controller."""

    @property
    def output(self) -> bool:
        """Whether it interrupts the processor."""

    def acknowledge(self) -> int:
        """Take the interrupt; its vector."""


class Partition:
    """One operating system on its own engine.

    Args:
        pid: Number, from 1.
        name: One word.
        window: Its memory.
        ports: Its port space.
        cpuid: A hypervisor's leaves that it sees: leaf to registers.
    """

    def __init__(
        self,
        pid: int,
        name: str,
        window: Window,
        ports: Ports,
        cpuid: Mapping[int, Registers] | None = None,
    ) -> None:
        self.pid, self.name, self.window = pid, name, window
        self.log = Log()
        leaves = cpuid or {}
        checked = CheckedPorts(ports, self._refuse_port)
        self.engine = Engine(
            window,
            checked,
            lambda leaf, subleaf, cr4: answer(leaf, subleaf, cr4, leaves),
            self._memory_violation,
        )
        checked.engine = self.engine
        self.ticker = self.engine.ticker
        self.life = Life()
        self.controller: Controller | None = None
        self.timed: Sequence[Timed] = ()
        self.registered: Callable[[int], Gate | None] | None = None
        self.syscall: Callable[[], tuple[int, int] | None] = lambda: None
        self.frames: Callable[[], Frames | None] = lambda: None
        self.input_log: deque[tuple[int, bytes]] = deque(maxlen=LENGTH)
        self._delivery = Delivery(window)

    # -- what the nanokernel and devices ask of it ---------------------------

    @property
    def clock(self) -> int:
        """Virtual time in ticks; exact between runs."""
        return self.ticker.clock

    @property
    def alive(self) -> bool:
        """Whether it can still run."""
        return self.life.alive

    @property
    def condition(self) -> Condition:
        """Where its life stands."""
        return self.life.condition

    @property
    def failure(self) -> str:
        """Why it has ended, if not as it wished."""
        return self.life.failure

    @property
    def restart_wanted(self) -> bool:
        """Whether it has ended by what resets a PC."""
        return not self.alive and self.life.wish is Wish.RESTART

    @property
    def hang(self) -> str:
        """Why it does nothing any more although it runs; empty: it may."""
        if self.life.fruitless > _FRUITLESS:
            return f"only faults, at {self.engine.state.rip:#x}"
        masked = self.life.masked
        if masked is not None and self.clock - masked > _TOO_LONG:
            seconds = (self.clock - masked) // TICKS_PER_SECOND
            return f"interrupts off for {seconds} s, at {self.engine.state.rip:#x}"
        return ""

    def now(self) -> int:
        """Virtual time in ticks, exact also inside a port access."""
        return self.ticker.now()

    def read_virtual(self, va: int, length: int) -> bytes | None:
        """Memory at a virtual address with the page tables in use now."""
        return read_virtual(self.engine.address_space(), self.window, va, length)

    @property
    def interrupted(self) -> bool:
        """Whether an interrupt waits for the processor."""
        return self.controller is not None and self.controller.output

    def wake(self) -> None:
        """Look at deadlines at the next eligible entry: one has come closer."""
        self.ticker.deadline = 0

    def reschedule(self) -> None:
        """Look at deadlines and interrupts at the next eligible entry."""
        self.life.poll = 0
        self.ticker.deadline = 0

    def shut_down(self, restart: bool) -> None:
        """End at the next eligible entry, on the partition's own wish."""
        self.life.wish = Wish.RESTART if restart else Wish.SHUT_DOWN
        self.ticker.deadline = 0

    def use_handlers(
        self,
        registered: Callable[[int], Gate | None],
        syscall: Callable[[], tuple[int, int] | None],
        frames: Callable[[], Frames | None] = lambda: None,
    ) -> None:
        """Take handlers from the nanokernel's registry, not from an IDT and MSRs."""
        self._delivery = Delivery(self.window, registered, frames)
        self.registered, self.syscall, self.frames = registered, syscall, frames

    def gate(self, vector: int) -> Gate | None:
        """The handler in force for ``vector``, registered or in the IDT."""
        return self._delivery.gate(self.engine.state, vector)

    def type(self, receive: Callable[[bytes], None], data: bytes) -> None:
        """Let ``data`` arrive at a device just after the present moment."""
        if self.alive:
            time = self.clock + 1
            self.life.inputs.append((time, receive, data))
            self.input_log.append((time, data))

    def returns(self, frames: Frames) -> None:
        """It is about to return through the frame at its stack pointer."""
        self.life.doomed = frames.returns(self.engine.stack_pointer())
        if self.life.doomed:
            self.ticker.deadline = 0

    def rest(self, ticks: int) -> None:
        """Be idle for a time, then run."""
        self.life.condition = Condition.IDLE
        self.life.rests = self.clock + ticks

    def fail(self, why: str) -> None:
        """The partition is dead; the machine goes on."""
        if self.life.fail(why):
            _LOG.warning("partition %s failed: %s", self.name, why)

    def power_on(self) -> None:
        """Begin a new life at the present moment; then a program is to be loaded."""
        self.engine.power_on()
        self.life = Life.at(self.clock)

    def loaded(self) -> None:
        """There is a program in memory, and ``engine.state`` is to enter it."""
        self.engine.put_state()
        self.ticker.watched = 0  # what was loaded, no instruction has stored

    def plain(self) -> dict[str, object]:
        """What it waits for and where its life stands, as plain data."""
        ticker = self.ticker
        return {
            "clock": ticker.clock,
            "origin": ticker.origin,
            "expect": ticker.expect,
            "page": ticker.page,
            **self.life.plain(),
        }

    # -- running -------------------------------------------------------------

    def deadline(self) -> int | None:
        """The next moment at which something is due, in ticks."""
        life = self.life
        if life.is_ending:
            return 0
        times = [
            t for t in (device.deadline() for device in self.timed) if t is not None
        ]
        if life.inputs:
            times.append(life.inputs[0][0])
        if life.rests is not None:
            times.append(life.rests)
        if life.poll is not None and life.condition is not Condition.IDLE:
            times.append(life.poll)
        due = min(times, default=END)
        return due if due < END else None

    def run(self, until: int) -> Outcome:
        """Run to the first eligible entry at or past ``until`` ticks, or a stop."""
        while True:
            if self.condition is Condition.IDLE:
                self._idle(until)
                if self.condition is Condition.IDLE:
                    return self._turn_ends()
            if not self.alive:
                return Outcome.DEAD
            event = self._advance(until)
            if event in _STOPS:
                return _STOPS[event]
            if event is Event.CRASH:
                self.fail(str(self.engine.crash))
            elif self.life.doomed:
                self.fail(self.life.doomed)
            elif self.life.refused is not None:
                self._fault_of_port()
            elif event is Event.DEADLINE:
                self._service()
                if self.clock >= until and self.alive:
                    return self._turn_ends()
            else:
                _EVENTS[event](self)

    def _turn_ends(self) -> Outcome:
        """Take note of what its processor is kept from."""
        if self.engine.state.rflags & s.IF:
            self.life.masked = None
        elif self.life.masked is None:
            self.life.masked = self.clock
        return Outcome.QUANTUM

    def _advance(self, until: int) -> Event:
        """Run to the next event.

        What the engine looks for at a block's entry is looked for here, too: a handler
        that cannot be fetched has no block, and may fault for ever.
        """
        due, ticker = self.deadline(), self.ticker
        stop = min(until, self.life.forget)
        ticker.deadline = stop if due is None else min(due, stop)
        if ticker.interrupt:
            return Event.INTERRUPT
        if ticker.clock >= ticker.deadline and ticker.eligible(self.engine.state.rip):
            return Event.DEADLINE
        return self.engine.run()

    def _idle(self, until: int) -> None:
        """Jump over idle time, at most to ``until``; wake if an interrupt comes."""
        while self.condition is Condition.IDLE:
            due = self.deadline()
            if due is None or due > until:
                self.ticker.clock = max(self.clock, until)
                return
            self.ticker.clock = max(self.clock, due)
            self._service()

    def _service(self) -> None:
        """At an eligible entry: let everything due happen, then interrupt."""
        now, life = self.clock, self.life
        if now >= life.forget:
            self.engine.flush_tlb()
            life.forget = next_flush(now)
        if life.wish is not None:
            life.end()
            return
        if life.rests is not None and life.rests <= now:
            life.rests, life.condition = None, Condition.RUNNING
        while life.inputs and life.inputs[0][0] <= now:
            _, receive, data = life.inputs.popleft()
            receive(data)
        for device in self.timed:
            due = device.deadline()
            if due is not None and due <= now:
                device.expire(now)
        if life.poll is not None and life.poll <= now:
            life.poll = None
            self._interrupt(now)

    def _interrupt(self, now: int) -> None:
        controller = self.controller
        if controller is None or not controller.output:
            return
        if not self.engine.state.rflags & s.IF:
            self.life.poll = now + POLL
            return
        self.life.condition = Condition.RUNNING
        self._deliver(controller.acknowledge())
        if controller.output:
            self.life.poll = now  # another one waits behind it

    def _deliver(self, vector: int, error_code: int = 0, instruction: int = -1) -> None:
        cpu, now = self.engine.state, self.clock
        rip, cpl = cpu.rip, cpu.cpl
        result = self._delivery.deliver(cpu, vector, error_code, instruction)
        if isinstance(result, TripleFault):
            self._triple_fault(result)
            return
        entered, code, gate = result
        frames = self.frames()
        number = frames.sequence if frames is not None else 0
        self.log.delivery(Delivered(now, entered, rip, cpl, gate.handler, code, number))
        self._entered()

    def _triple_fault(self, fault: TripleFault) -> None:
        """A PC's chip set answers the processor's shutdown with a reset."""
        tried = ", ".join(f"{v:#x}" for v in fault.vectors)
        rip = self.engine.state.rip
        self.life.wish = Wish.RESTART
        self.fail(f"triple fault at {rip:#x}: vectors {tried}: {fault.why}")

    def _entered(self) -> None:
        """A handler is about to run: the clock moves, a step ends before it.

        Its entry is a transfer also where it is the instruction that faulted.
        """
        self.engine.put_state()
        life = self.life
        life.fruitless = life.fruitless + 1 if self.clock == life.entered_at else 0
        self.ticker.clock += BUMP
        life.entered_at = self.clock
        self.ticker.expect = NEVER
        if self.ticker.steps:
            self.ticker.steps = 1

    # -- events --------------------------------------------------------------

    def _on_vector(self) -> None:
        cpu, vector = self.engine.state, self.ticker.vector
        if cpu.is_software:
            self._deliver(vector, instruction=self._int_n(vector))
            return
        error_code = cpu.error_code & 0xFFFF_FFFF
        self._deliver(vector, error_code & 0x1F if vector == PF else error_code)

    def _int_n(self, vector: int) -> int:
        """Where the INT n is that rip stands behind; INT3 and INTO are one byte."""
        cpu, window = self.engine.state, self.window
        last = read_virtual(address_space(cpu, window), window, cpu.rip - 1, 1)
        return cpu.rip - (2 if last == bytes((vector,)) else 1)

    def _refuse_port(self) -> None:
        """An IN or OUT must be a #GP; the translator has no way out before a jump.

        What stands between has been executed in vain: the access itself did nothing.
        """
        if self.life.refused is None:
            self.life.refused = self.engine.register(41)
            self.ticker.deadline = 0

    def _fault_of_port(self) -> None:
        rip, self.life.refused = self.life.refused, None
        if rip is not None and self.engine.state.cpl:
            self.engine.state.rip = rip
            self._deliver(GP)

    def _on_syscall(self) -> None:
        cpu = self.engine.state
        if not (cpu.efer & s.SCE and cpu.hflags & s.HF_CS64):
            cpu.rip -= _SYSCALL_LENGTH
            self._deliver(UD)
            return
        entry, mask = self.syscall() or (cpu.lstar, cpu.fmask)
        fault = self._delivery.system_call(cpu, entry, mask)
        if fault is not None:
            self._triple_fault(fault)
            return
        self._entered()

    def _on_sysenter(self) -> None:
        system_enter(self.engine.state)
        self._entered()

    def _on_halt(self) -> None:
        if self.life.wish is not None:
            self.life.end()
        elif self.engine.state.rflags & s.IF:
            self.life.condition = Condition.IDLE
            if self.interrupted:
                self.life.poll = 0  # what could not come while interrupts were off
            self._service()
        else:
            self.life.end(f"halted with interrupts off at {self.engine.state.rip:#x}")

    def _on_error(self) -> None:
        rip = self.engine.state.rip
        self.fail(
            f"executed outside all memory at {rip:#x} (engine {self.engine.error})"
        )

    # -- wiring --------------------------------------------------------------

    def _memory_violation(self, addr: int, size: int, value: int | None) -> None:
        self.violation("memory", addr, size, value)

    def port_violation(self, port: int, size: int, value: int | None) -> None:
        """Record an access to a port that is not the partition's."""
        self.violation("port", port, size, value)

    def violation(self, space: str, addr: int, size: int, value: int | None) -> None:
        """Record an access to what is not the partition's."""
        rip = self.engine.register(41)
        self.log.violation(Violation(self.now(), space, addr, size, value, rip))


_EVENTS: dict[Event, Callable[[Partition], None]] = {
    Event.VECTOR: Partition._on_vector,
    Event.SYSCALL: Partition._on_syscall,
    Event.SYSENTER: Partition._on_sysenter,
    Event.HALT: Partition._on_halt,
    Event.ERROR: Partition._on_error,
}
