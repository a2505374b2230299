# SPDX-License-Identifier: GPL-2.0-or-later
"""``nk triage`` on a second boot, on cores, and where there is nothing to look at."""

import json
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nanokernel_vm.triage import Kind, Report
from stub.endpoint import Tcp
from tests.failures.host import description
from tests.failures.qemu import PROGRAM, available, qemu
from tests.live.process import NkRun
from tests.raw_client import RawClient

pytestmark = [pytest.mark.boot, pytest.mark.gdb]

PATIENCE = 600  # seconds; bounds a wait, measures nothing
_NK = Path(sys.executable).with_name("nk")


def nk_triage(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [_NK, "triage", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
    )


def reports(done: subprocess.CompletedProcess[str]) -> dict[str, Report]:
    assert done.stderr == ""
    return {row["partition"]: Report.from_dict(row) for row in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NkRun]:
    """The pair, the host's shell with the module at hand."""
    machine = description(tmp_path_factory.mktemp("machine"))
    with NkRun("--warp", machine=machine) as run:
        run.wait_for_shells()
        yield run


@pytest.fixture(scope="module")
def dead(run: NkRun) -> Report:
    """The host after a use after free, of which it has not died, and a panic."""
    well = nk_triage("--live", run.address, "--json")
    assert well.returncode == 0
    verdicts = {name: row.verdict for name, row in reports(well).items()}
    assert verdicts == dict.fromkeys(("host", "guest"), "running, nothing wrong")
    assert run.host.answers()  # it went on
    assert run.guest.answers()

    run.host.run("insmod /nk_fail.ko how=after-free")
    run.host.type("echo c > /proc/sysrq-trigger\n")
    run.host.expect("---[ end Kernel panic")
    done = nk_triage("--live", run.address, "--json")
    assert done.returncode == 4
    assert not reports(done)["guest"].wrong
    return reports(done)["host"]


def test_the_first_failure_explains_the_others(dead: Report) -> None:
    kinds = [finding.kind for finding in dead.findings]
    assert kinds == [Kind.USE_AFTER_FREE, Kind.PANIC]
    places = [finding.functions for finding in dead.findings]
    assert places == [("fail_after_free [nk_fail]",), ("sysrq_handle_crash",)]


def test_text_and_a_page_while_the_guest_lives(
    run: NkRun, dead: Report, tmp_path: Path
) -> None:
    shown = nk_triage("--live", run.address)
    assert (shown.returncode, shown.stderr) == (4, "")
    assert dead.signature in shown.stdout
    assert shown.stdout.splitlines()[0] == f"host: {dead.verdict}"
    assert "guest: running, nothing wrong" in shown.stdout.splitlines()
    page = tmp_path / "report.html"
    done = nk_triage("--live", run.address, "--html", page)
    assert done.stdout == f"host: {dead.verdict}\nguest: running, nothing wrong\n"
    _check_page(page.read_text(), dead)
    assert run.guest.answers()


def _check_page(page: str, host: Report) -> None:
    seen = _Page()
    seen.feed(page)
    assert "script" not in seen.tags
    assert not {"src", "href", "onclick"} & seen.attributes
    assert seen.open == []
    for text in (
        host.verdict,
        host.signature,
        host.dmesg[-1],
        "sysrq_handle_crash+0x",
    ):
        assert text in seen.text


class _Page(HTMLParser):
    """What a page shows and is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_another_client_is_in_the_way(run: NkRun) -> None:
    async with RawClient.connected(Tcp(*run.endpoint)) as client:
        await client.hello()
        done = nk_triage("--live", run.address)
    assert done.returncode == 2
    assert "another client" in done.stderr
    assert done.stderr.count("\n") == 1


def test_nobody_listens(tmp_path: Path) -> None:
    done = nk_triage("--live", f"unix:{tmp_path / 'none'}")
    assert done.returncode == 2
    assert "is nk run serving there?" in done.stderr


def test_what_is_no_core(tmp_path: Path) -> None:
    done = nk_triage("--core", tmp_path / "none")
    assert done.returncode == 2
    assert done.stderr == f"nk: {tmp_path / 'none'}: No such file or directory\n"


def test_either_a_machine_or_a_core(tmp_path: Path) -> None:
    done = nk_triage("--core", tmp_path / "none", "--live", "localhost:1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "give one of them" in done.stderr


@pytest.mark.skipif(not available(), reason=f"{PROGRAM} is not installed")
def test_a_core_that_qemu_has_written(dead: Report, tmp_path: Path) -> None:
    """Another machine, kernel addresses chosen at random, the same failure."""
    core = tmp_path / "vmcore"
    with qemu(tmp_path) as machine:
        machine.expect("host# ")
        machine.dump(core)
        well = nk_triage("--core", core, "--json")
        core.unlink()
        machine.type("insmod /nk_fail.ko how=after-free; echo we''nt on\n")
        machine.expect("went on")
        machine.dump(core)
    assert well.returncode == 0
    assert reports(well)["vmcore"].verdict == "alive when it was dumped, nothing wrong"
    done = nk_triage("--core", core, "--json")
    assert done.returncode == 4
    report = reports(done)["vmcore"]
    assert report.findings[0].functions == ("fail_after_free [nk_fail]",)
    assert report.signature == dead.signature
    assert report.problems == ()
    assert report.stacks[0].frames
