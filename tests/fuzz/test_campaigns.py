# SPDX-License-Identifier: GPL-2.0-or-later
"""A small share of every campaign, each in a process of its own; and the ledger."""

import random
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.fuzz.campaign import (
    Broken,
    Campaign,
    Ledger,
    Progress,
    generator,
    pursue,
    run_piece,
)
from tests.fuzz.campaigns import CAMPAIGNS

_SEED = 2


@pytest.mark.parametrize("campaign", CAMPAIGNS, ids=lambda c: c.name)
def test_a_share_of_each_campaign_holds(campaign: Campaign) -> None:
    share = Campaign(
        campaign.name, campaign.unit, 1, campaign.size // 20, campaign.piece
    )
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        tried, why = pool.submit(run_piece, share, _SEED, 0).result()
    assert not why
    assert tried >= share.size


def _odd(rng: random.Random, count: int) -> int:
    if rng.random() < 0.2:
        raise Broken("made to fail")
    return count


ODD = Campaign("odd", "tries", 1000, 10, _odd)


def test_a_campaign_stops_at_a_failure_that_can_be_repeated() -> None:
    progress = Progress()
    for _ in pursue(ODD, 1, ODD.goal, progress, 1):
        pass
    (number,) = progress.failures
    assert "made to fail" in progress.failures[number]
    assert run_piece(ODD, 1, number)[1]
    assert all(generator(ODD, 1, n).random() >= 0.2 for n in progress.done)


def test_a_campaign_goes_on_where_it_was(tmp_path: Path) -> None:
    steady = Campaign("steady", "tries", 100, 10, lambda _, count: count)
    ledger = Ledger(tmp_path / "made" / "fuzz.json")
    ledger.of(steady, 1).done.update({0, 2})
    ledger.of(steady, 1).tried = 20
    ledger.save()
    again = Ledger(tmp_path / "made" / "fuzz.json").of(steady, 1)
    assert (again.done, again.tried) == ({0, 2}, 20)
