"""The tables of runs and tasks, as ``ps`` and ``info`` show them. Source: tool/ps.go, writeRuns."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from reflow.cli.output import clock_text
from reflow.core.digest import Digest
from reflow.core.execconfig import ExecInspect
from reflow.core.gojson import dump_json
from reflow.core.units import format_duration, format_size
from reflow.core.wire import exec_inspect_from_json
from reflow.flow.digest import NO_COMMAND_ID
from reflow.taskdb import Run, Task

RUN_COLUMNS = (
    ("runid", "id of the run"),
    ("user", "who started it"),
    ("start", "when it began"),
    ("end", "when it ended; of one that did not, when it was last heard of"),
    ("cost", "what its machines cost, as far as known"),
    ("RunLog", "id of its log"),
    ("ExecLog", "not used any more"),
    ("SysLog", "not used any more"),
    ("EvalGraph", "id of its evaluation graph"),
    ("Trace", "id of its trace"),
)
TASK_COLUMNS = (
    ("taskid", "id of the task: one attempt at an exec, intern or extern"),
    ("flowid", "id of the node in the evaluation graph"),
    ("attempt", "number of the attempt, from 1"),
    ("ident", "identifier of the exec"),
    ("cost", "what it cost, as far as known"),
    ("start", "when it began"),
    ("end", "when it ended; of one that did not, when it was last heard of"),
    ("taskDur", "how long the task took"),
    ("execDur", "how long its command took"),
    ("state", "state of the exec"),
    ("mem", "memory: in use now, or the most that was"),
    ("cpu", "CPU cores: in use now, or the mean"),
    ("disk", "disk: in use now, or the most that was"),
    ("procs", "processes that run in it"),
)
LONG_COLUMNS = (
    ("hosttype", "type of the machine it ran on (only with -l)"),
    ("inspect", "id of what is known of a finished exec (only with -l)"),
    ("uri", "where the exec runs or ran (only with -l)"),
    ("error", "why the task failed (only with -l)"),
)
_UNKNOWN = "<unknown>"
_SHORT_ERROR = 30


class RunEntry(NamedTuple):
    """A run with those of its tasks that are shown."""

    run: Run
    tasks: Sequence[Task]


def columns_text(columns: Sequence[tuple[str, str]]) -> str:
    """Names and meanings of columns, for help texts."""
    return "\n".join([f"\t{name:<15} {meaning}" for name, meaning in columns])


def runs_text(entries: Sequence[RunEntry], *, is_long: bool, is_full: bool) -> str:
    """Blocks for runs that have tasks, with tabs between cells."""
    return "".join([_run_text(each, is_long=is_long, is_full=is_full) for each in entries if each.tasks])


def _run_text(entry: RunEntry, *, is_long: bool, is_full: bool) -> str:
    run = entry.run
    start, end = _times(run.start, run.end, run.keepalive)
    cells = [
        str(run.id) if is_full else run.id.short,
        run.user,
        start,
        end,
        _UNKNOWN,
        _short(run.runlog),
        "",
        "",
        _short(run.evalgraph),
        "",
    ]
    tasks = "".join([task_text(task, is_long=is_long, is_full=is_full) for task in entry.tasks])
    return f"{_header(RUN_COLUMNS)}\n{_row(cells)}\n\n{task_header(is_long=is_long)}{tasks}\n"


def task_header(*, is_long: bool) -> str:
    """The heading of a table of tasks."""
    return "\t" + _header((*TASK_COLUMNS, *LONG_COLUMNS) if is_long else TASK_COLUMNS) + "\n"


def task_text(task: Task, *, is_long: bool, is_full: bool) -> str:
    """The row of a task."""
    inspect = inspect_of(task)
    start, end = _times(task.start, task.end, task.keepalive)
    until = task.end or task.keepalive or datetime.now(UTC)
    mem, cpu, disk = _usage(inspect)
    cells = [
        "",
        str(task.id) if is_full else task.id.short,
        _short(task.flow_id),
        str(task.attempt + 1),
        task.ident,
        _UNKNOWN,
        start,
        end,
        format_duration((until - task.start).total_seconds()),
        format_duration(inspect.runtime_s if inspect is not None else 0),
        _state(task, inspect),
        format_size(mem),
        f"{cpu:.1f}",
        format_size(disk),
        _processes(task, inspect),
    ]
    if is_long:
        cells += ["unknown", _short(inspect_id(task)), task.uri, _error(task, inspect, is_full=is_full)]
    return _row(cells) + "\n"


def is_live(task: Task) -> bool:
    """Whether a task has not ended and the process that runs it is known to live."""
    return task.end is None and (task.keepalive is None or task.keepalive >= datetime.now(UTC))


def inspect_of(task: Task) -> ExecInspect | None:
    """What the record knows of a task's exec."""
    return exec_inspect_from_json(task.inspect) if task.inspect else None


def inspect_bytes(task: Task) -> bytes:
    """What the record knows of a finished exec, as one line of JSON; nothing when it knows nothing."""
    return dump_json(task.inspect) + b"\n" if task.inspect else b""


def inspect_id(task: Task) -> Digest | None:
    """Names the inspection of a task; None while there is none."""
    return Digest.of(inspect_bytes(task)) if task.inspect else None


def _times(start: datetime, end: datetime | None, keepalive: datetime | None) -> tuple[str, str]:
    return clock_text(start), clock_text(end or keepalive or start, start)


def _state(task: Task, inspect: ExecInspect | None) -> str:
    if inspect is not None and inspect.config.type == "exec":
        return inspect.state
    if task.end is not None:
        return "complete"
    return "running" if is_live(task) else "unknown"


def _usage(inspect: ExecInspect | None) -> tuple[float, float, float]:
    """Memory, CPU and disk: of now while it runs, of the profile afterwards."""
    if inspect is None:
        return 0.0, 0.0, 0.0
    if inspect.state == "running":
        gauges = inspect.gauges
        disk = gauges.get("disk", 0.0) + gauges.get("tmp", 0.0)
        return gauges.get("mem", 0.0), gauges.get("cpu", 0.0), disk
    if inspect.state != "complete":
        return 0.0, 0.0, 0.0
    most = {name: entry.max for name, entry in inspect.profile.items()}
    cpu = inspect.profile["cpu"].mean if "cpu" in inspect.profile else 0.0
    return most.get("mem", 0.0), max(cpu, 0.0), most.get("disk", 0.0) + most.get("tmp", 0.0)


def _processes(task: Task, inspect: ExecInspect | None) -> str:
    if inspect is None:
        return "[]" if task.image_cmd_id in (None, NO_COMMAND_ID) else "[exec]"
    if inspect.config.type != "exec" or not inspect.commands:
        return f"[{inspect.config.type}]"
    names = Counter(os.path.basename(command.split(" ", 1)[0]) for command in inspect.commands)
    del names["bash"]
    return ",".join([f"{name}({count})" if count > 1 else name for name, count in sorted(names.items())])


def _error(task: Task, inspect: ExecInspect | None, *, is_full: bool) -> str:
    text = task.error
    if not text and inspect is not None:
        failure = inspect.exec_error or inspect.error
        text = "" if failure is None else failure.text(": ")
    text = " ".join(text.split())
    if not is_full and len(text) > _SHORT_ERROR:
        half = _SHORT_ERROR // 2
        return f"{text[:half]}...{text[-half:]}"
    return text


def _short(digest: Digest | None) -> str:
    return "" if digest is None else digest.short


def _header(columns: Sequence[tuple[str, str]]) -> str:
    return "\t".join([name for name, _ in columns])


def _row(cells: Sequence[str]) -> str:
    return "\t".join(cells)
