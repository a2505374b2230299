# SPDX-License-Identifier: GPL-2.0-or-later
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from nanokernel_vm.build import ARTIFACTS, ensure
from nanokernel_vm.build.cache import (
    MANIFEST,
    Shelf,
    digest,
    files_digest,
    root,
    scratch,
    whole,
)
from nanokernel_vm.errors import BuildError

INPUTS = {"package": "1.0", "tool": "2"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_hello(into: Path, final: Path) -> None:
    (into / "hello").write_text(str(final))


def fail(into: Path, final: Path) -> None:
    (into / "half").touch()
    raise RuntimeError


def store(inputs: dict[str, str] = INPUTS) -> Path:
    shelf = Shelf("recipe")
    with shelf.locked():
        return shelf.store(inputs, write_hello)


def test_the_cache_is_where_the_environment_says(cache: Path) -> None:
    assert root() == cache


def test_the_default_is_below_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NK_CACHE", "")
    monkeypatch.setenv("HOME", "/home/someone")
    assert root() == Path("/home/someone/.cache/nanokernel")


def test_a_digest_depends_on_names_and_values_not_on_order() -> None:
    assert digest({"a": "1", "b": "2"}) == digest({"b": "2", "a": "1"})
    assert digest({"a": "1", "b": "2"}) != digest({"a": "2", "b": "1"})


def test_a_files_digest_depends_on_names_and_contents(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("text")
    second.write_text("text")
    assert files_digest([first]) != files_digest([second])
    assert files_digest([first, second]) == files_digest([second, first])
    before = files_digest([first])
    first.write_text("other")
    assert files_digest([first]) != before


def test_what_is_built_has_its_final_path_and_says_what_it_is_made_from() -> None:
    made = store()
    assert (made / "hello").read_text() == str(made)
    assert (made / MANIFEST).read_text() == "package 1.0\ntool 2\n"


def test_the_same_inputs_are_built_once() -> None:
    made = store()
    before = (made / "hello").stat()
    assert store() == made
    assert (made / "hello").stat().st_ino == before.st_ino


def test_other_inputs_are_built_beside() -> None:
    assert store() != store({"package": "1.1", "tool": "2"})


def test_a_failed_build_leaves_nothing(cache: Path) -> None:
    shelf = Shelf("recipe")
    with shelf.locked(), pytest.raises(RuntimeError):
        shelf.store(INPUTS, fail)
    left = {path.name for path in (cache / "recipe").iterdir()}
    assert left == {"by-recipe", "lock"}


@pytest.mark.parametrize("content", [None, b"", b"/ha"])
def test_what_lost_a_part_is_built_again(content: bytes | None) -> None:
    """As files do on a disk that was full, or whose computer lost power."""
    made = store()
    (made / "hello").unlink()
    if content is not None:
        (made / "hello").write_bytes(content)
    assert not whole(made)
    assert store() == made
    assert (made / "hello").read_text() == str(made)
    assert whole(made)


# Builds for ever, or stops to be killed; argument: what to say when it has begun
BUILDER = """
import sys, time
from pathlib import Path
from nanokernel_vm.build.cache import Shelf

def build(into, final):
    (into / "half").touch()
    print(into, flush=True)
    sys.stdin.read()
    (into / "hello").write_text("built")

shelf = Shelf("recipe")
with shelf.locked():
    print(shelf.store({"package": "1.0", "tool": "2"}, build))
"""


def builder() -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def test_a_build_that_is_killed_leaves_nothing_behind_the_next(cache: Path) -> None:
    with builder() as process:
        assert process.stdout is not None
        into = Path(process.stdout.readline().strip())
        assert (into / "half").exists()
        process.kill()
    made = store()
    assert (made / "hello").read_text() == str(made)
    assert not (made / "half").exists()
    left = {path.name for path in (cache / "recipe").iterdir()}
    assert left == {"by-recipe", "lock", made.name}


def test_two_builds_at_once_are_one() -> None:
    first, second = builder(), builder()
    with first, second:
        for process in (first, second):  # who is second is told so, and waits
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
        outputs = [process.communicate(timeout=300) for process in (first, second)]
    assert [p.returncode for p in (first, second)] == [0, 0], outputs
    assert len({out.splitlines()[-1] for out, _ in outputs}) == 1
    assert sorted(len(out.splitlines()) for out, _ in outputs) == [1, 2]


def test_who_waits_says_for_what(caplog: pytest.LogCaptureFixture) -> None:
    with builder() as process:
        assert process.stdout is not None
        process.stdout.readline()
        waiting = Thread(target=store)
        waiting.start()
        while not caplog.messages and waiting.is_alive():
            waiting.join(0.01)
        process.communicate("")
        waiting.join()
    assert caplog.messages == ["another process is at recipe; waiting for it"]


def test_scratch_of_the_living_is_left_alone(tmp_path: Path) -> None:
    with scratch(tmp_path) as mine:
        with scratch(tmp_path) as other:
            assert mine != other
            assert mine.is_dir()
        assert not other.exists()
    assert not any(tmp_path.iterdir())


def test_a_cache_that_is_named_relatively(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NK_CACHE", "here")
    assert root() == tmp_path / "here"


def test_nobody_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NK_CACHE")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 54321)
    with pytest.raises(BuildError, match="name one in NK_CACHE"):
        root()


@pytest.mark.parametrize("name", sorted(ARTIFACTS))
def test_a_cache_that_cannot_be_one(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NK_CACHE", str(tmp_path / "file"))
    with pytest.raises(BuildError, match=r"Not a directory; .*NK_CACHE") as caught:
        ensure(name)
    assert str(tmp_path / "file") in str(caught.value)


def test_a_recipe_finds_what_it_made() -> None:
    shelf = Shelf("recipe")
    assert shelf.lookup("digest") is None
    first, second = store(), store({"other": "inputs"})
    shelf.link("digest", first)
    assert shelf.lookup("digest") == first
    shelf.link("digest", second)
    assert shelf.lookup("digest") == second


def test_builders_wait_for_each_other() -> None:
    shelf, order = Shelf("recipe"), []

    def wait() -> None:
        with Shelf("recipe").locked():
            order.append("second")

    with shelf.locked():
        other = Thread(target=wait)
        other.start()
        other.join(0.05)
        order.append("first")
    other.join()
    assert order == ["first", "second"]
