# SPDX-License-Identifier: GPL-2.0-or-later
"""``nanokernel_vm.build`` with recipes of its own, in a cache of its own."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest

from nanokernel_vm import build
from nanokernel_vm.build import Recipe
from nanokernel_vm.errors import BuildError


class Bakery(ModuleType):
    """A recipe module that counts what it does."""

    def __init__(self, name: str, needs: str = "") -> None:
        super().__init__(name)
        self.today = "flour 1"
        self.needs = needs
        self.asked = self.built = 0

    def inputs(self) -> Mapping[str, str]:
        self.asked += 1
        return {"today": self.today}

    def build(self, into: Path, final: Path) -> None:
        self.built += 1
        base = build.ensure(self.needs).read_text() if self.needs else ""
        (into / "loaf").write_text(f"{base}{self.__name__}: {self.today}\n")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "PROJECT", tmp_path)
    (tmp_path / "recipe.txt").write_text("knead")
    return tmp_path


def add(monkeypatch: pytest.MonkeyPatch, name: str, needs: str = "") -> Bakery:
    module = Bakery(f"bakery_{name}", needs)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    recipe = Recipe(module.__name__, ("*.txt",), (needs,) if needs else ())
    monkeypatch.setitem(build.RECIPES, name, recipe)
    monkeypatch.setitem(build.ARTIFACTS, name, (name, "loaf"))
    return module


@pytest.fixture
def bread(project: Path, monkeypatch: pytest.MonkeyPatch) -> Bakery:
    return add(monkeypatch, "bread")


@pytest.fixture
def toast(bread: Bakery, monkeypatch: pytest.MonkeyPatch) -> Bakery:
    return add(monkeypatch, "toast", needs="bread")


def test_a_cold_call_builds(bread: Bakery) -> None:
    assert build.cached("bread") is None
    assert build.ensure("bread").read_text() == "bakery_bread: flour 1\n"


def test_a_warm_call_asks_nobody(
    bread: Bakery, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = build.ensure("bread")
    monkeypatch.delitem(sys.modules, bread.__name__)  # importing it would now fail
    assert build.ensure("bread") == build.cached("bread") == made
    assert (bread.asked, bread.built) == (1, 1)


def test_a_changed_source_builds_anew(bread: Bakery, project: Path) -> None:
    before = build.ensure("bread")
    (project / "recipe.txt").write_text("knead twice")
    assert build.cached("bread") is None
    assert build.ensure("bread") != before
    (project / "recipe.txt").write_text("knead")
    assert build.ensure("bread") == before
    assert bread.built == 2


def test_refresh_builds_only_what_has_changed(bread: Bakery) -> None:
    before = build.ensure("bread")
    assert build.ensure("bread", refresh=True) == before
    bread.today = "flour 2"
    assert build.ensure("bread") == before
    assert build.ensure("bread", refresh=True).read_text() == "bakery_bread: flour 2\n"
    assert (bread.asked, bread.built) == (3, 2)


def test_what_an_artifact_needs_is_built_before_it(
    toast: Bakery, bread: Bakery
) -> None:
    assert build.ensure("toast").read_text() == (
        "bakery_bread: flour 1\nbakery_toast: flour 1\n"
    )
    assert bread.built == 1


def test_an_artifact_follows_what_it_needs(toast: Bakery, bread: Bakery) -> None:
    build.ensure("toast")
    bread.today = "flour 2"
    build.ensure("bread", refresh=True)
    assert build.cached("toast") is None
    assert "bakery_bread: flour 2" in build.ensure("toast").read_text()


def test_a_deleted_directory_is_built_again(bread: Bakery) -> None:
    made = build.ensure("bread")
    made.parent.rename(made.parent.with_name("away"))
    assert build.ensure("bread") == made
    assert made.exists()


def test_a_cache_that_cannot_be_written_is_named(bread: Bakery, project: Path) -> None:
    (project / "cache").write_text("a file")
    with pytest.raises(BuildError, match=r"/cache/.*NK_CACHE"):
        build.ensure("bread")
    assert not bread.built


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(BuildError, match=r"'gest'; there are .*, guest, "):
        build.ensure("gest")


def test_every_artifact_has_a_recipe_and_every_recipe_its_sources() -> None:
    assert {recipe for recipe, _ in build.ARTIFACTS.values()} == set(build.RECIPES)
    for recipe in build.RECIPES.values():
        assert set(recipe.needs) <= set(build.ARTIFACTS)
        for pattern in recipe.sources:
            assert list(build.PROJECT.glob(pattern)), pattern


def test_importing_it_imports_no_recipe() -> None:
    code = "import sys, nanokernel_vm.build; print(*sys.modules)"
    modules = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    heavy = {"subprocess", "nanokernel_vm.build.debian", "nanokernel_vm.linux"}
    assert "nanokernel_vm.build.cache" in modules
    assert not heavy & set(modules)
