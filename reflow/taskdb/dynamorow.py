"""Rows of the task database as items of DynamoDB, in the original's attributes.

The original has no place for a run's program, result, error and executor, nor for paths of logs: they are not
written, and read as empty. Times are whole seconds. Arguments are a set. Objects with what an exec wrote are
named in its inspection, in a member of ``Docker`` that the original passes over: what it wants to find by the
attributes ``Stdout`` and ``Stderr`` is something else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from reflow.aws.dynamodb import Item
from reflow.core.digest import Digest, digest_text
from reflow.core.errors import ReflowError, error_from_json
from reflow.core.gojson import dump_json, load_json, number
from reflow.core.resources import NO_RESOURCES, Resources
from reflow.taskdb import Alloc, Pool, Run, Task

RUN, TASK, ALLOC, POOL = "run", "task", "alloc", "pool"
_EXTRA_INSPECT = ("Stdout", "Stderr")
_EXTRA_CONFIG = ("ArgNames", "Position")
_LOGS = "Logs"


def run_item(run: Run, labels: Collection[str]) -> Item:
    """Attributes of a run besides times of keepalive."""
    item = _common(run.id, RUN, run.start, run.end) | _labels(labels) | {"User": _s(run.user)}
    args = sorted({_clean(arg) for arg in run.args if arg})
    if args:
        item["Args"] = {"SS": args}
    for name, digest in (("RunLog", run.runlog), ("EvalGraph", run.evalgraph), ("Bundle", run.bundle)):
        if digest is not None:
            item[name] = _s(str(digest))
    return item


def task_item(task: Task, labels: Collection[str], inspect: Digest | None) -> Item:
    """Attributes of a task besides times of keepalive; ``inspect`` is the object that was stored."""
    item = _common(task.id, TASK, task.start, task.end) | _labels(labels)
    item |= {
        "RunID": _s(str(task.run_id)),
        "RunID4": _s(task.run_id.short),
        "AllocID": _s(digest_text(task.alloc_id)),
        "FlowID": _s(str(task.flow_id)),
        "ImgCmdID": _s(digest_text(task.image_cmd_id)),
        "Attempt": {"N": str(task.attempt)},
        "Resources": _s(_resources_text(task.resources)),
        "URI": _s(task.uri),
    }
    if task.ident:
        item["Ident"] = _s(task.ident)  # an index has it as its key: never empty
    if task.result_id is not None:
        item["ResultID"] = _s(str(task.result_id))
    if inspect is not None:
        item["Inspect"] = _s(str(inspect))
        item |= {"Stdout": _s(digest_text(None)), "Stderr": _s(digest_text(None))}
    if task.error and not _has_failed_by_itself(task.inspect or {}):
        row = task.failure or {"Op": "", "Arg": None, "Kind": "", "Error": _clean(task.error)}
        item["Error"] = _s(dump_json(row).decode())
    return item


def _has_failed_by_itself(inspect: Mapping[str, Any]) -> bool:
    """Whether a command or intern failed, and not what it ran on: of such the original has no error."""
    return bool(inspect.get("ExecError")) or (inspect.get("Config") or {}).get("Type") == "intern"


def inspect_bytes(inspect: Mapping[str, Any], stdout: str = "", stderr: str = "") -> bytes:
    """The object that is stored of an inspection, one line: what the original has, and where output is."""
    row = {name: value for name, value in inspect.items() if name not in _EXTRA_INSPECT}
    if isinstance(config := row.get("Config"), Mapping):
        row["Config"] = {name: value for name, value in config.items() if name not in _EXTRA_CONFIG}
    logs = {name: place for name, place in (("Stdout", stdout), ("Stderr", stderr)) if _is_object(place)}
    if logs:
        row["Docker"] = {**(row.get("Docker") or {}), _LOGS: logs}
    return dump_json(row) + b"\n"


def optional_names(kind: str) -> tuple[str, ...]:
    """Attributes that a replaced row may lose."""
    if kind == RUN:
        return ("EndTime", "Args", "RunLog", "EvalGraph", "Bundle")
    return ("EndTime", "Ident", "ResultID", "Inspect", "Stdout", "Stderr", "Error")


def alive_item(until: datetime) -> Item:
    """The attributes that a keepalive sets; the date is the bucket in which activity is looked up."""
    return {"Keepalive": _s(stamp(until)), "Date": _s(day(until))}


def run_of(item: Item) -> Run:
    """A run's row. Raises ValueError or KeyError."""
    start = _time(item, "StartTime")
    if start is None:
        raise ValueError("no StartTime")
    return Run(
        id=Digest.parse(text_of(item, "ID")),
        user=text_of(item, "User"),
        program="",
        args=tuple(sorted(item.get("Args", {}).get("SS", ()))),
        start=start,
        keepalive=_keepalive(item, start),
        end=_time(item, "EndTime"),
        runlog=_digest(item, "RunLog"),
        evalgraph=_digest(item, "EvalGraph"),
        bundle=_digest(item, "Bundle"),
        labels=labels_of(item),
    )


def task_of(item: Item, inspect: Mapping[str, Any] | None) -> Task:
    """A task's row, with its inspection as read. Raises ValueError or KeyError."""
    start = _time(item, "StartTime")
    if start is None:
        raise ValueError("no StartTime")
    return Task(
        id=Digest.parse(text_of(item, "ID")),
        run_id=Digest.parse(text_of(item, "RunID")),
        flow_id=Digest.parse(text_of(item, "FlowID")),
        alloc_id=_digest(item, "AllocID"),
        image_cmd_id=_digest(item, "ImgCmdID"),
        ident=text_of(item, "Ident"),
        attempt=int(item.get("Attempt", {}).get("N", "0")),
        resources=_resources(item),
        uri=text_of(item, "URI"),
        result_id=_digest(item, "ResultID"),
        start=start,
        keepalive=_keepalive(item, start),
        end=_time(item, "EndTime"),
        error=_error(item, inspect),
        failure=_failure(item),
        stdout=_log(item, inspect, "Stdout"),
        stderr=_log(item, inspect, "Stderr"),
        inspect=inspect,
        labels=labels_of(item),
    )


def alloc_of(item: Item) -> Alloc:
    """An alloc's row. Raises ValueError."""
    return Alloc(
        id=Digest.parse(text_of(item, "ID")),
        alloc_id=text_of(item, "AllocID"),
        pool_id=_digest(item, "PoolID"),
        resources=_resources(item),
        start=_time(item, "StartTime"),
        keepalive=_time(item, "Keepalive"),
        end=_time(item, "EndTime"),
    )


def pool_of(item: Item) -> Pool:
    """A pool's row. Raises ValueError."""
    return Pool(
        id=Digest.parse(text_of(item, "ID")),
        pool_id=text_of(item, "PoolID"),
        pool_type=text_of(item, "PoolType"),
        cluster_name=text_of(item, "ClusterName"),
        user=text_of(item, "User"),
        reflow_version=text_of(item, "ReflowVersion"),
        uri=text_of(item, "URI"),
        resources=_resources(item),
        start=_time(item, "StartTime"),
        keepalive=_time(item, "Keepalive"),
        end=_time(item, "EndTime"),
    )


def labels_of(item: Item) -> frozenset[str]:
    """Labels of the form ``key=value``; others are dropped, as the original does."""
    return frozenset(each for each in item.get("Labels", {}).get("SS", ()) if each.count("=") == 1)


def inspect_digest(item: Item) -> Digest | None:
    """The object with a task's inspection."""
    return _digest(item, "Inspect")


def read_inspect(data: bytes) -> Mapping[str, Any] | None:
    """A stored inspection; None if it is not one."""
    try:
        row = load_json(data)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def stamp(time: datetime) -> str:
    """RFC 3339 in UTC with whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def day(time: datetime) -> str:
    """The day in UTC."""
    return time.astimezone(UTC).strftime("%Y-%m-%d")


def _common(id: Digest, kind: str, start: datetime, end: datetime | None) -> Item:
    item = {"ID": _s(str(id)), "ID4": _s(id.short), "Type": _s(kind), "StartTime": _s(stamp(start))}
    return item if end is None else item | {"EndTime": _s(stamp(end))}


def _labels(labels: Collection[str]) -> Item:
    return {"Labels": {"SS": sorted(set(labels))}} if labels else {}


def _s(text: str) -> dict[str, Any]:
    return {"S": _clean(text)}


def _clean(text: str) -> str:
    """Text that DynamoDB takes: UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def text_of(item: Item, name: str) -> str:
    """An attribute's text; empty when it is not there."""
    return str(item.get(name, {}).get("S", ""))


def _time(item: Item, name: str) -> datetime | None:
    text = text_of(item, name)
    return datetime.fromisoformat(text) if text else None


def _keepalive(item: Item, start: datetime) -> datetime | None:
    """Until when it is kept alive. A row gets its start for that, so that it is found by its time at once."""
    until = _time(item, "Keepalive")
    return None if until is None or until <= start else until


def _digest(item: Item, name: str) -> Digest | None:
    text = text_of(item, name)
    try:
        return Digest.parse(text) if text.startswith("sha256:") else None
    except ValueError:
        return None


def _resources_text(resources: Resources) -> str:
    amounts = {name: number(resources[name]) for name in sorted(resources)}
    return dump_json(amounts).decode() if amounts else ""


def _resources(item: Item) -> Resources:
    text = text_of(item, "Resources")
    row = load_json(text.encode()) if text else None
    return Resources(row) if row else NO_RESOURCES


def _is_object(place: str) -> bool:
    """Whether it names an object; a path on somebody's machine says nothing to others."""
    return place.startswith("sha256:") and len(place) == 71


def _log(item: Item, inspect: Mapping[str, Any] | None, name: str) -> str:
    digest = _digest(item, name)
    if digest is not None:
        return str(digest)
    return _named_output(inspect, name)


def output_places(inspect: Any) -> list[str]:
    """The objects with what an exec wrote that its inspection names."""
    return [place for name in _EXTRA_INSPECT if (place := _named_output(inspect, name))]


def _named_output(inspect: Any, name: str) -> str:
    place: Any = inspect
    for member in ("Docker", _LOGS, name):
        place = place.get(member) if isinstance(place, Mapping) else None
    return place if isinstance(place, str) and _is_object(place) else ""


def _failure(item: Item) -> Mapping[str, Any] | None:
    """The error of a task's row, unless it is a mere text."""
    try:
        row = load_json(text_of(item, "Error").encode())
    except ValueError:
        return None
    return row if isinstance(row, dict) and not row.get("Error") else None


def _error(item: Item, inspect: Mapping[str, Any] | None) -> str:
    """The error of a task: of its row (older rows have plain text), or of the command as inspected."""
    text = text_of(item, "Error")
    row: Any = (inspect or {}).get("ExecError")
    if text:
        try:
            row = load_json(text.encode())
        except ValueError:
            return text
    if not isinstance(row, dict):
        return text
    error: ReflowError = error_from_json(row)
    return error.text(": ")
