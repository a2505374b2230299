# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m tests.fuzz``: run campaigns to their goals, or a share of them.

Progress is kept under build/: an interrupted campaign goes on where it was.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from tests.fuzz.campaign import Campaign, Ledger, pursue, run_piece
from tests.fuzz.campaigns import CAMPAIGNS

_LEDGER = Path("build/fuzz.json")
_BY_NAME = {campaign.name: campaign for campaign in CAMPAIGNS}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="CAMPAIGN", help=", ".join(_BY_NAME)
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=1.0, help="of the goals")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--piece", type=int, help="run this piece alone, again")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in _BY_NAME]
    if unknown:
        parser.error(f"no campaign {unknown[0]}; there are {', '.join(_BY_NAME)}")
    return arguments


def _run(campaign: Campaign, arguments: argparse.Namespace, ledger: Ledger) -> bool:
    seed, goal = arguments.seed, max(1, int(campaign.goal * arguments.share))
    progress = ledger.of(campaign, seed)
    begin, before = time.monotonic(), progress.tried
    for _ in pursue(campaign, seed, goal, progress, arguments.jobs):
        ledger.save()
    seconds = time.monotonic() - begin
    rate = (progress.tried - before) / seconds if seconds else 0
    print(
        f"{campaign.name}: {progress.tried:,} {campaign.unit}, "
        f"{len(progress.failures)} failures, seed {seed}, "
        f"{seconds:.0f} s ({rate:,.0f} a second)",
        flush=True,
    )
    for number, why in progress.failures.items():
        repeat = f"python -m tests.fuzz {campaign.name} --seed {seed} --piece {number}"
        print(f"{why}\nagain: {repeat}", file=sys.stderr)
    return not progress.failures


def main() -> int:
    """Run what was asked for; 1 if anything failed."""
    arguments = _arguments()
    chosen = [_BY_NAME[name] for name in arguments.names] or list(CAMPAIGNS)
    if arguments.piece is not None:
        tried, why = run_piece(chosen[0], arguments.seed, arguments.piece)
        print(why or f"{chosen[0].name}: {tried:,} {chosen[0].unit}, no failure")
        return bool(why)
    ledger = Ledger(_LEDGER)
    held = [_run(c, arguments, ledger) for c in chosen]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
