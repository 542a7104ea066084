"""Items of the index's table, as the original writes them, and collecting garbage among them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from reflow.assoc import AssocEntry, Key, Kind
from reflow.aws.dynamodb import DynamoDB, Item, gather
from reflow.core.digest import Digest
from reflow.core.errors import Kind as ErrorKind
from reflow.core.errors import ReflowError

SEGMENTS = 8
COLUMNS = {Kind.FILESET: "Value", Kind.FILESET_V2: "ValueV2"}
SCANNED = {
    "ProjectionExpression": "ID, #v, ValueV2, LastAccessTime, Labels",
    "ExpressionAttributeNames": {"#v": "Value"},
}


class DynamoRows:
    """The rows of a table, for whoever collects garbage among them."""

    def __init__(self, database: DynamoDB, table: str, warn: Callable[[str], None]) -> None:
        self._database = database
        self._table = table
        self._warn = warn

    async def rows(self, used_since_s: int = 0) -> AsyncIterator[AssocEntry]:
        """See `reflow.assoc.Collectable`. With a time, reads are consistent."""
        request: dict[str, Any] = {"TableName": self._table, **SCANNED}
        if used_since_s:
            request |= {
                "ConsistentRead": True,
                "FilterExpression": "LastAccessTime >= :since",
                "ExpressionAttributeValues": {":since": {"N": str(used_since_s)}},
            }
        async for page in self._database.scan(request, SEGMENTS):
            for item in page.get("Items", ()):
                entry = self.entry(item)
                if entry is not None:
                    yield entry

    def entry(self, item: Item) -> AssocEntry | None:
        """An item as an entry, maybe without any value; None for a broken one, which is told."""
        key = digest_of(item["ID"].get("S", ""))
        if key is None:
            self._warn(f"assoc {self._table}: left out an entry whose key is no digest: {item['ID']}")
            return None
        values: dict[Kind, Digest] = {}
        is_broken = False
        for kind, column in COLUMNS.items():
            if column in item:
                value = value_of((kind, key), item)
                if isinstance(value, ReflowError):
                    self._warn(f"assoc {self._table}: left out a broken value: {value}")
                    is_broken = True
                else:
                    values[kind] = value
        labels = frozenset(item.get("Labels", {}).get("SS", ()))
        return None if is_broken and not values else AssocEntry(key, values, access_s_of(item), labels)

    async def delete_unused(self, entries: Sequence[AssocEntry]) -> int:
        """Remove entries that were not used since they were scanned; how many were removed."""
        return sum(await gather(self._delete_unused, entries))

    async def _delete_unused(self, entry: AssocEntry) -> bool:
        """Whether an entry was removed by this; one of which the answer was lost may count as not removed."""
        seen = {":time": {"N": str(entry.last_access_s)}}
        condition = "LastAccessTime = :time"
        if not entry.last_access_s:
            condition += " OR attribute_not_exists(LastAccessTime)"
        return await self._change(
            "DeleteItem",
            {
                "TableName": self._table,
                "Key": key_of(str(entry.key)),
                "ConditionExpression": condition,
                "ExpressionAttributeValues": seen,
            },
        )

    async def revive(self, entries: Sequence[AssocEntry]) -> int:
        """Give entries back their values where only a time of access is left; how many have them back."""
        return sum(await gather(self._revive, entries))

    async def _revive(self, entry: AssocEntry) -> bool:
        names = {f"#v{kind:d}": COLUMNS[kind] for kind in entry.values}
        marks: Item = {f":v{kind:d}": {"S": str(value)} for kind, value in entry.values.items()}
        marks |= {":id4": {"S": entry.key.short}, ":now": {"N": str(int(time.time()))}}
        changes = [f"#v{kind:d} = :v{kind:d}" for kind in entry.values]
        expression = f"SET {', '.join(changes)}, ID4 = :id4, LastAccessTime = :now"
        if entry.labels:
            expression += " ADD #l :labels"
            names["#l"] = "Labels"
            marks[":labels"] = {"SS": sorted(entry.labels)}
        return await self._change(
            "UpdateItem",
            {
                "TableName": self._table,
                "Key": key_of(str(entry.key)),
                "UpdateExpression": expression,
                "ConditionExpression": "attribute_exists(ID) AND attribute_not_exists(#a)"
                " AND attribute_not_exists(#b)",
                "ExpressionAttributeNames": {**names, "#a": "Value", "#b": "ValueV2"},
                "ExpressionAttributeValues": marks,
            },
        )

    async def _change(self, operation: str, request: dict[str, Any]) -> bool:
        """Make a change unless its condition is not met any more."""
        try:
            await self._database.call(operation, request)
        except ReflowError as err:
            if err.kind is not ErrorKind.PRECONDITION:
                raise
            return False
        return True


def key_of(id: str) -> Item:
    """The primary key of an item."""
    return {"ID": {"S": id}}


def value_of(key: Key, item: Item) -> Digest | ReflowError:
    """A value of an item; of old items the first of a list."""
    attribute = item[COLUMNS[key[0]]]
    if attribute.get("L"):
        attribute = attribute["L"][0]
    text = attribute.get("S", "")
    digest = digest_of(text)
    if digest is None:
        cause = f"value {text!r} is no digest"
        return ReflowError(ErrorKind.INVALID, "assoc.get", f"{key[1]}:{key[0]}", cause=cause)
    return digest


def digest_of(text: str) -> Digest | None:
    """A digest as items have it; None for anything else."""
    try:
        return Digest.parse(text) if text.startswith("sha256:") else None
    except ValueError:
        return None


def access_s_of(item: Item) -> int:
    """When an item was last used (Unix seconds); 0 when it does not say."""
    try:
        return int(float(item["LastAccessTime"]["N"]))
    except (KeyError, ValueError):
        return 0
