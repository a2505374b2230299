# SPDX-License-Identifier: GPL-2.0-or-later
"""``monitor frames``: how a guest's extended interrupt frames returned."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from nanokernel_vm.abi.frame import CLASS_TEXTS, Class
from nanokernel_vm.clock import TICKS_PER_SECOND
from nanokernel_vm.debug.monitor.command import Command, Parameter, Request, count
from nanokernel_vm.nanokernel.frames import Frames, Returned

_LAST = 20
_BESIDE = {
    "switched": "returned to another stack than the last frame's",
    "abandoned": "overlaid by a newer frame: the task exited",
    "unwound": "still out below a frame that returned",
    "refused": "taken back by a fault of IRET",
    "forgotten": "given up because too many were out",
}


def _frames(request: Request) -> dict[str, Any]:
    return answer(
        request.partition.name, request.partition.frames(), request.get("N", _LAST)
    )


def answer(name: str, frames: Frames | None, count: int) -> dict[str, Any]:
    """Counters, and the last ``count`` returns that were not simply the same.

    Times are in ticks; addresses virtual.
    """
    if frames is None:
        return {"partition": name, "built": None}
    last = list(islice(reversed(frames.log), count))
    return {
        "partition": name,
        "built": frames.sequence,
        "out": len(frames.out),
        "returned": {kind.value: n for kind, n in frames.counts.items()},
        **{counter: getattr(frames, counter) for counter in _BESIDE},
        "last": [_row(returned) for returned in reversed(last)],
    }


def _row(returned: Returned) -> dict[str, Any]:
    return {
        "time": returned.time,
        "kind": returned.kind.value,
        "sequence": returned.words.sequence,
        "vector": returned.words.vector,
        "address": returned.address,
        "target": returned.hardware._asdict(),
        "changed": list(returned.changed),
    }


def text(rows: dict[str, Any]) -> Iterator[str]:
    """The answer for people."""
    if rows["built"] is None:
        yield f"{rows['partition']}: plain frames, which nobody follows"
        return
    yield f"{rows['partition']}: {rows['built']} frames built, {rows['out']} are out"
    for name, n in rows["returned"].items():
        yield f"{n:10} {name:10} {CLASS_TEXTS[Class(name)]}"
    for name, what in _BESIDE.items():
        yield f"{rows[name]:10} {name:10} {what}"
    yield f"the last {len(rows['last'])} that were not the same:"
    yield from map(_line, rows["last"])


def _line(row: dict[str, Any]) -> str:
    number, target = row["sequence"], row["target"]
    origin = f"#{number} vector {row['vector']:#x}" if number else "no words"
    changed = f"  changed {' '.join(row['changed'])}" if row["changed"] else ""
    return (
        f"{row['time'] / TICKS_PER_SECOND:12.6f} s  {row['kind']:9}  {origin}  "
        f"at {row['address']:#018x}  to {target['ip']:#018x} cpl {target['cs'] & 3}"
        f"{changed}"
    )


_COUNT = Parameter("N", count, optional=True)

COMMANDS = (
    Command(
        "frames", "how extended frames returned", (_COUNT,), _frames, text, True
    ),
)  # fmt: skip
