# SPDX-License-Identifier: GPL-2.0-or-later
"""What a campaign is, and how its pieces are run, counted and remembered.

A campaign is cut into pieces; a piece is made of a campaign's seed and its own number
alone, so that any one can be repeated, and a campaign interrupted goes on where it was.
"""

import faulthandler
import gc
import json
import os
import random
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

Piece = Callable[[random.Random, int], int]
_PIECES_A_PROCESS = 50  # then a new one: what one leaks does not hide in the next
_PAGES = os.sysconf("SC_PAGE_SIZE")
PATIENCE = 60  # seconds between two signs of life: thousands of times what they take
GROWTH = 64 << 20  # bytes that a process may grow after its first piece


class Broken(AssertionError):
    """An invariant does not hold; the text says which, and on what input."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """One kind of input.

    Attributes:
        name: One word.
        unit: What is counted.
        goal: How many make it whole.
        size: How many one piece is to try, as given to ``piece``.
        piece: Tries them with a generator of its own; how many it really tried.
    """

    name: str
    unit: str
    goal: int
    size: int
    piece: Piece


@dataclass(slots=True)
class Progress:
    """How far a campaign with one seed has come.

    Attributes:
        done: Numbers of the pieces that held.
        tried: Units in them.
        failures: Number of a piece to why it did not hold.
    """

    done: set[int] = field(default_factory=set)
    tried: int = 0
    failures: dict[int, str] = field(default_factory=dict)


class Ledger:
    """Progress of every campaign and seed, in a file that a kill leaves whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[str, Progress] = {}
        if path.exists():
            for key, row in json.loads(path.read_text()).items():
                self._rows[key] = Progress(set(row["done"]), row["tried"])

    def of(self, campaign: Campaign, seed: int) -> Progress:
        """Progress of one campaign."""
        return self._rows.setdefault(f"{campaign.name} {seed}", Progress())

    def save(self) -> None:
        """Write what has been done."""
        rows = {
            key: {"done": sorted(row.done), "tried": row.tried}
            for key, row in self._rows.items()
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(rows))
        new.replace(self._path)


def generator(campaign: Campaign, seed: int, number: int) -> random.Random:
    """The source of everything in one piece."""
    return random.Random(f"{campaign.name} {seed} {number}")


def resident() -> int:
    """Bytes of memory that this process has now, and cannot do without."""
    gc.collect()  # engines and what they call back are in circles
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGES


def still_alive() -> None:
    """Put off the end that a process makes of itself when it hangs."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)


_first: int | None = None


def run_piece(campaign: Campaign, seed: int, number: int) -> tuple[int, str]:
    """Run one piece in this process: units tried, and why it failed or nothing."""
    global _first
    still_alive()
    try:
        tried = campaign.piece(generator(campaign, seed, number), campaign.size)
    except Exception:
        return 0, traceback.format_exc()
    finally:
        faulthandler.cancel_dump_traceback_later()
    if _first is None:
        _first = resident()
    elif resident() - _first > GROWTH:
        return tried, f"memory grew from {_first >> 20} to {resident() >> 20} MiB"
    return tried, ""


def pursue(
    campaign: Campaign, seed: int, goal: int, progress: Progress, jobs: int
) -> Iterator[Progress]:
    """Run pieces side by side until ``goal`` units are tried or one fails.

    A process that dies takes its campaign with it: that is a failure, too, and the
    numbers of the pieces that were under way are named.
    """
    numbers = (n for n in range(1 << 62) if n not in progress.done)
    context = get_context("spawn")
    with ProcessPoolExecutor(
        jobs, mp_context=context, max_tasks_per_child=_PIECES_A_PROCESS
    ) as pool:
        running: dict[Future[tuple[int, str]], int] = {}
        while progress.tried + len(running) * campaign.size < goal or running:
            while (
                len(running) < jobs
                and progress.tried + len(running) * campaign.size < goal
                and not progress.failures
            ):
                number = next(numbers)
                running[pool.submit(run_piece, campaign, seed, number)] = number
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                _count(progress, running.pop(future), future)
            yield progress
            if progress.failures and not running:
                return


def _count(progress: Progress, number: int, future: Future[tuple[int, str]]) -> None:
    death = future.exception()
    tried, why = (0, f"the process died: {death}") if death else future.result()
    if why:
        progress.failures[number] = why
        return
    progress.done.add(number)
    progress.tried += tried
