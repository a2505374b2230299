# SPDX-License-Identifier: GPL-2.0-or-later
"""Step by step through entry and exit code, with symbol files of both kinds."""

import json
import subprocess
from pathlib import Path

import pytest

from nanokernel_vm import build
from tests.live.busy import NAMES, BusyMachine
from tests.live.mi import GDBS

# Each is taken as it comes, from user space or from the kernel.
LABELS = (
    *("entry_SYSCALL_64", "asm_exc_page_fault", "asm_common_interrupt"),
    *("asm_exc_page_fault", "asm_common_interrupt", "entry_SYSCALL_64"),
)
KINDS = ("made", "plain")


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory, busy: BusyMachine) -> (
    dict[str, Path]
):  # fmt: skip
    """Symbol files without our call frame information: none at all, the compiler's."""
    host = tmp_path_factory.mktemp("plain") / "vmlinux"
    subprocess.run(
        ["objcopy", "--remove-section=.debug_frame", busy.symbols["host"], host],
        check=True,
    )
    return {"host": host, "guest": build.ensure("guest")}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pid", NAMES, ids=NAMES.values())
def test_who_was_entered_is_never_lost(
    busy: BusyMachine,
    plain: dict[str, Path],
    program: str,
    pid: int,
    kind: str,
    tmp_path: Path,
) -> None:
    out = tmp_path / "passages"
    expected = LABELS if kind == "made" else LABELS[:3]
    printed = busy.debug(
        *(GDBS[program], "entries.py", (pid, out, *expected)),
        symbols=plain if kind == "plain" else {},
    )
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    labels = [row["label"].removeprefix("nanokernel_") for row in rows]
    assert labels == list(expected), printed
    for row in rows:
        assert row["wrong"] == []
        assert row["checks"] > 50
    assert rows[0]["user"]
