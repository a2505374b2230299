# SPDX-License-Identifier: GPL-2.0-or-later
from pathlib import Path
from threading import Thread

import pytest

from nanokernel_vm.build.cache import MANIFEST, Shelf, digest, files_digest, root

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
    (made / "hello").write_text("kept")
    assert store() == made
    assert (made / "hello").read_text() == "kept"


def test_other_inputs_are_built_beside() -> None:
    assert store() != store({"package": "1.1", "tool": "2"})


def test_a_failed_build_leaves_nothing(cache: Path) -> None:
    shelf = Shelf("recipe")
    with shelf.locked(), pytest.raises(RuntimeError):
        shelf.store(INPUTS, fail)
    left = {path.name for path in (cache / "recipe").iterdir()}
    assert left == {"by-recipe", "lock"}


def test_what_a_killed_build_left_does_not_get_in(cache: Path) -> None:
    stale = cache / "recipe/.building"
    stale.mkdir(parents=True)
    (stale / "half").touch()
    assert {path.name for path in store().iterdir()} == {"hello", MANIFEST}


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
