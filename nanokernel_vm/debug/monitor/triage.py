# SPDX-License-Identifier: GPL-2.0-or-later
"""The command that says what has happened to a kernel."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from nanokernel_vm.clock import TICKS_PER_SECOND
from nanokernel_vm.debug.monitor.command import Command, Request
from nanokernel_vm.linux.awareness import Awareness, NoLinuxError
from nanokernel_vm.partition import Condition, Partition
from nanokernel_vm.triage import Interrupt, Report, Subject, examine
from nanokernel_vm.triage.text import lines

_INTERRUPTS = 16


def _kernel(request: Request) -> Awareness | NoLinuxError:
    try:
        return request.kernel
    except NoLinuxError as error:
        return error


def _interrupts(partition: Partition) -> Iterator[Interrupt]:
    log = partition.log.deliveries
    for row in islice(log, max(len(log) - _INTERRUPTS, 0), None):
        yield Interrupt(row.time / TICKS_PER_SECOND, row.vector, row.cpl, row.rip)


def _triage(request: Request) -> dict[str, Any]:
    partition, guest = request.partition, request.board.guest
    failed = partition.condition is Condition.FAILED
    subject = Subject(
        name=partition.name,
        kernel=_kernel(request),
        cpu=request.cpu,
        condition=partition.condition.value,
        failure=partition.failure if failed else "",
        panic=guest.panic if guest else "",
        now=partition.clock / TICKS_PER_SECOND,
        delivered=partition.log.delivered,
        interrupts=tuple(_interrupts(partition)),
    )
    return examine(subject).to_dict()


def _text(row: Mapping[str, Any]) -> Iterator[str]:
    return lines(Report.from_dict(row))


COMMANDS = (
    Command(
        "triage", "what has happened to the kernel, and where", (), _triage, _text, True
    ),
)
