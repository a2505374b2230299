# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts a partition together: the only place where ports and lines meet devices."""

from collections.abc import Callable
from dataclasses import dataclass, field

from nanokernel_vm.abi import layout as abi
from nanokernel_vm.clock import TICKS_PER_SECOND
from nanokernel_vm.config import DeviceConfig, MachineConfig, PartitionConfig
from nanokernel_vm.console import Console
from nanokernel_vm.cpu.engine import TSC_PER_TICK
from nanokernel_vm.devices.absent import I8042, Floating, Pci, PortA, Post
from nanokernel_vm.devices.bus import Device, PortBus
from nanokernel_vm.devices.cmos import Cmos
from nanokernel_vm.devices.pic import PicPair
from nanokernel_vm.devices.pit import Pit8254
from nanokernel_vm.devices.portb import PortB
from nanokernel_vm.devices.uart import Uart16550
from nanokernel_vm.linux.boot import BootFiles, boot
from nanokernel_vm.memory import Ram, Window
from nanokernel_vm.nanokernel.hypercalls import Guest
from nanokernel_vm.nanokernel.lines import InterruptLines
from nanokernel_vm.partition import Partition, Timed
from nanokernel_vm.symbols import kernel_file, resolve


@dataclass(slots=True)
class Board:
    """A partition with what hangs on it.

    Attributes:
        config: As described in the machine's file.
        partition: The operating system's processor and memory.
        files: What it boots.
        console: The other end of its first UART.
        console_input: Types bytes at that UART; None if it has none.
        console_backlog: How many bytes typed there have not been received yet.
        guest: Its registrations with the nanokernel, if it makes any.
        devices: Every chip on its ports, by name and first port.
    """

    config: PartitionConfig
    partition: Partition
    files: BootFiles
    console: Console
    console_input: Callable[[bytes], None] | None = None
    console_backlog: Callable[[], int] = lambda: 0
    guest: Guest | None = None
    devices: dict[str, Device] = field(default_factory=dict)


def build_board(config: PartitionConfig, ram: Ram, machine: MachineConfig) -> Board:
    """Make the partition, its devices and its wiring, and load its kernel.

    Raises:
        BusError: Devices overlap.
        LoadError: An image is not what it should be or does not fit.
    """
    window = Window(ram, config.base, config.size)
    files = BootFiles(
        kernel_file(config.kernel),
        resolve(config.initrd) if config.initrd else None,
        config.cmdline,
    )
    registered = config.interrupts == "registered"
    ports = _Ports()
    leaves = _leaves(config.pid) if registered else None
    partition = Partition(config.pid, config.name, window, ports, leaves)
    board = Board(config, partition, files, Console())
    ports.connect(partition)
    _Wiring(board, ports, machine.epoch).connect()
    boot(files, window, partition.engine.state)
    partition.engine.put_state()
    return board


def _leaves(pid: int) -> dict[int, tuple[int, int, int, int]]:
    """CPUID leaves by which a guest finds the nanokernel."""
    words = [int.from_bytes(abi.SIGNATURE[i : i + 4], "little") for i in (0, 4, 8)]
    khz = TICKS_PER_SECOND * TSC_PER_TICK // 1000
    return {
        abi.CPUID_SIGNATURE_LEAF: (abi.CPUID_ABI_LEAF, words[0], words[1], words[2]),
        abi.CPUID_ABI_LEAF: (abi.REVISION, 0, pid, khz),
    }


class _Ports:
    """The port space: devices behind a bus, and the nanokernel's own port."""

    def __init__(self) -> None:
        self.bus = PortBus(self._unclaimed)
        self.guest: Guest | None = None
        self._partition: Partition | None = None
        self._controllers: set[int] = set()

    def connect(self, partition: Partition) -> None:
        """Say whose ports these are."""
        self._partition = partition

    def map(self, base: int, device: Device, controller: bool = False) -> None:
        """Give ``device`` its ports; telling a ``controller`` may let interrupts in."""
        self.bus.map(base, device)
        if controller:
            self._controllers.update(range(base, base + device.SIZE))

    def read(self, port: int, size: int) -> int:
        """IN."""
        return self.bus.read(port, size)

    def write(self, port: int, size: int, value: int) -> None:
        """OUT."""
        partition = self._partition
        if partition is None:
            raise AssertionError("ports are connected before anything runs")
        if port == abi.PORT_HYPERCALL and self.guest is not None:
            engine = partition.engine
            engine.set_rax(self.guest.call(*engine.io_registers()))
            return
        frames = partition.frames()
        if port == abi.PORT_RETURN and frames is not None:
            partition.returns(frames)
            return
        self.bus.write(port, size, value)
        if port in self._controllers and partition.interrupted:
            partition.reschedule()

    def _unclaimed(self, port: int, size: int, value: int | None) -> None:
        if self._partition is not None:
            self._partition.violation("port", port, size, value)


class _Wiring:
    """Connects the devices of one board."""

    def __init__(self, board: Board, ports: _Ports, epoch: int) -> None:
        self._board, self._ports, self._epoch = board, ports, epoch
        self._partition = board.partition
        self._pics: PicPair | None = None
        self._lines: InterruptLines | None = None
        self._pit: Pit8254 | None = None

    def connect(self) -> None:
        partition = self._partition
        timed: list[Timed] = []
        if self._board.config.interrupts == "registered":
            guest = Guest(partition, self._epoch)
            self._board.guest, self._lines = guest, guest.lines
            self._ports.guest = guest
            partition.use_handlers(
                guest.gates.get, lambda: guest.syscall, lambda: guest.frames
            )
            partition.controller = guest.lines
            timed.append(guest)
        # The controller before what it serves, whatever the order in the description
        order = list(_CHIPS)
        for device in sorted(
            self._board.config.devices, key=lambda d: order.index(d.chip)
        ):
            timed += _CHIPS[device.chip](self, device)
        partition.timed = timed

    def map(self, base: int, device: Device, controller: bool = False) -> None:
        """Put a chip on the board."""
        self._ports.map(base, device, controller)
        name = type(device).__name__.lower()
        self._board.devices[f"{name}@{base:#x}"] = device

    def line(self, irq: int) -> Callable[[bool], None]:
        """The interrupt line ``irq`` as a device drives it."""
        controller = self._pics or self._lines
        reschedule = self._partition.reschedule

        def drive(level: bool) -> None:
            if controller is not None:
                controller.set_line(irq, level)
            if level:
                reschedule()

        return drive

    def pic(self, _: DeviceConfig) -> list[Timed]:
        pics = self._pics = PicPair()
        self._partition.controller = pics
        for base, chip in ((0x20, pics.master), (0xA0, pics.slave), (0x4D0, pics.elcr)):
            self.map(base, chip, controller=True)
        return []

    def pit(self, device: DeviceConfig) -> list[Timed]:
        pit = self._pit = Pit8254(
            self.line(device.irq or 0), self._partition, self._partition.wake
        )
        self.map(device.port, pit)
        return [pit]

    def portb(self, device: DeviceConfig) -> list[Timed]:
        pit = self._pit
        if pit is not None:
            self.map(device.port, PortB(pit.set_gate, pit.out, self._partition))
        return []

    def cmos(self, device: DeviceConfig) -> list[Timed]:
        cmos = Cmos(
            self.line(device.irq or 8),
            self._partition,
            self._epoch,
            self._partition.wake,
        )
        self.map(device.port, cmos)
        return [cmos]

    def uart(self, device: DeviceConfig) -> list[Timed]:
        uart = Uart16550(
            self._board.console.transmit,
            self.line(device.irq or 0),
            self._partition,
            self._partition.wake,
        )
        self.map(device.port, uart)
        if self._board.console_input is None:
            self._board.console_input = uart.receive
            self._board.console_backlog = uart.backlog
        return [uart]

    def i8042(self, _: DeviceConfig) -> list[Timed]:
        self.map(0x60, Floating(1))
        self.map(0x64, I8042(self._reset))
        return []

    def pci(self, device: DeviceConfig) -> list[Timed]:
        self.map(device.port, Pci(self._reset))
        return []

    def post(self, device: DeviceConfig) -> list[Timed]:
        self.map(device.port, Post())
        return []

    def reset(self, device: DeviceConfig) -> list[Timed]:
        self.map(device.port, PortA(self._reset))
        return []

    def _reset(self) -> None:
        self._partition.shut_down(restart=True)


_CHIPS: dict[str, Callable[[_Wiring, DeviceConfig], list[Timed]]] = {
    name: getattr(_Wiring, name)
    for name in ["pic", "pit", "portb", "cmos", "uart", "i8042", "pci", "post", "reset"]
}
