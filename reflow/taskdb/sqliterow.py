"""Rows of the task database in SQLite: times in microseconds, digests as bytes, other things as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from reflow.core.digest import Digest
from reflow.core.gojson import dump_json, dump_with_constants, load_json, number
from reflow.core.resources import Resources
from reflow.taskdb import Run, Task

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_RUN_NAMES = (
    "id user program args start_us keepalive_us end_us error result executor runlog evalgraph bundle labels"
)
RUN_COLUMNS = _RUN_NAMES.split()
_TASK_NAMES = (
    "id run_id flow_id image_cmd_id ident attempt resources uri result_id start_us keepalive_us end_us"
    " error stdout stderr inspect failure alloc_id labels"
)
TASK_COLUMNS = _TASK_NAMES.split()

Row = tuple[Any, ...]


def run_row(run: Run) -> Row:
    """A run as a row."""
    return (
        run.id,
        text_cell(run.user),
        text_cell(run.program),
        dump_json(list(run.args)),
        micros(run.start),
        micros(run.keepalive),
        micros(run.end),
        text_cell(run.error),
        text_cell(run.result),
        text_cell(run.executor),
        run.runlog,
        run.evalgraph,
        run.bundle,
        _labels_row(run.labels),
    )


def task_row(task: Task) -> Row:
    """A task as a row."""
    return (
        task.id,
        task.run_id,
        task.flow_id,
        task.image_cmd_id,
        text_cell(task.ident),
        task.attempt,
        dump_json({name: number(amount) for name, amount in task.resources.items()}),
        text_cell(task.uri),
        task.result_id,
        micros(task.start),
        micros(task.keepalive),
        micros(task.end),
        text_cell(task.error),
        text_cell(task.stdout),
        text_cell(task.stderr),
        _json(task.inspect),
        _json(task.failure),
        task.alloc_id,
        _labels_row(task.labels),
    )


def run_of(row: Row) -> Run:
    """The run in a row."""
    fields: Mapping[str, Any] = dict(zip(RUN_COLUMNS, row, strict=True))
    return Run(
        id=Digest(fields["id"]),
        user=_str(fields["user"]),
        program=_str(fields["program"]),
        args=tuple(load_json(fields["args"])),
        start=_EPOCH + fields["start_us"] * _MICROSECOND,
        keepalive=_time(fields["keepalive_us"]),
        end=_time(fields["end_us"]),
        error=_str(fields["error"]),
        result=_str(fields["result"]),
        executor=_str(fields["executor"]),
        runlog=_digest(fields["runlog"]),
        evalgraph=_digest(fields["evalgraph"]),
        bundle=_digest(fields["bundle"]),
        labels=_labels(fields["labels"]),
    )


def task_of(row: Row) -> Task:
    """The task in a row."""
    fields: Mapping[str, Any] = dict(zip(TASK_COLUMNS, row, strict=True))
    return Task(
        id=Digest(fields["id"]),
        run_id=Digest(fields["run_id"]),
        flow_id=Digest(fields["flow_id"]),
        image_cmd_id=_digest(fields["image_cmd_id"]),
        ident=_str(fields["ident"]),
        attempt=fields["attempt"],
        resources=Resources(load_json(fields["resources"])),
        uri=_str(fields["uri"]),
        result_id=_digest(fields["result_id"]),
        start=_EPOCH + fields["start_us"] * _MICROSECOND,
        keepalive=_time(fields["keepalive_us"]),
        end=_time(fields["end_us"]),
        error=_str(fields["error"]),
        stdout=_str(fields["stdout"]),
        stderr=_str(fields["stderr"]),
        inspect=_mapping(fields["inspect"]),
        failure=_mapping(fields["failure"]),
        alloc_id=_digest(fields["alloc_id"]),
        labels=_labels(fields["labels"]),
    )


def _json(row: Mapping[str, Any] | None) -> bytes | None:
    return None if row is None else dump_with_constants(dict(row))


def _mapping(data: bytes | None) -> Mapping[str, Any] | None:
    row: Mapping[str, Any] | None = None if data is None else load_json(data)
    return row


def _labels_row(labels: frozenset[str]) -> bytes | None:
    return dump_json(sorted(labels)) if labels else None


def _labels(data: bytes | None) -> frozenset[str]:
    return frozenset() if data is None else frozenset(load_json(data))


def text_cell(text: str) -> str | bytes:
    """As SQLite takes it: text, or the bytes where they are no UTF-8."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")
    return text


def _str(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")


def micros(time: datetime | None) -> int | None:
    """Microseconds since 1970."""
    return None if time is None else (time - _EPOCH) // _MICROSECOND


def _time(micros: int | None) -> datetime | None:
    return None if micros is None else _EPOCH + micros * _MICROSECOND


def _digest(raw: bytes | None) -> Digest | None:
    return None if raw is None else Digest(raw)
