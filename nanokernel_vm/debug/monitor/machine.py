# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands about the machine: partitions, logs, physical memory."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from nanokernel_vm.clock import TICKS_PER_SECOND
from nanokernel_vm.cpu.paging import Level
from nanokernel_vm.debug.monitor.command import (
    Command,
    Parameter,
    Request,
    UsageError,
    count,
    number,
)
from nanokernel_vm.debug.sight import Sight
from nanokernel_vm.digest import digest
from nanokernel_vm.partition import Condition, Partition

_XP_MAX = 4096
_LAST = 20


def at(ticks: int) -> str:
    """A point in virtual time, in seconds."""
    return f"{ticks / TICKS_PER_SECOND:12.6f}"


@dataclass(frozen=True, slots=True)
class PartitionRow:
    """A partition's state; addresses physical but rip, time in ticks."""

    pid: int
    name: str
    base: int
    end: int
    ticks: int
    rip: int
    cpl: int
    condition: str
    failure: str


def _row(p: Partition) -> PartitionRow:
    state = p.engine.state
    return PartitionRow(
        p.pid, p.name, p.window.base, p.window.end, p.clock,
        state.rip, state.cpl, p.condition.value, p.failure,
    )  # fmt: skip


def _partitions(request: Request) -> list[PartitionRow]:
    return [_row(partition) for partition in request.machine.partitions]


def _partitions_text(rows: Sequence[PartitionRow]) -> Iterator[str]:
    for p in rows:
        failure = f" ({p.failure})" if p.failure else ""
        yield (
            f"{p.pid} {p.name:8} {p.base:#010x}-{p.end - 1:#010x} {at(p.ticks)} s  "
            f"rip {p.rip:#018x} cpl {p.cpl}  {p.condition}{failure}"
        )


def _info(request: Request) -> dict[str, Any]:
    board, partition = request.board, request.partition
    files, guest = board.files, board.guest
    return {
        "partition": partition.pid,
        "name": partition.name,
        "condition": partition.condition.value,
        "base": partition.window.base,
        "end": partition.window.end,
        "kernel": str(files.kernel),
        "initrd": str(files.initrd) if files.initrd else None,
        "command_line": files.cmdline,
        "ticks": partition.clock,
        "delivered": partition.log.delivered,
        "violations": partition.log.violated,
        "registered": len(guest.gates) if guest else None,
        "panic": guest.panic if guest else "",
    }


def _info_text(row: dict[str, Any]) -> Iterator[str]:
    yield f"partition    {row['partition']} {row['name']}, {row['condition']}"
    yield f"memory       {row['base']:#x}-{row['end'] - 1:#x}"
    yield f"kernel       {row['kernel']}"
    yield f"initrd       {row['initrd'] or 'none'}"
    yield f"command line {row['command_line']}"
    yield f"time         {at(row['ticks']).strip()} s ({row['ticks']} ticks)"
    yield f"interrupts   {row['delivered']} delivered"
    yield f"violations   {row['violations']}"
    if row["registered"] is not None:
        yield f"handlers     {row['registered']} registered"
    if row["panic"]:
        yield f"panic        {row['panic']}"


def _irqlog(request: Request) -> dict[str, Any]:
    log = request.partition.log
    count = min(request.get("N", _LAST), len(log.deliveries))
    first = len(log.deliveries) - count
    return {
        "partition": request.partition.name,
        "delivered": log.delivered,
        "last": [
            row._asdict() | {"seconds": row.time / TICKS_PER_SECOND}
            for row in islice(log.deliveries, first, None)
        ],
    }


def _irqlog_text(answer: dict[str, Any]) -> Iterator[str]:
    rows = answer["last"]
    yield (
        f"{answer['partition']}: {answer['delivered']} delivered, the last {len(rows)}:"
    )
    for row in rows:
        frame = f"  frame #{row['sequence']}" if row["sequence"] else ""
        yield (
            f"{at(row['time'])} s  vector {row['vector']:#04x}  "
            f"error {row['error_code']:#x}  from {row['rip']:#018x} "
            f"cpl {row['cpl']}  to {row['handler']:#018x}{frame}"
        )


def _violations(request: Request) -> dict[str, Any]:
    log = request.partition.log
    first = max(len(log.violations) - _LAST, 0)
    return {
        "partition": request.partition.name,
        "violations": log.violated,
        "last": list(islice(log.violations, first, None)),
    }


def _violations_text(answer: dict[str, Any]) -> Iterator[str]:
    yield f"{answer['partition']}: {answer['violations']} violations"
    for v in answer["last"]:
        what = "read" if v.value is None else f"write of {v.value:#x}"
        yield f"{at(v.time)} s  {v.space} {v.addr:#x}/{v.size} {what} at {v.rip:#018x}"


def _digest(request: Request) -> dict[str, str]:
    board = request.machine.board(request.partition.name)
    if board is None:
        raise AssertionError(request.partition.name)
    found = digest(board)
    return {"partition": request.partition.name, **found.rows(), "whole": found.whole}


def _digest_text(row: dict[str, str]) -> Iterable[str]:
    yield f"{row.pop('partition')}: {row['whole']}"
    yield from (f"  {name:10} {found}" for name, found in row.items())


def _xp(request: Request) -> dict[str, Any]:
    address, length = request.get("ADDRESS"), request.get("LENGTH", 64)
    if not 0 < length <= _XP_MAX:
        raise UsageError(f"length {length} is not 1 to {_XP_MAX}")
    window = request.partition.window
    inside = address in window and address + length <= window.end
    return {
        "partition": request.partition.name,
        "base": window.base,
        "end": window.end,
        "address": address,
        "data": window.read(address, length).hex() if inside else None,
    }


def _xp_text(row: dict[str, Any]) -> Iterator[str]:
    address = row["address"]
    if row["data"] is None:
        yield (
            f"{address:#x} is outside {row['partition']}'s memory, "
            f"{row['base']:#x}-{row['end'] - 1:#x}"
        )
        return
    data = bytes.fromhex(row["data"])
    for offset in range(0, len(data), 16):
        line = data[offset : offset + 16]
        text = "".join(chr(b) if 32 <= b < 127 else "." for b in line)
        yield f"{address + offset:#012x}  {line.hex(' '):47}  {text}"


def _kill(request: Request) -> dict[str, Any]:
    partition = request.partition
    lived = partition.alive or partition.condition is Condition.FAILED
    request.session.switches.end(partition)
    left = [p.name for p in request.machine.partitions if p.alive]
    return {"partition": partition.name, "ended": lived, "left": left}


def _kill_text(row: dict[str, Any]) -> Iterator[str]:
    yield f"{row['partition']} {'is ended' if row['ended'] else 'had ended before'}"
    yield f"what still runs: {', '.join(row['left']) or 'nothing'}"


def _power_on(request: Request) -> dict[str, Any]:
    request.session.switches.power_on(request.partition)
    return _switched(request.partition)


def _power_off(request: Request) -> dict[str, Any]:
    request.session.switches.power_off(request.partition)
    return _switched(request.partition)


def _switched(partition: Partition) -> dict[str, Any]:
    return {
        "partition": partition.name,
        "condition": partition.condition.value,
        "failure": partition.failure,
        "ticks": partition.clock,
    }


def _switched_text(row: dict[str, Any]) -> Iterator[str]:
    why = f" ({row['failure']})" if row["failure"] else ""
    yield f"{row['partition']}: {row['condition']}{why} at {at(row['ticks']).strip()} s"


def _translate(request: Request) -> dict[str, Any]:
    address = request.get("ADDRESS") & (1 << 64) - 1
    walk = Sight(request.partition).space_of(address).walk(address)
    page = walk.page
    return {
        "address": address,
        "levels": list(walk.levels),
        "physical": page.pa if page else None,
        "left": page.left if page else None,
        "rights": _rights(page.flags) if page else None,
        "reason": walk.reason,
    }


def _rights(flags: int) -> str:
    return "".join(
        (
            "u" if flags & 4 else "s",
            "w" if flags & 2 else "r",
            "-" if flags >> 63 else "x",
        )
    )


def _translate_text(answer: dict[str, Any]) -> Iterator[str]:
    level: Level
    for level in answer["levels"]:
        yield f"{level.name:3} at {level.entry_pa:#014x}: {level.entry:#018x}"
    address = answer["address"]
    if answer["physical"] is None:
        yield f"{address:#x} is not mapped: {answer['reason']}"
        return
    yield (
        f"{address:#x} is physical {answer['physical']:#x} ({answer['rights']}), "
        f"{answer['left']:#x} bytes left"
    )


_ADDRESS = Parameter("ADDRESS", number)
_COUNT = Parameter("N", count, optional=True)
_LENGTH = Parameter("LENGTH", number, optional=True)

COMMANDS = (
    Command(
        "partitions", "all partitions and their state", (), _partitions,
        _partitions_text,
    ),
    Command("info", "everything of a partition", (), _info, _info_text, True),
    Command(
        "irqlog", "the last N deliveries", (_COUNT,), _irqlog, _irqlog_text, True
    ),
    Command(
        "violations", "accesses to what it does not own", (), _violations,
        _violations_text, True,
    ),
    Command("digest", "SHA-256 of all of its state", (), _digest, _digest_text, True),
    Command("xp", "dump physical memory", (_ADDRESS, _LENGTH), _xp, _xp_text, True),
    Command(
        "translate", "walk the page tables", (_ADDRESS,), _translate, _translate_text,
        True,
    ),
    *(
        Command(name, summary, (), answer, _switched_text, True, True)
        for name, summary, answer in (
            ("restart", "switch it on again, also after its end", _power_on),
            ("reset", "the same as restart", _power_on),
            ("power-on", "the same as restart, of one that is off", _power_on),
            ("power-off", "switch it off", _power_off),
        )
    ),
    Command("kill", "end a partition for good", (), _kill, _kill_text, True, True),
)  # fmt: skip
