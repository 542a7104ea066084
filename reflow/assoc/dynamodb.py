"""The assoc in a DynamoDB table, as the original lays it out: caches are shared with it.

Times of access are refreshed at most once a day per key, before the value is handed out: whoever collects
garbage meanwhile deletes only what is older, and only if its time is still the one that was scanned.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reflow.assoc import Assoc, AssocEntry, Collectable, Key, Kind, Revivable
from reflow.assoc.dynamoitem import COLUMNS, SEGMENTS, DynamoRows, access_s_of, digest_of, key_of, value_of
from reflow.aws.dynamodb import DynamoDB, Item, gather
from reflow.aws.session import AwsSession
from reflow.aws.tables import ASSOC
from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind as ErrorKind
from reflow.core.errors import ReflowError

ACCESS_INTERVAL_S = 86400
_LOG = logging.getLogger("reflow")
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
        self._rows = DynamoRows(self._database, table, warn)
        self._labels = sorted(set(labels))
        self._warn = warn
        self._refreshed_s: dict[str, float] = {}
        self._refusals: list[ReflowError] = []

    async def open(self) -> None:
        """See whether it can be reached, and read."""
        await self._database.call("GetItem", {"TableName": self._table, "Key": key_of("sha256:")})

    async def get_many(self, keys: Collection[Key]) -> Mapping[Key, Digest | ReflowError]:
        """Look keys up."""
        ids = list({str(digest) for _, digest in keys})
        items: dict[str, Item] = {}
        async for item in self._database.batch_get(self._table, ids, **_LOOKED_UP):
            items[item["ID"]["S"]] = item
        found: dict[Key, Digest | ReflowError] = {}
        oldest_s = time.time() - ACCESS_INTERVAL_S
        stale: set[str] = set()
        for key in keys:
            item = items.get(str(key[1]), {})
            if COLUMNS[key[0]] in item:
                found[key] = value_of(key, item)
                id = item["ID"]["S"]
                if access_s_of(item) <= oldest_s and self._refreshed_s.get(id, 0.0) <= oldest_s:
                    stale.add(id)
        gone = await self._refresh(stale) if stale else set()
        return {key: value for key, value in found.items() if str(key[1]) not in gone} if gone else found

    async def _refresh(self, ids: set[str]) -> set[str]:
        """Set times of access; return those of ``ids`` that have gone meanwhile."""
        gone: set[str] = set()

        async def touch(id: str) -> None:
            if self._refusals:
                return
            try:
                await self._database.call("UpdateItem", self._access(id))
            except ReflowError as err:
                if err.kind is ErrorKind.PRECONDITION:
                    gone.add(id)
                else:
                    self._refusals.append(err)
            else:
                self._refreshed_s[id] = time.time()

        await gather(touch, ids)
        return gone

    def _access(self, id: str) -> dict[str, Any]:
        return {
            "TableName": self._table,
            "Key": key_of(id),
            "UpdateExpression": "SET LastAccessTime = :time ADD AccessCount :one",
            "ConditionExpression": "attribute_exists(#v) OR attribute_exists(ValueV2)",
            "ExpressionAttributeNames": {"#v": "Value"},
            "ExpressionAttributeValues": {":time": {"N": str(int(time.time()))}, ":one": {"N": "1"}},
        }

    async def put_many(self, entries: Mapping[Key, Digest]) -> None:
        """Store entries: one update per key; all are tried before the first error is raised."""
        rows: dict[Digest, dict[Kind, Digest]] = {}
        for (kind, digest), value in entries.items():
            rows.setdefault(digest, {})[kind] = value
        await gather(lambda row: self._database.call("UpdateItem", self._update(*row)), rows.items())

    def _update(self, key: Digest, values: Mapping[Kind, Digest]) -> dict[str, Any]:
        names = {f"#v{kind:d}": COLUMNS[kind] for kind in values}
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
            "Key": key_of(str(key)),
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
            pages = self._database.scan(request, SEGMENTS)
            ids = [item["ID"]["S"] async for page in pages for item in page.get("Items", ())]
        else:
            marks[":id4"] = {"S": prefix.raw[:4].hex()}
            condition = "ID4 = :id4 AND begins_with(ID, :id)"
            request |= {"IndexName": _INDEX, "KeyConditionExpression": condition}
            request["ExpressionAttributeValues"] = marks
            ids = [item["ID"]["S"] async for item in self._database.query(request)]
        return sorted(digest for id in ids if (digest := digest_of(id)) is not None)

    async def delete(self, key: Digest) -> None:
        """Remove a key. Raises NOT_EXIST."""
        request = {"TableName": self._table, "Key": key_of(str(key))}
        # Looked up first: a delete that is tried again cannot tell whether it was there.
        answer = await self._database.call("GetItem", {**request, "ConsistentRead": True})
        if not answer.get("Item"):
            raise ReflowError(ErrorKind.NOT_EXIST, "assoc.delete", cause=f"key {key} not found")
        await self._database.call("DeleteItem", request)

    async def scan(self) -> AsyncIterator[AssocEntry]:
        """Every row with a value; broken rows are told and left out."""
        async for entry in self._rows.rows():
            if entry.values:
                yield entry

    def rows(self, used_since_s: int = 0) -> AsyncIterator[AssocEntry]:
        """Every row, or those used since a time."""
        return self._rows.rows(used_since_s)

    async def delete_unused(self, entries: Sequence[AssocEntry]) -> int:
        """Remove entries that were not used since they were scanned; how many were removed."""
        return await self._rows.delete_unused(entries)

    async def revive(self, entries: Sequence[AssocEntry]) -> int:
        """Give entries back their values where only a time of access is left."""
        return await self._rows.revive(entries)

    async def count(self) -> int:
        """Number of rows, by counting them."""
        request = {"TableName": self._table, "Select": "COUNT"}
        return sum([page["Count"] async for page in self._database.scan(request, SEGMENTS)])

    async def close(self) -> None:
        """Tell why times of access were not refreshed, if so, and let go of connections."""
        self._database.close()
        if self._refusals:
            self._warn(f"times of access in the cache's index were not refreshed: {self._refusals[0]}")


if TYPE_CHECKING:
    _: type[Assoc] = DynamoAssoc
    _collectable: type[Collectable] = DynamoAssoc
    _revivable: type[Revivable] = DynamoAssoc
