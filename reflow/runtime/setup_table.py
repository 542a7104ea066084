"""A DynamoDB table: made with its indices if it is not there, else checked; what it lacks is added, and said.

`faults` and `lacking` decide, from the description that the server gives; `ensure_table` acts.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any

from reflow.aws.tables import Index, Table, addition, creation, key_schema
from reflow.core.errors import Kind, ReflowError
from reflow.runtime.setup_call import CallError, Cloud

_WAIT_S = 600.0
_FIRST_POLL_S, _LONGEST_POLL_S = 0.1, 5.0
_ID = "sha256:"
_NAME = re.compile(r"[a-zA-Z0-9_.-]{3,255}")

Description = dict[str, Any]


def _error(name: str, text: str, kind: Kind = Kind.PRECONDITION) -> ReflowError:
    return ReflowError(kind, "DynamoDB table", name, cause=text)


# ---------------------------------------------------------------------------------------- decisions


def check_table_name(name: str) -> None:
    """Refuse a name that DynamoDB refuses. Raises ReflowError."""
    if not _NAME.fullmatch(name):
        rule = "want 3 to 255 letters, digits, underscores, hyphens and dots"
        raise _error(repr(name), f"no name for a table: {rule}", Kind.INVALID)


def faults(table: Table, now: Description) -> list[str]:
    """What is wrong with a table that exists and cannot be mended by adding to it."""
    found = []
    if _schema(now) != key_schema((table.hash_key,)) or not _is_text(now, table.hash_key):
        found.append(f"its key is {_keys_text(now)}, want {table.hash_key} (a string)")
    have = {each["IndexName"]: each for each in now.get("GlobalSecondaryIndexes") or []}
    for index in table.indices:
        if index.name in have and (wrong := _index_fault(index, have[index.name])):
            found.append(wrong)
    return found


def _index_fault(index: Index, now: Description) -> str:
    if _schema(now) != key_schema(index.keys):
        return f"its index {index.name} is by {_keys_text(now)}, want {', '.join(index.keys)}"
    projection = now.get("Projection") or {}
    if projection.get("ProjectionType", "ALL") == "ALL":
        return ""
    missing = set(index.included or ()) - set(projection.get("NonKeyAttributes") or ()) - set(index.keys)
    if index.included is None or missing:
        return f"its index {index.name} has not all attributes that are wanted"
    return ""


def lacking(table: Table, now: Description) -> list[Index]:
    """The indices that are not there."""
    have = {each["IndexName"] for each in now.get("GlobalSecondaryIndexes") or []}
    return [index for index in table.indices if index.name not in have]


def is_busy(now: Description) -> str:
    """What is still to become active, with its status; nothing when all is."""
    if now.get("TableStatus") != "ACTIVE":
        return f"table to become active; current status: {now.get('TableStatus')}"
    for each in now.get("GlobalSecondaryIndexes") or []:
        if each.get("IndexStatus", "ACTIVE") != "ACTIVE":
            return f"index {each['IndexName']} to become active; current status: {each['IndexStatus']}"
    return ""


def _schema(now: Description) -> list[dict[str, str]]:
    return [
        {"AttributeName": each["AttributeName"], "KeyType": each["KeyType"]}
        for each in now.get("KeySchema") or []
    ]


def _keys_text(now: Description) -> str:
    return ", ".join([each["AttributeName"] for each in now.get("KeySchema") or []]) or "unknown"


def _is_text(now: Description, name: str) -> bool:
    kinds = {each["AttributeName"]: each["AttributeType"] for each in now.get("AttributeDefinitions") or []}
    return bool(kinds.get(name, "S") == "S")


def stranger(table: Table, items: Iterable[dict[str, Any]]) -> str:
    """Why these items cannot be ours; nothing when they can."""
    for item in items:
        if not str((item.get("ID") or {}).get("S", "")).startswith(_ID) and item.get("ID") != {"S": "<zero>"}:
            return "it holds other data"
        is_record = "Type" in item
        if is_record != (table.what == "the record of runs"):
            kind = "the record of runs" if is_record else "the cache's index"
            return f"it holds {kind}, want {table.what}"
    return ""


# ------------------------------------------------------------------------------------------ in action


def ensure_table(cloud: Cloud, table: Table, name: str, *, has_recovery: bool = False) -> None:
    """Make the table if it is not there, and see that it can be used. Says what it does.

    May be repeated after any failure. With ``has_recovery`` it can be brought back to what it was at any time
    of the last 35 days. Raises ReflowError.
    """
    now = _describe(cloud, name)
    if now is None:
        now = _make(cloud, table, name)
    else:
        cloud.say(f"dynamodb table {name} already exists")
    if now.get("TableStatus") == "DELETING":
        raise _error(name, "it is being deleted: wait until it is gone, or choose another name")
    wrong = faults(table, now)
    if wrong:
        raise _error(name, f"{'; '.join(wrong)}: choose another name; this table is left as it is")
    _wait(cloud, name)
    _check_items(cloud, table, name)
    _add_indices(cloud, table, name, lacking(table, now))
    if has_recovery:
        _recover(cloud, name)


def _describe(cloud: Cloud, name: str) -> Description | None:
    try:
        description: Description = cloud.call("dynamodb", "describe_table", TableName=name)["Table"]
    except CallError as err:
        if err.is_missing:
            return None
        raise ReflowError(err.kind, "DynamoDB table", name, cause=err) from err
    return description


def _make(cloud: Cloud, table: Table, name: str) -> Description:
    cloud.say(f"creating DynamoDB table {name}")
    try:
        cloud.call("dynamodb", "create_table", **creation(table, name))
    except CallError as err:
        if err.code != "ResourceInUseException":  # else somebody was faster, or an answer was lost
            raise ReflowError(err.kind, "DynamoDB table", name, cause=err) from err
    now = _wait(cloud, name)
    cloud.say(f"created DynamoDB table {name}")
    for index in table.indices:
        if index not in lacking(table, now):
            cloud.say(f"created secondary index {index.name}")
    return now


def _wait(cloud: Cloud, name: str) -> Description:
    """The description of the table once it and its indices are active."""
    start = time.monotonic()
    pause_s, said = _FIRST_POLL_S, ""
    while True:
        now = _describe(cloud, name)
        busy = "table to become visible" if now is None else is_busy(now)
        if now is not None and not busy:
            return now
        if time.monotonic() - start > _WAIT_S:
            raise _error(name, f"waited {_WAIT_S:.0f} s for {busy}: run this again later", Kind.TIMEOUT)
        if pause_s >= 1 and busy != said:
            cloud.say(f"waiting for {busy}")
            said = busy
        cloud.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LONGEST_POLL_S)


def _check_items(cloud: Cloud, table: Table, name: str) -> None:
    """Refuse a table with other people's data; who may not look may still use it."""
    try:
        items = cloud.call("dynamodb", "scan", TableName=name, Limit=1).get("Items") or []
    except CallError as err:
        if not err.is_denied:
            raise
        return
    wrong = stranger(table, items)
    if wrong:
        raise _error(name, f"{wrong}: choose another name; this table is left as it is")


def _add_indices(cloud: Cloud, table: Table, name: str, missing: list[Index]) -> None:
    if not missing:
        return
    have = ",".join([index.name for index in table.indices if index not in missing])
    lacks = ",".join([index.name for index in missing])
    cloud.say(f"dynamodb indexes existing: [{have}], missing: [{lacks}]")
    for index in missing:
        try:
            cloud.call("dynamodb", "update_table", **addition(name, index))
        except CallError as err:
            if index in lacking(table, _describe(cloud, name) or {}):
                raise ReflowError(err.kind, "DynamoDB table", name, f"index {index.name}", cause=err) from err
        _wait(cloud, name)
        cloud.say(f"created secondary index {index.name}")


def _recover(cloud: Cloud, name: str) -> None:
    try:
        status = cloud.call("dynamodb", "describe_continuous_backups", TableName=name)
        described = status["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription") or {}
        if described.get("PointInTimeRecoveryStatus") == "ENABLED":
            return
        cloud.call(
            "dynamodb",
            "update_continuous_backups",
            TableName=name,
            PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
        )
    except CallError as err:
        if cloud.is_aws("dynamodb") or not err.is_unsupported:
            raise ReflowError(err.kind, "DynamoDB table", name, "point-in-time recovery", cause=err) from err
        cloud.say(f"note: dynamodb table {name}: this server does not support point-in-time recovery")
        return
    cloud.say(f"dynamodb table {name}: point-in-time recovery is on")
