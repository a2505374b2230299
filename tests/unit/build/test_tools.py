# SPDX-License-Identifier: GPL-2.0-or-later
from pathlib import Path

import pytest

from nanokernel_vm.build.tools import TAIL_LINES, run, version, watch
from nanokernel_vm.errors import BuildError


def test_run_returns_stdout_alone() -> None:
    assert run(["sh", "-c", "echo out; echo err >&2"]) == b"out\n"


def test_run_feeds_stdin_and_runs_in_a_directory(tmp_path: Path) -> None:
    assert run(["sh", "-c", "cat; pwd"], cwd=tmp_path, stdin=b"in ") == (
        f"in {tmp_path}\n".encode()
    )


def test_messages_are_in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert run(["sh", "-c", 'echo "$LC_ALL $MORE"'], env={"MORE": "1"}) == b"C 1\n"


def test_a_missing_program_is_named_with_the_remedy() -> None:
    with pytest.raises(BuildError, match="no-such-tool is not installed: run make set"):
        run(["no-such-tool"])
    with pytest.raises(BuildError, match="no-such-tool is not installed: run make set"):
        watch(["no-such-tool"], lambda _: None)


def test_a_failure_shows_the_last_lines_only() -> None:
    script = "for i in $(seq 100); do echo line $i >&2; done; exit 3"
    with pytest.raises(BuildError) as failure:
        run(["sh", "-c", script])
    text = str(failure.value)
    assert text.startswith("sh failed:\n")
    assert text.endswith("line 100")
    assert len(text.splitlines()) == TAIL_LINES + 1


def test_watch_hands_over_lines_of_both_streams() -> None:
    lines: list[str] = []
    watch(["sh", "-c", "echo out; echo err >&2"], lines.append)
    assert sorted(lines) == ["err\n", "out\n"]


def test_watch_reports_failure_with_its_tail() -> None:
    with pytest.raises(BuildError, match="sh failed:\n  last words"):
        watch(["sh", "-c", "echo last words; exit 1"], lambda _: None)


def test_an_interrupted_watch_ends_the_program(tmp_path: Path) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    witness = tmp_path / "witness"
    script = (
        f"trap 'touch {witness}; exit' TERM; echo begun; while :; do sleep 0.01; done"
    )
    with pytest.raises(KeyboardInterrupt):
        watch(["sh", "-c", script], interrupt)
    assert witness.exists()


def test_version_is_one_line() -> None:
    assert version("gcc").startswith("gcc ")
    assert "\n" not in version("gcc")
