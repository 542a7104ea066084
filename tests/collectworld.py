"""A table and a bucket in dictionaries, a collector, and those who use the stores meanwhile, in turns."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from reflow.assoc import Kind, dynamodb, dynamoitem
from reflow.assoc.dynamodb import DynamoAssoc
from reflow.assoc.dynamoitem import SEGMENTS
from reflow.aws.session import AwsSession
from reflow.core.digest import Digest
from reflow.core.errors import Kind as ErrorKind
from reflow.core.errors import ReflowError
from reflow.core.fileset import File, Fileset
from reflow.core.filesetcodec import decode_fileset, encode_fileset
from reflow.repository.blobmaintenance import BlobObjects
from reflow.runtime.collect import Collector, CollectRequest, Scope
from reflow.runtime.collectstate import CollectState
from reflow.runtime.log import LEVELS, Log
from tests.dictbucket import DictBucket, blob_repository
from tests.dictdynamo import DictDynamo
from tests.turns import ACTOR, Turns

if TYPE_CHECKING:
    import pytest

DAY_S = 86400.0
NOW_S = 1_700_000_000.0
V2 = Kind.FILESET_V2
RECORD = b"the log of a run"
KEYS = [Digest.of(b"key %d" % number) for number in range(9)]


def set_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have it be `NOW_S` for the index."""
    for module in (dynamodb, dynamoitem):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: NOW_S))


def nothing(labels: frozenset[str]) -> bool:
    return False


class Bucket(DictBucket):
    """A bucket each of whose operations waits for its turn."""

    def __init__(self, turns: Turns) -> None:
        super().__init__("b", lambda: datetime.fromtimestamp(NOW_S, UTC))
        self._turns = turns

    async def file(self, key: str) -> File:
        await self._turns.take()
        return await super().file(key)

    async def read(self, key: str, *, etag: str = "") -> bytes:
        await self._turns.take()
        return await super().read(key, etag=etag)

    async def put(
        self, key: str, data: bytes, *, content_hash: Digest | None = None, if_absent: bool = False
    ) -> None:
        await self._turns.take()
        await super().put(key, data, content_hash=content_hash, if_absent=if_absent)

    async def delete(self, keys: Collection[str]) -> None:
        if keys:
            await self._turns.take()
        await super().delete(keys)


class World:
    """A table, a bucket, a collector, and those who use the stores meanwhile."""

    def __init__(self, turns: Turns, directory: str) -> None:
        self.turns = turns
        self.bucket = Bucket(turns)
        self.dynamo = DictDynamo(turns.take)
        self.state = CollectState(directory)
        self.other_state = CollectState(f"{directory}-of-another")
        self.recorded = self.add(RECORD, 400)
        self.lines: list[str] = []
        self.renewing: set[object] = set()
        """Those who look an entry up, or have done so, and have not renewed its time yet."""
        self.settling: set[str] = set()
        """Those who collect, and let others renew."""
        self.late: set[str] = set()
        self.outcomes: Counter[str] = Counter()

    # What is there.

    def add(self, data: bytes, days: float) -> Digest:
        """An object that was stored so many days ago."""
        digest = Digest.of(data)
        self.bucket.store_at(key_of(digest), data, self.time(days))
        return digest

    def time(self, days: float) -> datetime:
        """So many days ago."""
        return datetime.fromtimestamp(NOW_S - days * DAY_S, UTC)

    def add_entry(self, key: Digest, data: bytes, days: float) -> None:
        """An entry that was used so many days ago."""
        used_s = int(NOW_S - days * DAY_S)
        self.dynamo.items[str(key)] = {
            "ID": {"S": str(key)},
            "ValueV2": {"S": str(Digest.of(data))},
            "LastAccessTime": {"N": str(used_s)},
        }

    def add_result(self, key: Digest, contents: Sequence[bytes], days: float) -> None:
        """An entry with its objects, of that age."""
        for each in (*contents, fileset_of(contents)):
            self.add(each, days)
        self.add_entry(key, fileset_of(contents), days)

    def is_there(self, digest: Digest) -> bool:
        return key_of(digest) in self.bucket.objects

    def is_whole(self, value: Digest) -> bool:
        if not self.is_there(value):
            return False
        fileset = decode_fileset(self.bucket.objects[key_of(value)].data)
        return all(self.is_there(file.id) for file in fileset.all_files() if file.id is not None)

    def close(self) -> None:
        """Leave no state."""
        self.state.close(is_done=True)
        self.other_state.close(is_done=True)

    # Who acts.

    def assoc(self) -> DynamoAssoc:
        assoc = DynamoAssoc(AwsSession(), "t", ["user=jo"])
        assoc._database.close()
        assoc._database = assoc._rows._database = assoc._renewals._database = self.dynamo
        return assoc

    async def collect(self, request: CollectRequest) -> None:
        self.collector = self._collector(request, self.state)
        await self._run(self.collector)

    async def collect_together(self, request: CollectRequest, *, is_another: bool) -> None:
        """Collect while somebody does on another machine, and may take what shows that all is in order."""
        try:
            if is_another:
                await self._run(self._collector(request, self.other_state))
            else:
                await self.collect(request)
        except ReflowError as err:
            if err.kind is not ErrorKind.PRECONDITION:
                raise
            self.outcomes["collect: refused"] += 1

    async def _run(self, collector: Collector) -> None:
        await collector.scan()
        await collector.collect_objects()

    def _collector(self, request: CollectRequest, state: CollectState) -> Collector:
        async def records() -> AsyncIterator[Digest]:
            yield self.recorded

        async def settle(_: float) -> None:
            """All that was begun before comes to its end."""
            begun = set(self.renewing)
            self.settling.add(ACTOR.get())
            while begun & self.renewing:
                await self.turns.take()
            self.settling.remove(ACTOR.get())

        repository = blob_repository(self.bucket)
        scope = Scope(
            repository,
            BlobObjects(repository),
            self.assoc(),
            state,
            records(),
            is_shared=True,
            settle_s=20,
        )
        return Collector(request, scope, Log(LEVELS["debug"], self.lines.append), NOW_S, settle)

    async def read(self, key: Digest) -> None:
        """Look up as a run of ours does, which renews the time of use behind that; fetch much later."""
        assoc, me = self.assoc(), object()
        self.renewing.add(me)
        found = await assoc.get_many([(V2, key)])

        async def renew() -> None:
            await assoc._renewals.finish()
            self.renewing.remove(me)

        async with asyncio.TaskGroup() as group:
            group.create_task(renew())
            await self._use(found.get((V2, key)), "ours")
        assert (assoc._renewals.lost, assoc._renewals.undone) == (0, 0)

    async def read_as_original(self, key: Digest) -> None:
        """Look up as the original does, which renews the time of use behind its look-up."""
        me = object()
        self.renewing.add(me)
        answer = await self.dynamo.call("GetItem", {"Key": dynamoitem.key_of(str(key))})
        text = answer.get("Item", {}).get("ValueV2", {}).get("S")
        if text is not None:
            await self.turns.take()
        self.renewing.remove(me)  # with the call, which is made at once when it has its turn
        if text is None:
            return
        request = {
            "Key": dynamoitem.key_of(str(key)),
            "UpdateExpression": "SET LastAccessTime = :time",
            "ExpressionAttributeValues": {":time": {"N": str(int(NOW_S))}},
        }
        self.dynamo._UpdateItem(request)
        await self._use(Digest.parse(text), "original")

    async def _use(self, value: Any, who: str) -> None:
        if value is None or not await self._look(value):
            self.outcomes[f"{who}: miss"] += 1
            return
        self.outcomes[f"{who}: hit"] += 1
        for _ in range(5):
            await self.turns.take()
        assert self.is_whole(value), f"{ACTOR.get()}: what was used is gone"

    async def _look(self, value: Digest) -> bool:
        """Whether a hit counts: all objects are there, each looked at by itself."""
        repository = blob_repository(self.bucket)
        data = (await repository.read_many([value]))[value]
        if not isinstance(data, bytes):
            return False
        files = {file.id for file in decode_fileset(data).all_files() if file.id is not None}
        return not await repository.missing(files)

    async def write(self, key: Digest, contents: Sequence[bytes]) -> None:
        """Record a result, as the cache does: what is there already is not uploaded."""
        repository = blob_repository(self.bucket)
        files = [Digest.of(each) for each in contents]
        missing = await repository.missing(files)
        await repository.put_bytes_many(each for each in contents if Digest.of(each) in missing)
        (value,) = await repository.put_bytes_many([fileset_of(contents)])
        await self.assoc().put_many({(V2, key): value})
        # When the last scan of a collection has begun, nobody can know any more.
        if max(self.dynamo.begun_segments.values(), default=0) > SEGMENTS:
            self.late.add(str(key))


def key_of(digest: Digest) -> str:
    return f"objects/{digest}"


def fileset_of(contents: Sequence[bytes]) -> bytes:
    files = {str(n): File(Digest.of(each), len(each)) for n, each in enumerate(contents)}
    return encode_fileset(Fileset(files))
