# SPDX-License-Identifier: GPL-2.0-or-later
"""The I/O port bus, and what a device on it is.

A device declares its byte-wide registers by ``@reads(OFFSET)`` and ``@writes(OFFSET)``.
What it does not decode floats: reads give ones, writes vanish, and the first of each is
logged.  Wider accesses are taken apart into bytes, low byte first, as the ISA bus does
for 8-bit cards.  Knows nothing of CPUs, interrupts or time.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import partial
from typing import Any, ClassVar, TypeVar

from nanokernel_vm.errors import BusError

Reader = Callable[[], int]
Writer = Callable[[int], None]
Unclaimed = Callable[[int, int, int | None], None]

_Method = TypeVar("_Method", bound=Callable[..., Any])

LOG = logging.getLogger(__name__)
PORTS = 0x1_0000
_READS, _WRITES = "_reads_offsets", "_writes_offsets"


def reads(*offsets: int) -> Callable[[_Method], _Method]:
    """Make a method, ``() -> int``, the read side of byte registers."""
    return partial(_mark, _READS, offsets)


def writes(*offsets: int) -> Callable[[_Method], _Method]:
    """Make a method, ``(value: int) -> None``, the write side of byte registers."""
    return partial(_mark, _WRITES, offsets)


def _mark(kind: str, offsets: tuple[int, ...], method: _Method) -> _Method:
    setattr(method, kind, offsets)
    return method


class Device:
    """A chip: byte registers at offsets, and state that can be saved.

    Every attribute is plain data, except those that ``WIRING`` names: callables and the
    clock, given at construction.

    Attributes:
        SIZE: Ports that it decodes.
        WIRING: Attributes that are no state.
        BATTERY: Attributes that outlast a power-on.
    """

    SIZE: int
    WIRING: ClassVar[tuple[str, ...]] = ()
    BATTERY: ClassVar[tuple[str, ...]] = ()
    _readers: ClassVar[dict[int, str]] = {}
    _writers: ClassVar[dict[int, str]] = {}

    def __init_subclass__(cls) -> None:
        """Collect the registers that the class declares."""
        cls._readers = cls._readers | dict(_declared(cls, _READS))
        cls._writers = cls._writers | dict(_declared(cls, _WRITES))

    def __init__(self) -> None:
        self._floated: set[tuple[str, int]] = set()

    def reader(self, offset: int) -> Reader:
        """Return what reads the byte at ``offset``."""
        name = self._readers.get(offset)
        return getattr(self, name) if name else partial(self._read_float, offset)

    def writer(self, offset: int) -> Writer:
        """Return what writes the byte at ``offset``."""
        name = self._writers.get(offset)
        return getattr(self, name) if name else partial(self._write_float, offset)

    def read(self, offset: int, size: int) -> int:
        """Read ``size`` bytes from ``offset`` on, each one a register of its own."""
        return sum(self.reader(offset + i)() << 8 * i for i in range(size))

    def write(self, offset: int, size: int, value: int) -> None:
        """Write ``size`` bytes from ``offset`` on, each one a register of its own."""
        for i in range(size):
            self.writer(offset + i)(value >> 8 * i & 0xFF)

    def state(self) -> dict[str, Any]:
        """Return a copy of everything that a snapshot must hold."""
        kept = (*self.WIRING, "_floated")
        return deepcopy({k: v for k, v in vars(self).items() if k not in kept})

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what ``state()`` returned."""
        vars(self).update(deepcopy(state))

    def battery(self) -> dict[str, Any]:
        """Return a copy of what outlasts a power-on."""
        return {name: deepcopy(getattr(self, name)) for name in self.BATTERY}

    def insert(self, battery: Mapping[str, Any]) -> None:
        """Take over, just made, what the chip's predecessor kept."""
        vars(self).update(battery)

    def _read_float(self, offset: int) -> int:
        self._log_float("read", offset)
        return 0xFF

    def _write_float(self, offset: int, value: int) -> None:
        self._log_float("write", offset)

    def _log_float(self, verb: str, offset: int) -> None:
        if (verb, offset) not in self._floated:
            self._floated.add((verb, offset))
            LOG.debug("%s: %s at +%#x floats", type(self).__name__, verb, offset)


def _declared(cls: type, kind: str) -> Iterator[tuple[int, str]]:
    for name, member in vars(cls).items():
        for offset in getattr(member, kind, ()):
            yield offset, name


class PortBus:
    """The 65,536 ports of one partition.

    Args:
        unclaimed: Called with port, size and value (None: a read) of an access to ports
            that no device owns.
    """

    def __init__(self, unclaimed: Unclaimed) -> None:
        self._unclaimed = unclaimed
        self._readers: dict[int, Reader] = {}
        self._writers: dict[int, Writer] = {}
        self._owners: dict[int, tuple[Device, int]] = {}

    def map(self, base: int, device: Device) -> None:
        """Give ``device`` its ports, from ``base`` on.

        Raises:
            BusError: It has no ports, or one is taken or beyond 0xffff.
        """
        ports = range(base, base + device.SIZE)
        self._check(ports, device)
        for offset, port in enumerate(ports):
            self._readers[port] = device.reader(offset)
            self._writers[port] = device.writer(offset)
            self._owners[port] = (device, base)

    def read(self, port: int, size: int) -> int:
        """Read 1, 2 or 4 bytes; all ones where nobody answers."""
        reader = self._readers.get(port)
        if size == 1 and reader:
            return reader()
        if self._all_free(port, size):
            self._unclaimed(port, size, None)
            return (1 << 8 * size) - 1
        owner = self._sole_owner(port, size)
        if owner:
            return owner[0].read(port - owner[1], size)
        return sum(self.read(port + i & 0xFFFF, 1) << 8 * i for i in range(size))

    def write(self, port: int, size: int, value: int) -> None:
        """Write 1, 2 or 4 bytes; they vanish where nobody listens."""
        writer = self._writers.get(port)
        if size == 1 and writer:
            writer(value & 0xFF)
        elif self._all_free(port, size):
            self._unclaimed(port, size, value)
        elif owner := self._sole_owner(port, size):
            owner[0].write(port - owner[1], size, value)
        else:
            for i in range(size):
                self.write(port + i & 0xFFFF, 1, value >> 8 * i & 0xFF)

    def _all_free(self, port: int, size: int) -> bool:
        return not any(port + i & 0xFFFF in self._readers for i in range(size))

    def _sole_owner(self, port: int, size: int) -> tuple[Device, int] | None:
        owner = self._owners.get(port)
        if owner and port + size <= owner[1] + owner[0].SIZE:
            return owner
        return None

    def _check(self, ports: range, device: Device) -> None:
        name = type(device).__name__
        if not ports:
            raise BusError(f"{name} at {ports.start:#x} has no ports")
        if ports.start < 0 or ports.stop > PORTS:
            raise BusError(f"{name}: ports {_span(ports)} are not within 0x0-0xffff")
        for port in ports:
            if port in self._owners:
                owner = type(self._owners[port][0]).__name__
                raise BusError(f"{name}: port {port:#x} belongs to {owner} already")


def _span(ports: range) -> str:
    return f"{ports.start:#x}-{ports.stop - 1:#x}"
