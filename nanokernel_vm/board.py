# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts a partition together: the only place where ports and lines meet devices."""

from collections.abc import Callable
from typing import TypeVar

from nanokernel_vm.abi import layout as abi
from nanokernel_vm.clock import TICKS_PER_SECOND, Clock
from nanokernel_vm.config import (
    DeviceConfig,
    Interrupts,
    MachineConfig,
    PartitionConfig,
)
from nanokernel_vm.console import Console
from nanokernel_vm.cpu.engine import TSC_PER_TICK
from nanokernel_vm.devices.bus import Device
from nanokernel_vm.devices.chip import Controller, Line
from nanokernel_vm.devices.chips import CHIPS
from nanokernel_vm.devices.timed import TimedDevice
from nanokernel_vm.devices.uart import Uart16550
from nanokernel_vm.linux.boot import BootFiles, boot
from nanokernel_vm.memory import Ram, Window
from nanokernel_vm.nanokernel.hypercalls import Guest
from nanokernel_vm.partition import Partition, Timed
from nanokernel_vm.ports import PortSpace
from nanokernel_vm.symbols import kernel_file, resolve

_Kind = TypeVar("_Kind", bound=Device)
_ORDER = list(CHIPS)


class Board:
    """A partition with what hangs on it; switched on when it is made.

    Args:
        config: As described in the machine's file.
        ram: Of the machine.
        machine: The other parts of its description.

    Attributes:
        partition: The operating system's processor and memory.
        files: What it boots.
        console: The other end of its first UART.
        guest: Its registrations with the nanokernel, if it makes any.
        devices: Every chip on its ports, by name and first port.
        lives: How often it has been switched on.

    Raises:
        BusError: Devices overlap.
        LoadError: An image is not what it should be or does not fit.
    """

    def __init__(
        self, config: PartitionConfig, ram: Ram, machine: MachineConfig
    ) -> None:
        self.config, self._epoch = config, machine.epoch
        self.files = BootFiles(
            kernel_file(config.kernel),
            resolve(config.initrd) if config.initrd else None,
            config.cmdline,
        )
        self.console = Console()
        self._registers = config.interrupts is Interrupts.REGISTERED
        self._ports = PortSpace()
        self.partition = Partition(
            config.pid,
            config.name,
            Window(ram, config.base, config.size),
            self._ports,
            _leaves(config.pid) if self._registers else None,
        )
        self.guest: Guest | None = None
        self.devices: dict[str, Device] = {}
        self.lives = 0
        self.power_on()

    def power_on(self) -> None:
        """Switch it on, for the first time or again.

        What is left of the life before: the clock, which has gone on, what a battery
        keeps, logs, the console, and what a debugger has set.

        Raises:
            LoadError: An image is no longer what it should be.
        """
        partition = self.partition
        batteries = {name: chip.battery() for name, chip in self.devices.items()}
        partition.window.clear()
        partition.power_on()
        self.console.begin_life()
        self._wire(batteries)
        boot(self.files, partition.window, partition.engine.state)
        partition.loaded()
        self.lives += 1

    @property
    def console_input(self) -> Callable[[bytes], None] | None:
        """Types bytes at its first UART; None if it has none."""
        return self._uart.receive if self._uart is not None else None

    @property
    def console_backlog(self) -> int:
        """How many bytes typed there have not been received yet."""
        return self._uart.backlog() if self._uart is not None else 0

    @property
    def _uart(self) -> Uart16550 | None:
        chips = self.devices.values()
        return next((chip for chip in chips if isinstance(chip, Uart16550)), None)

    def _wire(self, batteries: dict[str, dict[str, object]]) -> None:
        """Make all chips anew, the controller before what it serves."""
        partition = self.partition
        self.devices = {}
        guest = self.guest = Guest(partition, self._epoch) if self._registers else None
        self._ports.power_on(partition, guest)
        slot = _Slot(self, self._epoch)
        if guest is not None:
            slot.interrupt_by(guest.lines)
            partition.use_handlers(
                guest.gates.get, lambda: guest.syscall, lambda: guest.frames
            )
        for row in sorted(self.config.devices, key=lambda d: _ORDER.index(d.chip)):
            self._fit(row, slot)
        for name, battery in batteries.items():
            self.devices[name].insert(battery)
        timed = [d for d in self.devices.values() if isinstance(d, TimedDevice)]
        nanokernel: list[Timed] = [] if guest is None else [guest]
        partition.timed = [*nanokernel, *timed]

    def _fit(self, row: DeviceConfig, slot: "_Slot") -> None:
        chip = CHIPS[row.chip]
        made = chip.make(slot, slot.line(row.irq))
        for ports, device in zip(row.ports, made, strict=True):
            self._ports.map(ports.start, device, chip.controls)
            name = f"{type(device).__name__.lower()}@{ports.start:#x}"
            self.devices[name] = device


def _leaves(pid: int) -> dict[int, tuple[int, int, int, int]]:
    """CPUID leaves by which a guest finds the nanokernel."""
    words = [int.from_bytes(abi.SIGNATURE[i : i + 4], "little") for i in (0, 4, 8)]
    khz = TICKS_PER_SECOND * TSC_PER_TICK // 1000
    return {
        abi.CPUID_SIGNATURE_LEAF: (abi.CPUID_ABI_LEAF, words[0], words[1], words[2]),
        abi.CPUID_ABI_LEAF: (abi.REVISION, 0, pid, khz),
    }


class _Slot:
    """A board as its chips see it; implements ``devices.chip.Slot``."""

    def __init__(self, board: Board, epoch: int) -> None:
        self._board, self._partition = board, board.partition
        self._controller: Controller | None = None
        self.clock: Clock = board.partition
        self.epoch = epoch
        self.wake = board.partition.wake
        self.transmit = board.console.transmit

    def reset(self) -> None:
        self._partition.shut_down(restart=True)

    def interrupt_by(self, controller: Controller) -> None:
        self._controller = self._partition.controller = controller

    def chip(self, kind: type[_Kind]) -> _Kind:
        return next(d for d in self._board.devices.values() if isinstance(d, kind))

    def line(self, irq: int | None) -> Line:
        """The interrupt line ``irq`` as a device drives it."""
        controller, reschedule = self._controller, self._partition.reschedule

        def drive(level: bool) -> None:
            if controller is not None and irq is not None:
                controller.set_line(irq, level)
            if level:
                reschedule()

        return drive
