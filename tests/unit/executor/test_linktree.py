"""Trees of links: made once, given back, thrown away."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset
from reflow.executor import linktree
from reflow.executor.layout import Layout
from reflow.executor.linktree import Made, Trees, remove_abandoned, spill

FILES = Fileset({"a": File(Digest.of(b"a"), 1)})
OTHERS = Fileset({"b": File(Digest.of(b"b"), 1)})


class Locator:
    """Knows user's files only."""

    def __init__(self) -> None:
        self.epoch: int | None = 0
        self.users: dict[Digest, str] = {}

    def locate(self, digest: Digest) -> tuple[str, bool]:
        if digest not in self.users:
            raise ReflowError(Kind.NOT_EXIST, "locate", digest)
        return self.users[digest], True

    def check_unchanged(self, digest: Digest) -> None:
        """Nothing changes here."""

    def keep(self, digest: Digest) -> str:
        raise ReflowError(Kind.NOT_EXIST, "keep", digest)


@pytest.fixture
def locator() -> Locator:
    return Locator()


@pytest.fixture
def trees(tmp_path: Path, locator: Locator) -> Trees:
    layout = Layout(str(tmp_path / "local"))
    layout.prepare()
    return Trees(layout, locator)


class Filling:
    """Puts one file into trees, and counts them."""

    def __init__(self, foreign: dict[str, tuple[Digest, str]] | None = None) -> None:
        self.count = 0
        self._foreign = foreign or {}

    def __call__(self, directory: str) -> Made:
        self.count += 1
        os.mkdir(f"{directory}/arg/0")
        Path(f"{directory}/arg/0/a").write_bytes(b"a")
        return {}, self._foreign


def test_it_is_made_once(trees: Trees) -> None:
    fill = Filling()
    first, second = trees.take(0, FILES, fill), trees.take(0, FILES, fill)
    assert first is second
    trees.give_back([first, second])
    assert trees.take(0, FILES, fill) is first
    assert fill.count == 1
    assert Path(first.path, "0/a").read_bytes() == b"a"


def test_each_argument_and_each_place_has_its_own(trees: Trees) -> None:
    fill = Filling()
    assert len({trees.take(*each, fill).path for each in ((0, FILES), (1, FILES), (0, OTHERS))}) == 3


def test_those_who_come_meanwhile_wait_for_it(trees: Trees) -> None:
    fill, entered, may_go = Filling(), threading.Event(), threading.Event()

    def slow(directory: str) -> Made:
        entered.set()
        assert may_go.wait(30)
        return fill(directory)

    found = []
    threads = [threading.Thread(target=lambda: found.append(trees.take(0, FILES, slow))) for _ in range(2)]
    threads[0].start()
    assert entered.wait(30)
    threads[1].start()
    may_go.set()
    for thread in threads:
        thread.join(30)
    assert found[0] is found[1]
    assert fill.count == 1


def test_what_fails_leaves_nothing_and_is_tried_again(trees: Trees) -> None:
    def failing(directory: str) -> Made:
        raise OSError(28, "No space left on device", directory)

    with pytest.raises(ReflowError) as caught:
        trees.take(0, FILES, failing)
    assert caught.value.kind is Kind.RESOURCES_EXHAUSTED
    tree = trees.take(0, FILES, Filling())
    root = Path(tree.directory).parent
    assert [each.name for each in root.iterdir() if each.is_dir()] == [Path(tree.directory).name]


def test_when_an_object_was_set_aside_it_is_made_anew_and_the_old_one_goes_when_unused(
    trees: Trees, locator: Locator
) -> None:
    fill = Filling()
    old = trees.take(0, FILES, fill)
    locator.epoch = 1
    new = trees.take(0, FILES, fill)
    assert new is not old
    assert Path(old.path).exists()
    trees.give_back([old])
    assert not Path(old.path).exists()
    assert Path(new.path).exists()


def test_without_trust_each_exec_has_its_own(trees: Trees, locator: Locator) -> None:
    locator.epoch = None
    fill = Filling()
    first, second = trees.take(0, FILES, fill), trees.take(0, FILES, fill)
    assert first is not second
    trees.give_back([first, second])
    assert not Path(first.path).exists()


def test_one_whose_user_file_is_elsewhere_is_made_anew(trees: Trees, locator: Locator) -> None:
    digest = Digest.of(b"u")
    locator.users[digest] = "/u"
    fill = Filling({"0/0/u": (digest, "/u")})
    first = trees.take(0, FILES, fill)
    assert trees.take(0, FILES, fill) is first
    locator.users[digest] = "/v"
    assert trees.take(0, FILES, fill) is not first


def test_the_oldest_go_when_there_are_many(trees: Trees, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linktree, "_IDLE_LINKS", 2)
    made = [trees.take(index, FILES, Filling()) for index in range(4)]
    trees.give_back(made)
    assert [Path(tree.path).exists() for tree in made] == [False, False, True, True]
    fill = Filling()
    trees.take(0, FILES, fill)
    assert fill.count == 1


def test_closing_removes_all(trees: Trees) -> None:
    tree = trees.take(0, FILES, Filling())
    trees.give_back([tree])
    trees.close()
    assert not Path(tree.directory).parent.exists()


def test_only_what_dead_processes_left_is_abandoned(tmp_path: Path, trees: Trees) -> None:
    tree = trees.take(0, FILES, Filling())
    root = Path(tree.directory).parent.parent
    dead = root / "1-dead"
    (dead / "0/arg").mkdir(parents=True)
    remove_abandoned(str(tmp_path / "local"))
    assert [each.name for each in root.iterdir()] == [Path(tree.directory).parent.name]
    assert Path(tree.path).exists()


def test_nothing_abandoned_is_no_error(tmp_path: Path) -> None:
    remove_abandoned(str(tmp_path))


def test_a_tree_is_spilled_beside_what_is_there(tmp_path: Path, trees: Trees) -> None:
    tree = trees.take(0, FILES, Filling())
    arg = tmp_path / "arg"
    (arg / "0").mkdir(parents=True)
    (arg / "1").write_bytes(b"1")
    spill(tree.path, str(arg))
    assert (arg / "0/a").read_bytes() == b"a"
    assert (arg / "1").read_bytes() == b"1"
