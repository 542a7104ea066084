"""Results on their way to the cache, as other executors find them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.fileset import File, Fileset
from reflow.executor.journal import Journal, Peers, are_dead, is_stored

FILE = File(Digest.of(b"a"), 1)
VALUES = {
    "file": Fileset.of_file(FILE),
    "tree": Fileset({"x y/\udcff\n": FILE, "b": FILE}),
    "list": Fileset(members=[Fileset.of_file(FILE), Fileset()]),
    "empty list": Fileset(members=()),
    "empty": Fileset(),
}


@pytest.fixture
def mine(tmp_path: Path) -> Journal:
    journal = Journal(str(tmp_path))
    journal.open()
    return journal


@pytest.fixture
def other(tmp_path: Path) -> Journal:
    journal = Journal(str(tmp_path))
    journal.open()
    return journal


@pytest.mark.parametrize("name", VALUES)
def test_what_one_has_noted_another_finds(mine: Journal, other: Journal, name: str) -> None:
    peers = Peers(mine)
    assert peers.find("image:1") is None
    other.append("image:1", VALUES[name])
    found = peers.find("image:1")
    assert found == VALUES[name]
    assert found is not None
    assert (found.members is None) == (VALUES[name].members is None)
    assert peers.find("process:1") is None


def test_it_is_found_when_the_other_is_dead_and_until_it_is_settled(mine: Journal, other: Journal) -> None:
    other.append("image:1", VALUES["file"])
    other.close()
    assert Peers(mine).find("image:1") == VALUES["file"]
    other.forget()
    assert Peers(mine).find("image:1") is None


def test_ones_own_results_are_not_found(mine: Journal) -> None:
    mine.append("image:1", VALUES["file"])
    assert Peers(mine).find("image:1") is None


@pytest.mark.parametrize(
    "tail", [b"image:2 [{", b"\xff\xff\n", b"image:2\n", b"image:2 3\n", b"image:2 [[],1]\n"]
)
def test_a_damaged_line_is_no_result(mine: Journal, other: Journal, tail: bytes) -> None:
    other.append("image:1", VALUES["file"])
    with open(other.path, "ab") as file:
        file.write(tail)
    peers = Peers(mine)
    assert peers.find("image:2") is None
    assert peers.find("image:1") == VALUES["file"]


def test_a_line_is_found_when_its_end_has_come(mine: Journal, other: Journal) -> None:
    other.append("image:1", VALUES["file"])
    whole = Path(other.path).read_bytes()
    Path(other.path).write_bytes(whole[:-5])
    peers = Peers(mine)
    assert peers.find("image:1") is None
    with open(other.path, "ab") as file:
        file.write(whole[-5:])
    assert peers.find("image:1") == VALUES["file"]


def test_who_lives_is_told_by_locks(mine: Journal, other: Journal, tmp_path: Path) -> None:
    peers = Peers(mine)
    assert not peers.are_gone()
    assert peers.is_alive(os.getpid())
    assert not peers.is_alive(1)
    other.append("image:1", VALUES["file"])
    other.close()
    assert peers.are_gone()
    assert not are_dead(str(tmp_path))  # one lives
    mine.close()
    assert are_dead(str(tmp_path))
    peers.remove_dead()
    assert not os.path.exists(other.path)


def test_a_live_journal_is_not_removed(mine: Journal, other: Journal) -> None:
    Peers(mine).remove_dead()
    assert os.path.exists(other.path)


def test_a_result_is_stored_when_all_its_files_are(tmp_path: Path) -> None:
    value = Fileset(members=[Fileset.of_file(FILE)])
    path = tmp_path / "object"
    assert not is_stored(value, lambda digest: str(path))
    path.write_bytes(b"")
    assert not is_stored(value, lambda digest: str(path))
    path.write_bytes(b"a")
    assert is_stored(value, lambda digest: str(path))
