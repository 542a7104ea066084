"""The assoc in a DynamoDB table, as the original lays it out: caches are shared with it.

Times of use are renewed at most once a day per key, behind the look-up (`Renewals`): whoever collects garbage
meanwhile deletes only what is older, and only if its time is still the one that was scanned.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reflow.assoc import Assoc, AssocEntry, Collectable, Key, Kind, Revivable
from reflow.assoc.dynamoitem import (
    COLUMNS,
    SEGMENTS,
    DynamoRows,
    access_s_of,
    attributes_of,
    digest_of,
    key_of,
    value_of,
    written,
)
from reflow.assoc.renewal import Renewal, Renewals
from reflow.aws.dynamodb import BATCH, DynamoDB, Item, gather
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
        self._renewals = Renewals(self._database, table, self._labels)
        self._renewed: dict[str, Renewal] = {}

    async def open(self) -> None:
        """See whether it can be reached, and read."""
        await self._database.call("GetItem", {"TableName": self._table, "Key": key_of("sha256:")})

    async def get_many(self, keys: Collection[Key]) -> Mapping[Key, Digest | ReflowError]:
        """Look keys up."""
        ids = list({str(digest) for _, digest in keys})
        parts = [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]
        items: dict[str, Item] = {}
        renewals: dict[str, Renewal] = {}

        async def look_up(part: list[str]) -> None:
            read_s = await self._renewals.admit()
            async for item in self._database.batch_get(self._table, part, **_LOOKED_UP):
                items[item["ID"]["S"]] = item
                self._renew(item, read_s, renewals)

        await gather(look_up, parts)
        gone = {id for id, renewal in renewals.items() if renewal.is_lost}
        for renewal in renewals.values():
            renewal.is_used = not renewal.is_lost
        found: dict[Key, Digest | ReflowError] = {}
        for key in keys:
            id = str(key[1])
            item = items.get(id, {})
            if COLUMNS[key[0]] in item and id not in gone:
                found[key] = value_of(key, item)
        return found

    def _renew(self, item: Item, read_s: float, renewals: dict[str, Renewal]) -> None:
        """Have the time of an entry that was looked up renewed if that is due, and add its renewal."""
        oldest_s = time.time() - ACCESS_INTERVAL_S
        if access_s_of(item) > oldest_s:
            return
        id = item["ID"]["S"]
        last = self._renewed.get(id)
        if last is None or last.is_lost or last.since_s <= oldest_s:
            values = {column: item[column] for column in COLUMNS.values() if column in item}
            if not values:
                return
            last = self._renewed[id] = self._renewals.add(id, values, read_s)
        renewals[id] = last

    async def put_many(self, entries: Mapping[Key, Digest]) -> None:
        """Store entries: one update per key; all are tried before the first error is raised."""
        rows: dict[Digest, dict[Kind, Digest]] = {}
        for (kind, digest), value in entries.items():
            rows.setdefault(digest, {})[kind] = value
        await gather(lambda row: self._put(*row), rows.items())

    async def _put(self, key: Digest, values: Mapping[Kind, Digest]) -> None:
        request = written(self._table, str(key), attributes_of(values), self._labels)
        await self._database.call("UpdateItem", request)

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
        """Finish renewing times of use, tell of those that were not renewed, and let go of connections."""
        await self._renewals.finish()
        self._database.close()
        undone, lost = self._renewals.undone, self._renewals.lost
        if undone:
            cause = self._renewals.trouble or "the table did not take them in time"
            self._warn(f"{undone} times of use in the cache's index were not renewed: {cause}")
        if lost:
            self._warn(
                f"{lost} cached results that were used have left the index meanwhile, and were not put back;"
                " a collect under way may remove their objects"
            )


if TYPE_CHECKING:
    _: type[Assoc] = DynamoAssoc
    _collectable: type[Collectable] = DynamoAssoc
    _revivable: type[Revivable] = DynamoAssoc
