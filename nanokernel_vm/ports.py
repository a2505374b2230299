# SPDX-License-Identifier: GPL-2.0-or-later
"""The port space of a partition: devices on a bus, and the nanokernel's own ports."""

from nanokernel_vm.abi import layout as abi
from nanokernel_vm.devices.bus import Device, PortBus
from nanokernel_vm.nanokernel.hypercalls import Guest
from nanokernel_vm.partition import Partition


class PortSpace:
    """IN and OUT: what answers is put there by each power-on."""

    def power_on(self, partition: Partition, guest: Guest | None) -> None:
        """Be empty, but for what the nanokernel answers ``guest``."""
        self._partition, self._guest = partition, guest
        self._bus = PortBus(partition.port_violation)
        self._controllers: set[int] = set()

    def map(self, base: int, device: Device, controls: bool) -> None:
        """Give ``device`` its ports; to write to them may let interrupts in."""
        self._bus.map(base, device)
        if controls:
            self._controllers.update(range(base, base + device.SIZE))

    def read(self, port: int, size: int) -> int:
        """IN."""
        return self._bus.read(port, size)

    def write(self, port: int, size: int, value: int) -> None:
        """OUT."""
        partition = self._partition
        if port == abi.PORT_HYPERCALL and self._guest is not None:
            engine = partition.engine
            engine.set_rax(self._guest.call(*engine.io_registers()))
            return
        frames = partition.frames()
        if port == abi.PORT_RETURN and frames is not None:
            partition.returns(frames)
            return
        self._bus.write(port, size, value)
        if port in self._controllers and partition.interrupted:
            partition.reschedule()
