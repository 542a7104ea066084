import errno
import os
from pathlib import Path

import pytest

from reflow.core.errors import Kind
from reflow.disk import filesystem
from reflow.disk.filesystem import (
    copy_contents,
    copy_file,
    disk_space,
    exchange,
    existing_ancestor,
    file_system_type,
    is_network,
    rename_new,
    translate_error,
)

CONTENT = os.urandom(3 << 20)


@pytest.fixture(params=["clone", "kernel", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether blocks are shared (if this file system can), or the kernel copies, or we do."""
    if request.param != "clone":
        monkeypatch.setattr(filesystem, "_clone", lambda source, target: False)
    if request.param == "plain":
        monkeypatch.setattr(filesystem, "_copy_in_kernel", lambda *arguments: 0)
    return str(request.param)


def test_copies_are_equal_and_apart(tmp_path: Path, way: str) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(CONTENT)
    assert copy_file(str(source), str(target)) == len(CONTENT)
    assert target.read_bytes() == CONTENT
    assert os.stat(source).st_nlink == os.stat(target).st_nlink == 1
    target.write_bytes(b"changed")
    assert source.read_bytes() == CONTENT


def test_progress_counts_all_bytes(tmp_path: Path, way: str) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    seen: list[int] = []
    with open(tmp_path / "a", "rb") as source, open(tmp_path / "b", "wb") as target:
        copy_contents(source.fileno(), target.fileno(), len(CONTENT), seen.append)
    assert sum(seen) == len(CONTENT)


def test_a_source_that_ends_early_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "_clone", lambda source, target: False)
    (tmp_path / "a").write_bytes(b"abc")
    with (
        open(tmp_path / "a", "rb") as source,
        open(tmp_path / "b", "wb") as target,
        pytest.raises(OSError, match="ended after 3 of 4 bytes"),
    ):
        copy_contents(source.fileno(), target.fileno(), 4)


def test_a_copy_does_not_overwrite(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        copy_file(str(tmp_path / "a"), str(tmp_path / "b"))


@pytest.mark.parametrize("kernel", [True, False])
def test_two_paths_change_places(tmp_path: Path, kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernel:
        monkeypatch.setattr(filesystem, "_renameat2", lambda left, right, flags: errno.ENOSYS)
    (tmp_path / "a").write_text("file")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_text("inside")
    exchange(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "a" / "c").read_text() == "inside"
    assert (tmp_path / "b").read_text() == "file"
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize("kernel", [True, False])
def test_a_new_name_must_be_free(tmp_path: Path, kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernel:
        monkeypatch.setattr(filesystem, "_renameat2", lambda left, right, flags: errno.EINVAL)
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        rename_new(str(tmp_path / "a"), str(tmp_path / "b"))
    rename_new(str(tmp_path / "a"), str(tmp_path / "c"))
    assert (tmp_path / "c").read_text() == "a"


MOUNTS = """\
20 1 8:1 / / rw - ext4 /dev/sda1 rw
21 20 0:50 / /mnt/my\\040data rw shared:1 - nfs4 server:/x rw
22 20 0:51 / /mnt/my\\040data/local rw - xfs /dev/sdb rw
23 20 0:52 / /home rw - fuse.sshfs host: rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "remote"),
    [
        ("/mnt/my data/deep/file", "nfs4", True),
        ("/mnt/my database", "ext4", False),
        ("/mnt/my data/local", "xfs", False),
        ("/home/jo", "fuse.sshfs", True),
    ],
)
def test_file_systems_are_known_by_their_mounts(
    path: str, kind: str, remote: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS)
    real_open = open
    monkeypatch.setattr("builtins.open", lambda name, *rest, **more: real_open(table, *rest, **more))
    monkeypatch.setattr(filesystem, "existing_ancestor", lambda path: path)
    is_network.cache_clear()
    try:
        assert (file_system_type(path), is_network(path)) == (kind, remote)
    finally:
        is_network.cache_clear()


def test_the_nearest_directory_tells_the_space(tmp_path: Path) -> None:
    assert existing_ancestor(str(tmp_path / "a" / "b")) == str(tmp_path)
    free, total = disk_space(str(tmp_path / "a" / "b"))
    assert 0 <= free <= total


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, Kind.NOT_EXIST),
        (errno.EROFS, Kind.NOT_ALLOWED),
        (errno.ENOSPC, Kind.RESOURCES_EXHAUSTED),
        (errno.ESTALE, Kind.TEMPORARY),
        (errno.ENAMETOOLONG, Kind.INVALID),
    ],
)
def test_errors_of_the_system_have_kinds(number: int, kind: Kind, tmp_path: Path) -> None:
    err = translate_error(OSError(number, os.strerror(number)), "repository.put", str(tmp_path / "x"))
    assert err.kind is kind
    assert str(tmp_path / "x") in str(err)
    assert ("are free" in str(err)) == (number == errno.ENOSPC)
