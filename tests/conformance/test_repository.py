"""What every repository promises."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from reflow.cli.lookup import Finder
from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File
from reflow.repository import Repository
from reflow.repository.filerepo import FileRepository
from reflow.repository.layered import LayeredRepository
from reflow.repository.memory import MemoryRepository
from reflow.repository.transfer import copy_files, read_object
from tests.dictbucket import DictBucket, blob_repository

ABSENT = Digest.of(b"absent")
LARGE = bytes(range(256)) * (3 << 12)  # 3 MiB

Factory = Callable[[str], Repository]


@pytest.fixture(params=["file", "memory", "blob", "layered"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Factory:
    if request.param == "file":
        return lambda name: FileRepository(str(tmp_path / name))
    if request.param == "memory":
        return lambda name: MemoryRepository()
    if request.param == "blob":
        return lambda name: blob_repository(DictBucket(name))
    return lambda name: LayeredRepository(
        FileRepository(str(tmp_path / name)), blob_repository(DictBucket(name))
    )


@pytest.fixture
async def repository(make: Factory) -> AsyncIterator[Repository]:
    repository = make("r")
    yield repository
    await repository.close()


async def chunks(data: bytes, size: int = 300_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("data", [b"", b"hello", LARGE])
async def test_what_is_put_can_be_got(repository: Repository, data: bytes) -> None:
    digest = await repository.put(chunks(data))
    assert digest == Digest.of(data)
    pieces = [piece async for piece in repository.get(digest)]
    assert b"".join(pieces) == data
    assert max(map(len, pieces), default=0) <= 1 << 20
    stat = await repository.stat(digest)
    assert (stat.id, stat.size) == (digest, len(data))


async def test_putting_twice_is_putting_once(repository: Repository) -> None:
    assert await repository.put(chunks(LARGE)) == await repository.put(chunks(LARGE))
    assert await repository.put_bytes_many([b"a", b"b", b"a"]) == [
        Digest.of(b"a"),
        Digest.of(b"b"),
        Digest.of(b"a"),
    ]


async def test_an_absent_object_has_an_error(repository: Repository) -> None:
    with pytest.raises(ReflowError) as caught:
        await repository.stat(ABSENT)
    assert caught.value.kind is Kind.NOT_EXIST
    with pytest.raises(ReflowError) as caught:
        await anext(aiter(repository.get(ABSENT)))
    assert caught.value.kind is Kind.NOT_EXIST


async def test_missing_objects_are_told(repository: Repository) -> None:
    here, empty = await repository.put_bytes_many([b"here", b""])
    assert await repository.missing([here, ABSENT, empty]) == {ABSENT}
    assert await repository.missing([]) == set()


async def test_an_object_of_another_size_is_missing(repository: Repository) -> None:
    a, b = await repository.put_bytes_many([b"aa", b"bb"])
    assert await repository.missing({a: 2, b: 3}) == {b}


async def test_many_objects_are_read_at_once(repository: Repository) -> None:
    data = [b"%d" % number for number in range(1200)] + [LARGE]
    digests = await repository.put_bytes_many(data)
    found = await repository.read_many([*digests, ABSENT])
    absent = found[ABSENT]
    assert isinstance(absent, ReflowError)
    assert absent.kind is Kind.NOT_EXIST
    assert [found[digest] for digest in digests] == data


async def test_a_stream_that_fails_leaves_nothing(repository: Repository) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield LARGE
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await repository.put(broken())
    assert await repository.missing([Digest.of(LARGE)]) == {Digest.of(LARGE)}


async def test_abbreviations_are_found(make: Factory) -> None:
    repository = make("r")
    assert isinstance(repository, Finder)
    digests = await repository.put_bytes_many([b"%d" % number for number in range(600)])
    prefix = DigestPrefix(digests[0][:1])
    assert await repository.find(prefix) == sorted({each for each in digests if each[:1] == digests[0][:1]})
    assert await repository.find(DigestPrefix(digests[0][:5])) == [digests[0]]
    assert await repository.find(DigestPrefix(ABSENT[:20])) == []
    await repository.close()


async def test_what_another_repository_lacks_is_copied(make: Factory) -> None:
    source, target = make("source"), make("target")
    digests = await source.put_bytes_many([b"one", b"two", LARGE])
    await target.put_bytes_many([b"one"])
    files = [File(digest, size) for digest, size in zip(digests, (3, 3, len(LARGE)), strict=True)]
    seen: list[int] = []
    assert await copy_files(files, source, target, observe=seen.append) == 3 + len(LARGE)
    assert sum(seen) == 3 + len(LARGE)
    assert await read_object(target, digests[2]) == LARGE
    with pytest.raises(ReflowError) as caught:
        await copy_files([File(ABSENT, 1)], source, target)
    assert caught.value.kind is Kind.NOT_EXIST
    for each in (source, target):
        await each.close()
