"""The two DynamoDB tables: keys and indices, and the requests that make them. All keys are strings."""

from __future__ import annotations

from typing import Any, NamedTuple


class Index(NamedTuple):
    """A global secondary index. ``included``: the attributes it has besides keys; None for all of them."""

    name: str
    hash_key: str
    range_key: str = ""
    included: tuple[str, ...] | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the attributes that are its key."""
        return (self.hash_key, self.range_key) if self.range_key else (self.hash_key,)


class Table(NamedTuple):
    """A table with its hash key. ``version``: what the configuration records for its provider."""

    what: str
    hash_key: str
    indices: tuple[Index, ...]
    version: int


ASSOC = Table("the cache's index", "ID", (Index("ID4-ID-index", "ID4", "ID"),), 1)

TASKDB = Table(
    "the record of runs",
    "ID",
    (
        Index("ID-index", "ID"),
        Index("ID4-ID-index", "ID4", "ID"),
        Index("Date-Keepalive-index", "Date", "Keepalive"),
        Index("RunID-index", "RunID"),
        Index("ImgCmdID-SortEnd-index", "ImgCmdID", "EndTime", ("EndTime", "Inspect")),
        Index("Ident-SortEnd-index", "Ident", "EndTime", ("EndTime", "Inspect")),
    ),
    2,
)


def creation(table: Table, name: str) -> dict[str, Any]:
    """Parameters of CreateTable: paid by request, with all indices."""
    names = {table.hash_key, *[key for index in table.indices for key in index.keys]}
    return {
        "TableName": name,
        "AttributeDefinitions": _attributes(names),
        "KeySchema": key_schema((table.hash_key,)),
        "BillingMode": "PAY_PER_REQUEST",
        "GlobalSecondaryIndexes": [index_definition(index) for index in table.indices],
    }


def addition(name: str, index: Index) -> dict[str, Any]:
    """Parameters of UpdateTable that add an index; one at a time, and only to an active table."""
    return {
        "TableName": name,
        "AttributeDefinitions": _attributes(set(index.keys)),
        "GlobalSecondaryIndexUpdates": [{"Create": index_definition(index)}],
    }


def index_definition(index: Index) -> dict[str, Any]:
    """An index as requests have it."""
    projection: dict[str, Any] = {"ProjectionType": "ALL"}
    if index.included is not None:
        projection = {"ProjectionType": "INCLUDE", "NonKeyAttributes": list(index.included)}
    return {"IndexName": index.name, "KeySchema": key_schema(index.keys), "Projection": projection}


def key_schema(names: tuple[str, ...]) -> list[dict[str, str]]:
    """Hash key, and range key if there is one."""
    kinds = ("HASH", "RANGE")
    return [{"AttributeName": name, "KeyType": kind} for name, kind in zip(names, kinds, strict=False)]


def _attributes(names: set[str]) -> list[dict[str, str]]:
    return [{"AttributeName": name, "AttributeType": "S"} for name in sorted(names)]
