import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.signature import Signature
from reflow.disk.database import Database
from reflow.flow.data import LocalFile
from reflow.pool import InputLocator
from reflow.repository import inputs as module
from reflow.repository.filerepo import FileRepository
from reflow.repository.inputs import LocalInputs
from reflow.repository.localstate import local_state

HELLO = Digest.of(b"hello")
LATER_NS = 3 * 10**9


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Database]:
    state = local_state(str(tmp_path / "home" / "local.db"))
    yield state
    state.close()


@pytest.fixture
def inputs(tmp_path: Path, state: Database) -> LocalInputs:
    return LocalInputs(state, FileRepository(str(tmp_path / "objects")))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "in put"
    path.write_bytes(b"hello")
    return path


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all files be older than they are."""
    real = module._touch_ns
    monkeypatch.setattr(module, "_touch_ns", lambda directory: real(directory) + LATER_NS)


def local(path: Path) -> LocalFile:
    return LocalFile(str(path), os.stat(path))


class NeverRead(LocalFile):
    """A local file that says so when it is read."""

    def hash(self, observe: object = None) -> None:
        raise AssertionError(f"{self.path} was read")


def unread(path: Path) -> LocalFile:
    return NeverRead(str(path), os.stat(path))


def test_they_are_what_executors_want(inputs: LocalInputs) -> None:
    locator: InputLocator = inputs
    assert callable(locator.locate)


async def test_files_get_both_digests(inputs: LocalInputs, path: Path) -> None:
    file, alone = local(path), local(path)
    alone.hash()
    seen: list[tuple[int, int, int, int]] = []
    await inputs.hash_all([file], lambda *numbers: seen.append(numbers))
    assert (file.digest, file.data_digest) == (HELLO, alone.data_digest)
    assert seen[-1] == (1, 1, 5, 5)


@pytest.mark.usefixtures("later")
async def test_a_file_is_read_once(inputs: LocalInputs, path: Path) -> None:
    first = local(path)
    await inputs.hash_all([first])
    again = unread(path)
    await inputs.hash_all([again])
    assert (again.digest, again.data_digest) == (first.digest, first.data_digest)


async def test_a_file_that_just_changed_is_not_remembered(inputs: LocalInputs, path: Path) -> None:
    await inputs.hash_all([local(path)])
    with pytest.raises(AssertionError, match="was read"):
        await inputs.hash_all([unread(path)])


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("change", ["contents", "time", "replaced", "mode"])
async def test_a_file_that_changed_is_read_again(inputs: LocalInputs, path: Path, change: str) -> None:
    await inputs.hash_all([local(path)])
    if change == "contents":
        path.write_bytes(b"world")
    elif change == "time":
        os.utime(path, ns=(1, 1))
    elif change == "replaced":
        path.with_name("new").write_bytes(b"hello")
        path.with_name("new").rename(path)
    else:
        path.chmod(0o600)
    with pytest.raises(AssertionError, match="was read"):
        await inputs.hash_all([unread(path)])


@pytest.mark.usefixtures("later")
async def test_one_file_by_two_names_is_read_once(inputs: LocalInputs, path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    first, other = local(path), NeverRead(str(link), os.stat(link))
    await inputs.hash_all([first, other])
    assert other.digest == HELLO


async def test_many_files_are_hashed_in_threads(inputs: LocalInputs, tmp_path: Path) -> None:
    files = []
    for number in range(200):
        path = tmp_path / str(number)
        path.write_bytes(b"%d" % number * 30_000)
        files.append(local(path))
    seen: list[tuple[int, int, int, int]] = []
    await inputs.hash_all(files, lambda *numbers: seen.append(numbers))
    assert [file.digest for file in files] == [Digest.of(b"%d" % number * 30_000) for number in range(200)]
    total = sum(file.size for file in files)
    assert seen[-1] == (200, 200, total, total)
    assert seen == sorted(seen)


@pytest.mark.parametrize("size", [10, 6 << 20])
async def test_a_file_that_is_gone_is_named(inputs: LocalInputs, path: Path, size: int) -> None:
    path.write_bytes(bytes(size))
    file = local(path)
    path.unlink()
    with pytest.raises(ReflowError, match=f"file {path}: resource does not exist"):
        await inputs.hash_all([file])


class SlowFile(LocalFile):
    """A file that takes for ever to read, piece by piece."""

    pieces = 0

    def hash(self, observe: object = None) -> None:
        assert callable(observe)
        while True:
            SlowFile.pieces += 1
            time.sleep(0.001)
            observe(1)


async def test_cancelling_stops_reading_at_once(inputs: LocalInputs, path: Path) -> None:
    path.write_bytes(bytes(6 << 20))
    file = SlowFile(str(path), os.stat(path))
    began_s = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await inputs.hash_all([file])
    assert time.monotonic() - began_s < 2
    await asyncio.sleep(0.05)
    pieces = SlowFile.pieces
    await asyncio.sleep(0.05)
    assert SlowFile.pieces == pieces > 0


class Restless(LocalFile):
    """A file that changes the first times it is read."""

    reads = 0

    def hash(self, observe: object = None) -> None:
        Restless.reads += 1
        if Restless.reads < 3:
            raise ReflowError(Kind.TEMPORARY, "file", self.path, cause="changed while it was read")
        super().hash()


async def test_a_file_that_changes_while_it_is_read_is_read_again(inputs: LocalInputs, path: Path) -> None:
    file = Restless(str(path), os.stat(path))
    await inputs.hash_all([file])
    assert (file.digest, Restless.reads) == (HELLO, 3)


@pytest.mark.usefixtures("later")
async def test_trouble_with_the_memory_is_no_error(path: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"no database " * 100)
    inputs = LocalInputs(local_state(str(damaged)), FileRepository(str(tmp_path / "objects")))
    file = local(path)
    await inputs.hash_all([file])
    assert file.digest == HELLO
    assert inputs.trouble is not None
    assert inputs.trouble.kind is Kind.INTEGRITY
    inputs.state.close()


async def test_contents_are_found_in_the_repository_first(inputs: LocalInputs, path: Path) -> None:
    with pytest.raises(ReflowError) as caught:
        inputs.locate(HELLO)
    assert caught.value.kind is Kind.NOT_EXIST
    await inputs.hash_all([local(path)])
    assert inputs.locate(HELLO) == (str(path), True)
    await inputs.repository.put_bytes_many([b"hello"])
    assert inputs.locate(HELLO) == (inputs.repository.path(HELLO), False)


async def test_paths_are_made_absolute(
    inputs: LocalInputs, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    await inputs.hash_all([LocalFile(path.name, os.stat(path.name))])
    assert inputs.locate(HELLO) == (str(path), True)


async def test_a_file_that_changes_while_it_is_used_is_named(inputs: LocalInputs, path: Path) -> None:
    await inputs.hash_all([local(path)])
    inputs.locate(HELLO)
    inputs.check_unchanged(HELLO)
    path.write_bytes(b"hello!")
    with pytest.raises(ReflowError, match=r"file .*in put: invalid: changed since .* 5 bytes and has 6"):
        inputs.check_unchanged(HELLO)
    with pytest.raises(ReflowError, match="changed since it was read"):
        inputs.locate(HELLO)


async def test_another_file_with_the_same_contents_does(inputs: LocalInputs, path: Path) -> None:
    twin = path.with_name("twin")
    twin.write_bytes(b"hello")
    await inputs.hash_all([local(path), local(twin)])
    path.unlink()
    assert inputs.locate(HELLO) == (str(twin), True)
    inputs.check_unchanged(HELLO)


async def test_a_users_file_that_is_kept_is_copied_once(inputs: LocalInputs, path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    await inputs.hash_all([local(link)])
    kept = Path(inputs.keep(HELLO))
    assert (kept.read_bytes(), kept.stat().st_nlink, path.stat().st_nlink) == (b"hello", 1, 1)
    assert path.stat().st_mode & 0o200
    path.unlink()
    assert inputs.keep(HELLO) == str(kept)


async def test_what_is_no_longer_what_was_hashed_is_not_kept(inputs: LocalInputs, path: Path) -> None:
    await inputs.hash_all([local(path)])
    before = os.stat(path)
    changed = inputs.repository.copy_in

    def change(name: str) -> object:
        # After its size and times were looked at.
        path.write_bytes(b"jello")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return changed(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs.repository, "copy_in", change)
        with pytest.raises(ReflowError, match=r"file .*in put: invalid: changed since it was read"):
            inputs.keep(HELLO)
    assert await inputs.repository.missing([HELLO]) == {HELLO}


async def test_what_is_nowhere_is_not_kept(inputs: LocalInputs) -> None:
    with pytest.raises(ReflowError) as caught:
        inputs.keep(HELLO)
    assert caught.value.kind is Kind.NOT_EXIST


async def test_each_object_set_aside_is_another_epoch(inputs: LocalInputs) -> None:
    await inputs.repository.put_bytes_many([b"hello"])
    before = inputs.epoch
    inputs.repository.directory.set_aside(HELLO)
    assert inputs.epoch != before


async def test_an_altered_object_is_set_aside(inputs: LocalInputs) -> None:
    await inputs.repository.put_bytes_many([b"hello"])
    path, _ = inputs.locate(HELLO)
    os.utime(path)
    inputs.check_unchanged(HELLO)
    os.chmod(path, 0o644)
    await asyncio.to_thread(Path(path).write_bytes, b"jello")
    with pytest.raises(ReflowError, match="altered while a command had it as input") as caught:
        inputs.check_unchanged(HELLO)
    assert caught.value.kind is Kind.INTEGRITY
    assert path in str(caught.value)
    assert await inputs.repository.missing([HELLO]) == {HELLO}


async def test_a_corrupt_object_that_looks_right_is_set_aside(inputs: LocalInputs) -> None:
    await inputs.repository.put_bytes_many([b"hello"])
    inputs.check_contents(HELLO)
    path, _ = inputs.locate(HELLO)
    before = os.stat(path)
    os.chmod(path, 0o644)
    await asyncio.to_thread(Path(path).write_bytes, b"jello")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    inputs.check_unchanged(HELLO)
    with pytest.raises(ReflowError, match=r"set aside as .*/damaged/") as caught:
        inputs.check_contents(HELLO)
    assert (caught.value.kind, caught.value.op) == (Kind.INTEGRITY, "inputs.verify")
    assert await inputs.repository.missing([HELLO]) == {HELLO}


async def test_an_object_that_vanishes_is_named(inputs: LocalInputs) -> None:
    await inputs.repository.put_bytes_many([b"hello"])
    path, _ = inputs.locate(HELLO)
    os.unlink(path)
    with pytest.raises(ReflowError, match="removed while a command had it as input"):
        inputs.check_unchanged(HELLO)


def test_a_signature_is_of_one_state(path: Path) -> None:
    before = Signature.of(os.stat(path))
    assert Signature.of(os.stat(path)) == before
    path.write_bytes(b"other")
    assert Signature.of(os.stat(path)) != before
