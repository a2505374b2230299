# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of campaigns, with what makes each whole."""

from functools import partial

from tests.fuzz import code, files, hypercalls, packets
from tests.fuzz.campaign import Campaign

CAMPAIGNS = (
    Campaign("packets", "packets", 9_000_000, 20_000, packets.in_process),
    Campaign("sockets", "packets", 1_000_000, 10_000, packets.over_sockets),
    Campaign("hypercalls", "hypercalls", 10_000_000, 100_000, hypercalls.piece),
    Campaign("code", "blocks of 64 bytes", 1_000_000, 2_000, code.piece),
    *(
        Campaign(
            f"files:{name.replace(' ', '-')}",
            "mutated files",
            100_000,
            1_000,
            partial(files.piece, name),
        )
        for name in files.LOADERS
    ),
)
