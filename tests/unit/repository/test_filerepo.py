import asyncio
import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.repository import filerepo
from reflow.repository.filerepo import FileRepository
from reflow.repository.objectfile import OBJECT_TIME_NS

HELLO = Digest.of(b"hello")


@pytest.fixture
async def repository(tmp_path: Path) -> AsyncIterator[FileRepository]:
    repository = FileRepository(str(tmp_path / "r"))
    yield repository
    await repository.close()


async def put(repository: FileRepository, data: bytes) -> str:
    (digest,) = await repository.put_bytes_many([data])
    return repository.path(digest)


def alter(path: str, data: bytes, *, hide: bool = False) -> None:
    """Write to an object as a careless command does; ``hide``: and set its time back."""
    os.chmod(path, 0o644)
    Path(path).write_bytes(data)
    if hide:
        os.utime(path, ns=(OBJECT_TIME_NS, OBJECT_TIME_NS))


def read(path: str) -> bytes:
    return Path(path).read_bytes()


def leftovers(repository: FileRepository) -> list[str]:
    directory = os.path.join(repository.root, "tmp")
    return os.listdir(directory) if os.path.isdir(directory) else []


async def test_objects_lie_where_the_original_puts_them(repository: FileRepository) -> None:
    path = await put(repository, b"hello")
    assert path == f"{repository.root}/2c/f24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    status = os.stat(path)
    assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o444, OBJECT_TIME_NS)
    assert leftovers(repository) == []


async def test_archives_of_objects_are_the_same_every_time(repository: FileRepository) -> None:
    path = await put(repository, b"hello")
    seconds = os.stat(path).st_mtime
    assert gzip.compress(b"hello", mtime=seconds)[4:8] == (946_684_800).to_bytes(4, "little")


def test_a_file_is_taken_over(repository: FileRepository, tmp_path: Path) -> None:
    source = tmp_path / "out"
    source.write_bytes(b"hello")
    inode = source.stat().st_ino
    file = repository.install(str(source))
    assert (file.id, file.size, source.exists()) == (HELLO, 5, False)
    status = os.stat(repository.path(HELLO))
    assert (status.st_ino, status.st_mode & 0o7777, status.st_mtime_ns) == (inode, 0o444, OBJECT_TIME_NS)


def test_the_first_of_equal_objects_stays(repository: FileRepository, tmp_path: Path) -> None:
    inodes = []
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"hello")
        repository.install(str(tmp_path / name))
        assert not (tmp_path / name).exists()
        inodes.append(os.stat(repository.path(HELLO)).st_ino)
    assert inodes[0] == inodes[1]


def test_a_file_with_further_names_is_copied(repository: FileRepository, tmp_path: Path) -> None:
    source, mine = tmp_path / "out", tmp_path / "mine"
    mine.write_bytes(b"hello")
    mine.chmod(0o640)
    os.link(mine, source)
    assert repository.install(str(source)).id == HELLO
    assert not source.exists()
    status = os.stat(mine)
    assert (status.st_nlink, status.st_mode & 0o7777) == (1, 0o640)
    assert os.stat(repository.path(HELLO)).st_ino != status.st_ino


def test_a_file_of_another_device_is_copied(
    repository: FileRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "out"
    source.write_bytes(b"hello" * 500_000)
    monkeypatch.setattr(repository.directory, "device", lambda: -1)
    file = repository.install(str(source))
    assert file.id == Digest.of(b"hello" * 500_000)
    assert (source.exists(), leftovers(repository)) == (False, [])
    assert Path(repository.path(file.id)).read_bytes() == b"hello" * 500_000


def test_a_file_of_another_user_is_copied(
    repository: FileRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "out"
    source.write_bytes(b"hello")
    monkeypatch.setattr(filerepo, "_is_dressed", lambda stream: False)
    assert repository.install(str(source)).id == HELLO
    assert (source.exists(), Path(repository.path(HELLO)).read_bytes()) == (False, b"hello")


def test_what_is_no_file_is_refused_by_name(repository: FileRepository, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dir").mkdir()
    for name, cause in [("link", "symbolic link"), ("fifo", "no regular file"), ("dir", "no regular file")]:
        with pytest.raises(ReflowError, match=f"{name}: invalid: is .*{cause}"):
            repository.install(str(tmp_path / name))
    with pytest.raises(ReflowError) as caught:
        repository.install(str(tmp_path / "absent"))
    assert caught.value.kind is Kind.NOT_EXIST


async def test_an_object_that_was_written_to_is_missing(repository: FileRepository) -> None:
    path = await put(repository, b"hello")
    alter(path, b"jello")
    assert await repository.missing([HELLO]) == {HELLO}
    assert sorted(os.listdir(repository.root)) == ["2c", "damaged", "tmp"]
    await put(repository, b"hello")
    assert await repository.missing([HELLO]) == set()


async def test_an_object_that_was_only_touched_is_repaired(repository: FileRepository) -> None:
    path = await put(repository, b"hello")
    os.utime(path)
    os.chmod(path, 0o600)
    assert await repository.missing([HELLO]) == set()
    status = os.stat(path)
    assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o444, OBJECT_TIME_NS)


async def test_an_object_that_lost_its_bytes_is_missing_and_replaced(repository: FileRepository) -> None:
    path = await put(repository, b"hello")
    alter(path, b"", hide=True)
    assert await repository.missing([HELLO]) == {HELLO}
    await put(repository, b"hello")
    assert read(path) == b"hello"


async def test_small_objects_are_checked_when_read(repository: FileRepository) -> None:
    path = await put(repository, b"hello")
    alter(path, b"jello", hide=True)
    found = (await repository.read_many([HELLO]))[HELLO]
    assert isinstance(found, ReflowError)
    assert found.kind is Kind.INTEGRITY
    assert repository.directory.du() == (0, 0)
    assert "set aside as" in str(found)


async def test_on_a_network_file_system_threads_wait(
    repository: FileRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filerepo, "is_network", lambda root: True)
    digests = await repository.put_bytes_many([b"%d" % number for number in range(200)])
    absent = Digest.of(b"absent")
    assert await repository.missing([*digests, absent]) == {absent}
    found = await repository.read_many(digests)
    assert [found[digest] for digest in digests] == [b"%d" % number for number in range(200)]


async def test_use_and_space_are_told(repository: FileRepository) -> None:
    assert repository.directory.du() == (0, 0)
    await repository.put_bytes_many([b"hello", b"you"])
    assert repository.directory.du() == (2, 8)
    assert {each.digest for each in repository.directory.objects()} == {HELLO, Digest.of(b"you")}
    free, total = repository.directory.space()
    assert 0 < free <= total
    assert (repository.directory.remove(HELLO), repository.directory.remove(HELLO)) == (True, False)
    assert repository.directory.du() == (1, 3)


async def test_what_killed_writers_left_is_swept(repository: FileRepository) -> None:
    await put(repository, b"hello")
    draft = Path(repository.root) / "tmp" / "put-1"
    draft.write_bytes(b"half")
    assert repository.directory.sweep(time.time() - 3600) == 0
    assert repository.directory.sweep(time.time() + 3600) == 1
    assert not draft.exists()
    assert repository.directory.du() == (1, 5)


async def test_a_put_that_is_cancelled_leaves_nothing(repository: FileRepository) -> None:
    half = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(1 << 20)
        half.set()
        await asyncio.sleep(60)

    task = asyncio.create_task(repository.put(endless()))
    await half.wait()
    assert leftovers(repository)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await repository.close()
    assert leftovers(repository) == []


async def test_names_are_bytes_of_all_kinds(tmp_path: Path) -> None:
    root = os.fsdecode(os.path.join(os.fsencode(tmp_path), b"caf\xe9 'q\"\n"))
    repository = FileRepository(root)
    path = await put(repository, b"hello")
    assert read(path) == b"hello"
    assert await repository.missing([HELLO]) == set()


PUTTER = """
import asyncio, os, sys
from reflow.repository.filerepo import FileRepository
async def chunks(number):
    for _ in range(20):
        yield number.to_bytes(4, "little") * (1 << 16)
async def main():
    repository = FileRepository(sys.argv[1])
    for number in range(int(sys.argv[2]), int(sys.argv[2]) + int(sys.argv[3])):
        await repository.put(chunks(number))
        path = os.path.join(sys.argv[1], f"out-{os.getpid()}")
        with open(path, "wb") as stream:
            stream.write(b"%d" % number * 1000)
        repository.install(path)
        print(number, flush=True)
asyncio.run(main())
"""


def start_putter(root: str, first: int, count: int) -> subprocess.Popen[bytes]:
    os.makedirs(root, exist_ok=True)
    command = [sys.executable, "-c", PUTTER, root, str(first), str(count)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE)


def check_whole(repository: FileRepository) -> int:
    """Assert that every object has its digest; how many there are."""
    objects = list(repository.directory.objects())
    assert all(repository.directory.verify(each.digest) for each in objects)
    return len(objects)


def test_a_killed_writer_leaves_whole_objects_only(repository: FileRepository) -> None:
    putter = start_putter(repository.root, 0, 1_000_000)
    assert putter.stdout is not None
    for _ in range(5):
        putter.stdout.readline()
    putter.send_signal(signal.SIGKILL)
    said = 5 + len(putter.stdout.read().split())
    putter.wait()
    putter.stdout.close()
    assert check_whole(repository) >= 2 * said


def test_processes_may_store_the_same_objects_at_once(repository: FileRepository) -> None:
    putters = [start_putter(repository.root, 0, 12) for _ in range(3)]
    for putter in putters:
        putter.communicate(timeout=60)
        assert putter.returncode == 0
    assert check_whole(repository) == 24
    assert leftovers(repository) == []
