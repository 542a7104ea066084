import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.repository import place as module
from reflow.repository.filerepo import FileRepository
from reflow.repository.localstate import local_state
from reflow.repository.place import Placer

HELLO = Digest.of(b"hello")
OTHER = Digest.of(b"other")


@pytest.fixture
async def repository(tmp_path: Path) -> FileRepository:
    repository = FileRepository(str(tmp_path / "objects"))
    await repository.put_bytes_many([b"hello", b"other"])
    return repository


@pytest.fixture
def placer(tmp_path: Path, repository: FileRepository) -> Iterator[Placer]:
    state = local_state(str(tmp_path / "home" / "local.db"))
    yield Placer(state, repository.path)
    state.close()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results" / "out"


def tree(root: Path) -> dict[str, bytes | None]:
    """Relative path -> contents, None for directories."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


def test_a_tree_is_placed(placer: Placer, out: Path) -> None:
    seen: list[tuple[int, int]] = []
    entries = {"0/a b": HELLO, "0/c": OTHER, "1": b"text", "empty": None}
    placer.check_target(str(out))
    assert placer.place_tree(entries, str(out), lambda *numbers: seen.append(numbers)) is None
    assert tree(out) == {"0": None, "0/a b": b"hello", "0/c": b"other", "1": b"text", "empty": None}
    assert seen[-1] == (14, 14)
    assert os.listdir(out.parent) == ["out"]


def test_what_is_placed_belongs_to_the_user(placer: Placer, out: Path, repository: FileRepository) -> None:
    placer.place_tree({"a": HELLO}, str(out))
    status = os.stat(out / "a")
    assert status.st_nlink == 1
    assert status.st_mode & 0o200
    assert status.st_mtime > time.time() - 60
    (out / "a").write_bytes(b"mine")
    assert Path(repository.path(HELLO)).read_bytes() == b"hello"


@pytest.mark.parametrize(("entry", "content"), [(HELLO, b"hello"), (b"1\n", b"1\n")])
def test_a_lone_file_is_placed(placer: Placer, out: Path, entry: Digest | bytes, content: bytes) -> None:
    placer.place_tree({".": entry}, str(out))
    assert out.read_bytes() == content
    placer.place_tree({".": OTHER}, str(out))
    assert out.read_bytes() == b"other"


def test_an_empty_directory_is_placed(placer: Placer, out: Path) -> None:
    placer.place_tree({".": None}, str(out))
    assert tree(out) == {}
    placer.place_tree({}, str(out))
    assert out.is_dir()


def test_what_an_earlier_run_placed_is_replaced(placer: Placer, out: Path) -> None:
    placer.place_tree({"a": HELLO, "b": HELLO}, str(out))
    placer.check_target(f"{out}/")
    assert placer.place_tree({"a": OTHER}, str(out)) is None
    assert tree(out) == {"a": b"other"}
    assert placer.place_tree({".": HELLO}, str(out)) is None
    assert out.read_bytes() == b"hello"
    assert os.listdir(out.parent) == ["out"]


def test_what_the_user_changed_is_kept(placer: Placer, out: Path) -> None:
    placer.place_tree({"a": HELLO}, str(out))
    (out / "mine").write_text("notes")
    kept = placer.place_tree({"a": OTHER}, str(out))
    assert kept is not None
    assert tree(Path(kept)) == {"a": b"hello", "mine": b"notes"}
    assert tree(out) == {"a": b"other"}
    placer.check_target(str(out))


@pytest.mark.parametrize("kind", ["file", "dir", "link"])
def test_what_nobody_placed_is_left_alone(placer: Placer, out: Path, kind: str) -> None:
    out.parent.mkdir()
    if kind == "file":
        out.write_text("mine")
    elif kind == "dir":
        out.mkdir()
    else:
        out.symlink_to("nowhere")
    before = os.lstat(out)
    for act in (lambda: placer.check_target(str(out)), lambda: placer.place_tree({".": HELLO}, str(out))):
        with pytest.raises(ReflowError, match=f"out {out}: invalid: exists already, and no earlier run"):
            act()
    assert os.lstat(out) == before


def test_a_place_that_the_user_made_anew_is_left_alone(placer: Placer, out: Path) -> None:
    placer.place_tree({"a": HELLO}, str(out))
    out.rename(out.with_name("moved"))
    out.mkdir()
    with pytest.raises(ReflowError, match="no earlier run placed it"):
        placer.check_target(str(out))


def test_a_target_below_a_file_is_refused(placer: Placer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReflowError, match="file is no directory"):
        placer.check_target(str(tmp_path / "file" / "out"))


def test_a_directory_that_cannot_be_written_is_refused(
    placer: Placer, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)
    with pytest.raises(ReflowError, match="cannot be written") as caught:
        placer.check_target(str(out))
    assert caught.value.kind is Kind.NOT_ALLOWED


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../x", "a//b", ""])
def test_paths_that_lead_out_are_refused(placer: Placer, out: Path, name: str) -> None:
    with pytest.raises(ReflowError, match="leads out of the result"):
        placer.place_tree({"ok": HELLO, name: HELLO}, str(out))
    assert os.listdir(out.parent) == []


def test_a_failure_leaves_the_old_tree(placer: Placer, out: Path) -> None:
    placer.place_tree({"a": HELLO}, str(out))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        placer.place_tree({"a": OTHER, "b": OTHER}, str(out), stop)
    with pytest.raises(ReflowError, match="File name too long"):
        placer.place_tree({"a" * 300: OTHER}, str(out))
    with pytest.raises(ReflowError) as caught:
        placer.place_tree({"a": Digest.of(b"absent")}, str(out))
    assert caught.value.kind is Kind.NOT_EXIST
    assert tree(out) == {"a": b"hello"}
    assert os.listdir(out.parent) == ["out"]


def test_drafts_of_killed_runs_are_swept(placer: Placer, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (out.parent / ".reflow-out-1").mkdir(parents=True)
    placer.place_tree({"a": HELLO}, str(out))
    assert len(os.listdir(out.parent)) == 2
    monkeypatch.setattr(module, "_STALE_S", -60)
    placer.place_tree({"a": HELLO}, str(out))
    assert os.listdir(out.parent) == ["out"]


def test_a_run_that_was_killed_while_exchanging_is_recognised(placer: Placer, out: Path) -> None:
    placer.place_tree({"a": HELLO}, str(out))
    placer._forget_others = lambda path: None  # type: ignore[method-assign]
    placer.place_tree({"a": OTHER}, str(out))
    placer.check_target(str(out))


def test_names_of_all_kinds_of_bytes(placer: Placer, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 'q\"\n:%s")
    placer.place_tree({name: HELLO}, str(tmp_path / name))
    placer.place_tree({name: OTHER}, str(tmp_path / name))
    assert (tmp_path / name / name).read_bytes() == b"other"
