"""Items of the index's table, as the original writes them, and collecting garbage among them."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from reflow.assoc import AssocEntry, Key, Kind
from reflow.aws.dynamodb import DynamoDB, Item, gather
from reflow.core.digest import Digest
from reflow.core.errors import Kind as ErrorKind
from reflow.core.errors import ReflowError

SEGMENTS = 8
COLUMNS = {Kind.FILESET: "Value", Kind.FILESET_V2: "ValueV2"}
_NAMES = {f"#v{kind:d}": column for kind, column in COLUMNS.items()}
_HAS_NO_VALUE = "attribute_not_exists(#v0) AND attribute_not_exists(#v1)"
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
        return await changed(
            self._database,
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
        condition = f"attribute_exists(ID) AND {_HAS_NO_VALUE}"
        values = attributes_of(entry.values)
        request = written(self._table, str(entry.key), values, sorted(entry.labels), condition)
        return await changed(self._database, "UpdateItem", request)


def key_of(id: str) -> Item:
    """The primary key of an item."""
    return {"ID": {"S": id}}


def attributes_of(values: Mapping[Kind, Digest]) -> Item:
    """Values of an entry as attributes of an item."""
    return {COLUMNS[kind]: {"S": str(value)} for kind, value in values.items()}


def written(table: str, id: str, values: Item, labels: Sequence[str], condition: str = "") -> dict[str, Any]:
    """The update that writes an entry. A condition is on both columns of values, ``#v0`` and ``#v1``."""
    names, marks = _named(values)
    changes = [f"{name} = :{name[1:]}" for name in names]
    marks |= {":id4": {"S": id[7:15]}, ":now": {"N": str(int(time.time()))}}
    expression = f"SET {', '.join(changes)}, ID4 = :id4, LastAccessTime = :now"
    if condition:
        names |= _NAMES
    if labels:
        expression += " ADD #l :labels"
        names["#l"] = "Labels"
        marks[":labels"] = {"SS": labels}
    return {
        "TableName": table,
        "Key": key_of(id),
        "UpdateExpression": expression,
        **({"ConditionExpression": condition} if condition else {}),
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": marks,
    }


def written_back(table: str, id: str, values: Item, labels: Sequence[str]) -> dict[str, Any]:
    """The update that writes an entry that went; on the condition that nobody gave it another value."""
    return written(table, id, values, labels, f"{_HAS_NO_VALUE} OR {_has(values)}")


def renewed(table: str, id: str, values: Item) -> dict[str, Any]:
    """The update that renews the time of use of an entry, on the condition that it has these values."""
    names, marks = _named(values)
    return {
        "TableName": table,
        "Key": key_of(id),
        "UpdateExpression": "SET LastAccessTime = :now ADD AccessCount :one",
        "ConditionExpression": _has(values),
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": marks | {":now": {"N": str(int(time.time()))}, ":one": {"N": "1"}},
    }


def _has(values: Item) -> str:
    return " AND ".join([f"{name} = :{name[1:]}" for name in _named(values)[0]])


def _named(values: Item) -> tuple[dict[str, str], Item]:
    """Names and marks of values in expressions."""
    names = {name: column for name, column in _NAMES.items() if column in values}
    return names, {f":{name[1:]}": values[column] for name, column in names.items()}


async def changed(
    database: DynamoDB, operation: str, request: dict[str, Any], *, until_s: float = math.inf
) -> bool:
    """Make a change unless its condition is not met; whether it was made."""
    try:
        await database.call(operation, request, until_s=until_s)
    except ReflowError as err:
        if err.kind is not ErrorKind.PRECONDITION:
            raise
        return False
    return True


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
