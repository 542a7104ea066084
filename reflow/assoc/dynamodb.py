"""The assoc in a DynamoDB table, as the original lays it out: caches are shared with it.

Times of access are refreshed behind the look-up, at most once a day per key. Whoever collects garbage deletes
only what is older than days, and only if its time is still the one that was scanned.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reflow.assoc import Assoc, AssocEntry, Collectable, Key, Kind
from reflow.aws.dynamodb import CONCURRENCY, DynamoDB, Item, gather
from reflow.aws.session import AwsSession
from reflow.aws.tables import ASSOC
from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind as ErrorKind
from reflow.core.errors import ReflowError

ACCESS_INTERVAL_S = 86400
_LOG = logging.getLogger("reflow")
_SEGMENTS = 8
_COLUMNS = {Kind.FILESET: "Value", Kind.FILESET_V2: "ValueV2"}
_INDEX = ASSOC.indices[0].name
_LOOKED_UP = {
    "ProjectionExpression": "ID, #v, ValueV2, LastAccessTime",
    "ExpressionAttributeNames": {"#v": "Value"},
}


class DynamoAssoc:
    """An index in ``table``. ``labels`` (``key=value``) are put on what is written here."""

    def __init__(
        self,
        session: AwsSession,
        table: str,
        labels: Collection[str] = (),
        *,
        transport: str = "",
        warn: Callable[[str], None] = _LOG.warning,
    ) -> None:
        self._database = DynamoDB(session, transport=transport)
        self._table = table
        self._labels = sorted(set(labels))
        self._warn = warn
        self._refreshed: set[str] = set()
        self._refreshing: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(CONCURRENCY // 2)
        self._refusals: list[ReflowError] = []

    async def open(self) -> None:
        """See whether it can be reached, and read."""
        await self._database.call("GetItem", {"TableName": self._table, "Key": _key("sha256:")})

    async def get_many(self, keys: Collection[Key]) -> Mapping[Key, Digest | ReflowError]:
        """Look keys up."""
        ids = list({str(digest) for _, digest in keys})
        items: dict[str, Item] = {}
        async for item in self._database.batch_get(self._table, ids, **_LOOKED_UP):
            items[item["ID"]["S"]] = item
        found: dict[Key, Digest | ReflowError] = {}
        oldest_s = time.time() - ACCESS_INTERVAL_S
        for key in keys:
            item = items.get(str(key[1]), {})
            if _COLUMNS[key[0]] in item:
                found[key] = _value(key, item)
                if _access_s(item) <= oldest_s:
                    self._refresh(item["ID"]["S"])
        return found

    def _refresh(self, id: str) -> None:
        """Set the time of access, in the background, unless this process has done so."""
        if id in self._refreshed or self._refusals:
            return
        self._refreshed.add(id)
        task = asyncio.ensure_future(self._touch(id))
        self._refreshing.add(task)
        task.add_done_callback(self._refreshing.discard)

    async def _touch(self, id: str) -> None:
        request = {
            "TableName": self._table,
            "Key": _key(id),
            "UpdateExpression": "SET LastAccessTime = :time ADD AccessCount :one",
            "ConditionExpression": "attribute_exists(ID)",
            "ExpressionAttributeValues": {":time": {"N": str(int(time.time()))}, ":one": {"N": "1"}},
        }
        try:
            async with self._slots:
                if not self._refusals:
                    await self._database.call("UpdateItem", request)
        except ReflowError as err:
            self._refreshed.discard(id)
            if err.kind is not ErrorKind.PRECONDITION:
                self._refusals.append(err)

    async def put_many(self, entries: Mapping[Key, Digest]) -> None:
        """Store entries: one update per key; all are tried before the first error is raised."""
        rows: dict[Digest, dict[Kind, Digest]] = {}
        for (kind, digest), value in entries.items():
            rows.setdefault(digest, {})[kind] = value
        await gather(lambda row: self._database.call("UpdateItem", self._update(*row)), rows.items())

    def _update(self, key: Digest, values: Mapping[Kind, Digest]) -> dict[str, Any]:
        names = {f"#v{kind:d}": _COLUMNS[kind] for kind in values}
        marks: Item = {f":v{kind:d}": {"S": str(value)} for kind, value in values.items()}
        marks |= {":id4": {"S": key.short}, ":now": {"N": str(int(time.time()))}}
        changes = [f"#v{kind:d} = :v{kind:d}" for kind in values]
        expression = f"SET {', '.join(changes)}, ID4 = :id4, LastAccessTime = :now"
        if self._labels:
            expression += " ADD #l :labels"
            names["#l"] = "Labels"
            marks[":labels"] = {"SS": self._labels}
        return {
            "TableName": self._table,
            "Key": _key(str(key)),
            "UpdateExpression": expression,
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": marks,
        }

    async def expand(self, prefix: DigestPrefix) -> list[Digest]:
        """Keys that start with some bytes; fewer than four of them cost a scan of the table."""
        marks: Item = {":id": {"S": f"sha256:{prefix}"}}
        request: dict[str, Any] = {"TableName": self._table, "ProjectionExpression": "ID"}
        if len(prefix.raw) < 4:
            request |= {"FilterExpression": "begins_with(ID, :id)", "ExpressionAttributeValues": marks}
            pages = self._database.scan(request, _SEGMENTS)
            ids = [item["ID"]["S"] async for page in pages for item in page.get("Items", ())]
        else:
            marks[":id4"] = {"S": prefix.raw[:4].hex()}
            condition = "ID4 = :id4 AND begins_with(ID, :id)"
            request |= {"IndexName": _INDEX, "KeyConditionExpression": condition}
            request["ExpressionAttributeValues"] = marks
            ids = [item["ID"]["S"] async for item in self._database.query(request)]
        return sorted(digest for id in ids if (digest := _digest(id)) is not None)

    async def delete(self, key: Digest) -> None:
        """Remove a key. Raises NOT_EXIST."""
        request = {"TableName": self._table, "Key": _key(str(key))}
        # Looked up first: a delete that is tried again cannot tell whether it was there.
        answer = await self._database.call("GetItem", {**request, "ConsistentRead": True})
        if not answer.get("Item"):
            raise ReflowError(ErrorKind.NOT_EXIST, "assoc.delete", cause=f"key {key} not found")
        await self._database.call("DeleteItem", request)

    async def delete_unused(self, entries: Sequence[AssocEntry]) -> int:
        """Remove entries that were not used since they were scanned; how many were removed."""
        return sum(await gather(self._delete_unused, entries))

    async def _delete_unused(self, entry: AssocEntry) -> bool:
        request = {
            "TableName": self._table,
            "Key": _key(str(entry.key)),
            "ConditionExpression": "LastAccessTime = :time",
            "ExpressionAttributeValues": {":time": {"N": str(entry.last_access_s)}},
        }
        try:
            await self._database.call("DeleteItem", request)
        except ReflowError as err:
            if err.kind is not ErrorKind.PRECONDITION:
                raise
            return False
        return True

    async def scan(self) -> AsyncIterator[AssocEntry]:
        """Every row with a value and a time of access; broken rows are told and left out."""
        request = {
            "TableName": self._table,
            "ProjectionExpression": "ID, #v, ValueV2, LastAccessTime, Labels",
            "ExpressionAttributeNames": _LOOKED_UP["ExpressionAttributeNames"],
            "FilterExpression": "attribute_exists(LastAccessTime)",
        }
        async for page in self._database.scan(request, _SEGMENTS):
            for item in page.get("Items", ()):
                entry = self._entry(item)
                if entry is not None:
                    yield entry

    def _entry(self, item: Item) -> AssocEntry | None:
        key = _digest(item["ID"].get("S", ""))
        if key is None:
            self._warn(f"assoc {self._table}: left out an entry whose key is no digest: {item['ID']}")
            return None
        values: dict[Kind, Digest] = {}
        for kind, column in _COLUMNS.items():
            if column in item:
                value = _value((kind, key), item)
                if isinstance(value, ReflowError):
                    self._warn(f"assoc {self._table}: left out a broken value: {value}")
                else:
                    values[kind] = value
        labels = frozenset(item.get("Labels", {}).get("SS", ()))
        return AssocEntry(key, values, _access_s(item), labels) if values else None

    async def count(self) -> int:
        """Number of rows, by counting them."""
        request = {"TableName": self._table, "Select": "COUNT"}
        return sum([page["Count"] async for page in self._database.scan(request, _SEGMENTS)])

    async def close(self) -> None:
        """Finish refreshing times of access, or tell why not, and let go of connections."""
        try:
            await asyncio.gather(*self._refreshing)
        finally:
            self._database.close()
        if self._refusals:
            self._warn(f"times of access in the cache's index were not refreshed: {self._refusals[0]}")


def _key(id: str) -> Item:
    return {"ID": {"S": id}}


def _value(key: Key, item: Item) -> Digest | ReflowError:
    """A value of an item; of old items the first of a list."""
    attribute = item[_COLUMNS[key[0]]]
    if attribute.get("L"):
        attribute = attribute["L"][0]
    text = attribute.get("S", "")
    digest = _digest(text)
    if digest is None:
        cause = f"value {text!r} is no digest"
        return ReflowError(ErrorKind.INVALID, "assoc.get", f"{key[1]}:{key[0]}", cause=cause)
    return digest


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text) if text.startswith("sha256:") else None
    except ValueError:
        return None


def _access_s(item: Item) -> int:
    try:
        return int(float(item["LastAccessTime"]["N"]))
    except (KeyError, ValueError):
        return 0


if TYPE_CHECKING:
    _: type[Assoc] = DynamoAssoc
    _collectable: type[Collectable] = DynamoAssoc
