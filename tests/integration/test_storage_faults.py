"""Disks that are full, that cannot be written, and that are another device: real ones, mounted here."""

import os
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reflow.assoc import Kind as Column
from reflow.assoc.sqlite import SqliteAssoc
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.repository.filerepo import FileRepository
from reflow.repository.localstate import local_state
from reflow.repository.place import Placer
from reflow.taskdb.sqlite import SqliteTaskDB

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")

Mount = Callable[..., Path]
NEW = Column.FILESET_V2
A, V = Digest.of(b"a"), Digest.of(b"v")


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a tmpfs with some options; all are unmounted at the end."""
    mounted: list[Path] = []

    def make(name: str, options: str) -> Path:
        path = tmp_path / name
        path.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True)
        mounted.append(path)
        return path

    yield make
    for path in reversed(mounted):
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def small(mount: Mount) -> Path:
    return mount("small", "size=1m")


def fill(directory: Path, spare_bytes: int) -> None:
    """Leave only so many bytes free."""
    free = os.statvfs(directory).f_bavail * os.statvfs(directory).f_frsize
    with open(directory / "filler", "wb") as stream:
        stream.write(bytes(free - spare_bytes))


def read_only(directory: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(directory)], check=True)


def files(root: Path) -> list[str]:
    return [path.name for path in root.rglob("*") if path.is_file()]


async def large() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield os.urandom(1 << 20)


def check_full(error: ReflowError, path: Path) -> None:
    assert error.kind is Kind.RESOURCES_EXHAUSTED
    assert str(path) in str(error)
    assert "are free" in str(error)


async def test_a_full_disk_is_named_and_keeps_no_halves(small: Path) -> None:
    repository = FileRepository(str(small / "objects"))
    (kept,) = await repository.put_bytes_many([b"kept"])
    with pytest.raises(ReflowError) as caught:
        await repository.put(large())
    check_full(caught.value, small)
    with pytest.raises(ReflowError) as caught:
        await repository.put_bytes_many([os.urandom(1 << 20)])
    check_full(caught.value, small)
    assert repository.directory.du() == (1, 4)
    assert len(files(small)) == 1
    assert (await repository.read_many([kept]))[kept] == b"kept"
    await repository.close()


async def test_an_output_that_does_not_fit_stays_where_it_is(small: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.write_bytes(os.urandom(2 << 20))
    repository = FileRepository(str(small / "objects"))
    with pytest.raises(ReflowError) as caught:
        repository.install(str(output))
    check_full(caught.value, output)
    check_full(caught.value, small)
    assert output.stat().st_size == 2 << 20
    assert files(small) == []


def test_outputs_of_another_device_are_copied_once(small: Path, tmp_path: Path) -> None:
    output = small / "output"
    output.write_bytes(b"hello" * 1000)
    repository = FileRepository(str(tmp_path / "objects"))
    file = repository.install(str(output))
    assert Path(repository.path(Digest.of(b"hello" * 1000))).read_bytes() == b"hello" * 1000
    assert (file.size, output.exists()) == (5000, False)


async def test_an_index_on_a_full_disk_stays_whole(small: Path) -> None:
    assoc = SqliteAssoc(str(small / "assoc.db"))
    await assoc.put_many({(NEW, A): V})
    fill(small, 0)
    with pytest.raises(ReflowError) as caught:
        await assoc.put_many({(NEW, Digest.of(b"%d" % number)): V for number in range(20_000)})
    check_full(caught.value, small)
    assert await assoc.count() == 1
    (small / "filler").unlink()
    await assoc.put_many({(NEW, V): A})
    assert await assoc.get_many([(NEW, A), (NEW, V)]) == {(NEW, A): V, (NEW, V): A}
    await assoc.close()


@pytest.mark.parametrize("make", [SqliteAssoc, SqliteTaskDB])
async def test_a_new_file_on_a_full_disk_is_named(small: Path, make: type[SqliteAssoc]) -> None:
    fill(small, 0)
    with pytest.raises(ReflowError) as caught:
        await _first_use(make(str(small / "x.db")))
    check_full(caught.value, small)


async def _first_use(store: SqliteAssoc | SqliteTaskDB) -> None:
    if isinstance(store, SqliteAssoc):
        await store.count()
    else:
        store.keepalive(A, datetime.now(UTC))
        await store.flush()


@pytest.mark.parametrize("exists", [True, False])
async def test_a_directory_that_cannot_be_written_says_what_to_set(small: Path, exists: bool) -> None:
    path = small / "home" / "assoc.db"
    if exists:
        assoc = SqliteAssoc(str(path))
        await assoc.put_many({(NEW, A): V})
        await assoc.close()
    read_only(small)
    assoc = SqliteAssoc(str(path))
    with pytest.raises(ReflowError, match="set REFLOW_HOME to a directory that can be written") as caught:
        await assoc.put_many({(NEW, V): A})
    assert caught.value.kind is Kind.NOT_ALLOWED
    assert str(path) in str(caught.value)


async def test_objects_on_a_disk_that_cannot_be_written(small: Path) -> None:
    repository = FileRepository(str(small / "objects"))
    (kept,) = await repository.put_bytes_many([b"kept"])
    read_only(small)
    assert await repository.missing([kept]) == set()
    assert await repository.put_bytes_many([b"kept"]) == [kept]
    with pytest.raises(ReflowError, match="Read-only file system") as caught:
        await repository.put_bytes_many([b"new"])
    assert caught.value.kind is Kind.NOT_ALLOWED


async def test_results_that_do_not_fit_leave_the_old_ones(small: Path, tmp_path: Path) -> None:
    repository = FileRepository(str(tmp_path / "objects"))
    old, new = await repository.put_bytes_many([b"old", os.urandom(2 << 20)])
    placer = Placer(local_state(str(tmp_path / "local.db")), repository.path)
    out = small / "out"
    placer.place_tree({"a": old}, str(out))
    with pytest.raises(ReflowError) as caught:
        placer.place_tree({"a": new}, str(out))
    check_full(caught.value, out)
    assert os.listdir(small) == ["out"]
    assert (out / "a").read_bytes() == b"old"
    await repository.close()


def test_sqlite_reports_a_full_disk_as_we_expect(small: Path) -> None:
    fill(small, 0)
    connection = sqlite3.connect(small / "x.db")
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("CREATE TABLE a (x)")
    connection.close()
    assert caught.value.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
