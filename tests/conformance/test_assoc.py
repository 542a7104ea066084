"""What every assoc promises."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reflow.assoc import Assoc, Collectable, Kind
from reflow.assoc.dynamodb import DynamoAssoc
from reflow.assoc.memory import MemoryAssoc
from reflow.assoc.sqlite import SqliteAssoc
from reflow.aws.tables import ASSOC
from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind as ErrorKind
from reflow.core.errors import ReflowError
from tests import dynamotable, servers

A, B, C, V, W = (Digest.of(name) for name in (b"a", b"b", b"c", b"v", b"w"))
OLD, NEW = Kind.FILESET, Kind.FILESET_V2

Factory = Callable[..., Assoc]


DYNAMO = [
    pytest.param("dynamodb-dynalite-direct", marks=pytest.mark.dynamodb),
    pytest.param("dynamodb-dynalite-boto", marks=pytest.mark.dynamodb),
    pytest.param("dynamodb-moto-direct", marks=pytest.mark.aws),
]


@pytest.fixture(params=["sqlite", "memory", *DYNAMO])
def make(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Factory]:
    if request.param.startswith("dynamodb"):
        _, server, transport = request.param.split("-")
        servers.use(monkeypatch, dynamodb=servers.DYNAMODB if server == "dynalite" else servers.MOTO)
        with dynamotable.table(ASSOC) as (session, name):
            yield lambda *labels: DynamoAssoc(session, name, labels, transport=transport)
        return
    yield _embedded(request.param, tmp_path)


def _embedded(name: str, tmp_path: Path) -> Factory:
    if name == "sqlite":
        return lambda *labels: SqliteAssoc(str(tmp_path / "assoc.db"), labels)
    return lambda *labels: MemoryAssoc(labels)


@pytest.fixture
async def assoc(make: Factory) -> AsyncIterator[Assoc]:
    assoc = make("user=jo", "project=x")
    yield assoc
    await assoc.close()


async def test_nothing_is_there_at_first(assoc: Assoc) -> None:
    assert await assoc.get_many([(NEW, A)]) == {}
    assert await assoc.count() == 0
    assert [entry async for entry in assoc.scan()] == []


async def test_what_is_put_is_found_by_kind_and_key(assoc: Assoc) -> None:
    await assoc.put_many({(NEW, A): V, (OLD, A): W, (NEW, B): W})
    keys = [(NEW, A), (OLD, A), (NEW, B), (OLD, B), (NEW, C)]
    assert await assoc.get_many(keys) == {(NEW, A): V, (OLD, A): W, (NEW, B): W}
    assert await assoc.count() == 2


async def test_a_later_value_replaces(assoc: Assoc) -> None:
    await assoc.put_many({(NEW, A): V, (OLD, A): V})
    await assoc.put_many({(NEW, A): W})
    assert await assoc.get_many([(NEW, A), (OLD, A)]) == {(NEW, A): W, (OLD, A): V}


async def test_many_keys_are_looked_up_at_once(assoc: Assoc) -> None:
    count = 250 if isinstance(assoc, DynamoAssoc) else 12_000  # the servers of tests are slow
    keys = [(NEW, Digest.of(b"%d" % number)) for number in range(count)]
    await assoc.put_many(dict.fromkeys(keys[::2], V))
    assert await assoc.get_many(keys) == dict.fromkeys(keys[::2], V)


async def test_abbreviated_keys_are_expanded(assoc: Assoc) -> None:
    keys = [Digest.of(b"%d" % number) for number in range(100 if isinstance(assoc, DynamoAssoc) else 600)]
    await assoc.put_many({(NEW, key): V for key in keys})
    prefix = DigestPrefix(keys[0][:1])
    assert await assoc.expand(prefix) == sorted(key for key in keys if key[:1] == keys[0][:1])
    assert await assoc.expand(DigestPrefix(keys[0])) == [keys[0]]
    assert await assoc.expand(DigestPrefix(b"\xff" * 31)) == []


async def test_deleting_removes_all_kinds(assoc: Assoc) -> None:
    await assoc.put_many({(NEW, A): V, (OLD, A): W, (NEW, B): V})
    await assoc.delete(A)
    assert await assoc.get_many([(NEW, A), (OLD, A), (NEW, B)]) == {(NEW, B): V}
    with pytest.raises(ReflowError, match=f"key {A} not found") as caught:
        await assoc.delete(A)
    assert caught.value.kind is ErrorKind.NOT_EXIST


async def test_rows_tell_values_labels_and_access(assoc: Assoc) -> None:
    before_s = int(time.time())
    await assoc.put_many({(NEW, A): V, (OLD, A): W})
    (entry,) = [entry async for entry in assoc.scan()]
    assert (entry.key, entry.values) == (A, {NEW: V, OLD: W})
    assert entry.labels == {"user=jo", "project=x"}
    assert before_s <= entry.last_access_s <= time.time()


async def test_all_rows_are_scanned(assoc: Assoc) -> None:
    count = 100 if isinstance(assoc, DynamoAssoc) else 2500
    keys = {Digest.of(b"%d" % number) for number in range(count)}
    await assoc.put_many({(NEW, key): V for key in keys})
    found = [entry.key async for entry in assoc.scan()]
    assert (set(found), len(found)) == (keys, count)


async def test_rows_are_chosen_by_their_time_of_use(assoc: Assoc) -> None:
    assert isinstance(assoc, Collectable)
    before_s = int(time.time())
    await assoc.put_many({(NEW, A): V, (OLD, B): W})
    for since_s, keys in ((0, {A, B}), (before_s, {A, B}), (before_s + 1000, set())):
        assert {entry.key async for entry in assoc.rows(since_s)} == keys


async def test_entries_that_were_not_used_since_they_were_scanned_go(assoc: Assoc) -> None:
    assert isinstance(assoc, Collectable)
    await assoc.put_many({(NEW, A): V, (NEW, B): W})
    rows = [entry async for entry in assoc.rows()]
    used = [replace(entry, last_access_s=entry.last_access_s - 5) for entry in rows if entry.key == A]
    assert await assoc.delete_unused(used) == 0
    assert await assoc.delete_unused(rows) == 2
    assert await assoc.delete_unused(rows) == 0
    assert await assoc.count() == 0
