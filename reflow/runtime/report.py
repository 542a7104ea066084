"""What people and records are told of an evaluation: log lines, status rows, rows of tasks.

Cached nodes cost next to nothing here: a run of thousands of them is the common case.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, ExecInspect
from reflow.core.fileset import Fileset
from reflow.core.units import format_duration, format_size
from reflow.eval import Report, tasklines
from reflow.flow.digest import digest
from reflow.flow.node import Exec, Extern, External
from reflow.pool import Exec as RunningExec
from reflow.pool import gauges_of
from reflow.runtime.estimate import Estimate
from reflow.runtime.log import INFO, LEVELS, Log
from reflow.runtime.record import Record
from reflow.runtime.status import Group, Row
from reflow.runtime.trace import Trace
from reflow.sched.telling import STARTING, WAITING

SHOWN_OUTPUT_BYTES = 64 << 10
_TRACEBACK = "Traceback (most recent call last)"


class Failure(NamedTuple):
    """An exec, intern or extern that failed, as it is shown at the end. ``stderr`` is a path, or empty."""

    flow: External
    task_id: Digest
    error: ReflowError
    stderr: str


class RunReport:
    """Tells of one evaluation. ``failures`` are those that stood: an attempt that is retried is none."""

    def __init__(
        self,
        log: Log,
        record: Record,
        group: Group,
        trace: Trace | None,
        *,
        bottom_up: bool,
        traces_flow: bool,
        estimate: Estimate | None = None,
    ) -> None:
        self.failures: dict[External, Failure] = {}
        self._log = log
        self._record = record
        self._group = group
        self._spans = trace
        self._bottom_up = bottom_up
        self._traces_flow = traces_flow
        self._estimate = estimate or Estimate()
        self._rows: dict[External, Row] = {}
        self._uris: dict[Digest, str] = {}
        self._since_s: dict[External, float] = {}
        self._waited_s: dict[External, float] = {}
        self._loading: set[External] = set()

    def queued(self, flow: External, config: ExecConfig, attempt: int) -> None:
        """Show it among what waits."""
        if self._traces_flow:
            self._trace(flow, "Ready")
        if self._spans is not None:
            self._since_s[flow] = time.time()
        self._rows[flow] = self._group.row(flow.ident or "?", f"{flow.op} {WAITING}")
        self._estimate.waits(flow.ident)

    def progress(self, flow: External, what: str, done_bytes: int, total_bytes: int) -> None:
        """Show what is fetched for it, and that it waits."""
        if self._spans is not None:
            self._trace_loading(self._spans, flow, what)
        row = self._rows.get(flow)
        if row is None:
            return
        amount = f" {format_size(done_bytes)}" if done_bytes or total_bytes else ""
        if total_bytes:
            amount += f" of {format_size(total_bytes)}"
        share = min(1.0, done_bytes / total_bytes) if total_bytes else None
        self._group.update(row, f"{flow.op} {what}{amount}", share)

    def started(
        self, flow: External, config: ExecConfig, attempt: int, task_id: Digest, running: RunningExec
    ) -> None:
        """Log and record that it runs."""
        row = self._rows.get(flow)
        if row is not None:
            self._group.update(row, f"{flow.op} {tasklines.describe(flow, config)}")
            row.began = time.monotonic()
            row.gauges = gauges_of(running)
        self._estimate.begins(task_id, flow.ident)
        if self._traces_flow:
            self._trace(flow, "Execing")
        if self._spans is not None:
            if flow in self._loading:
                self._loading.discard(flow)
                self._add_span(self._spans, flow, "loading", "")
            else:
                self._begin_span(flow)
        self._log.info(tasklines.start_line(flow, config))
        details = tasklines.start_details(flow, config, (), running.uri)
        if details:
            self._log.debug(details)
        self._uris[task_id] = running.uri
        self._record.task_started(flow, config, attempt, task_id, running)

    def finished(
        self,
        flow: External,
        config: ExecConfig,
        task_id: Digest,
        value: Fileset | None,
        inspect: ExecInspect | None,
        error: ReflowError | None,
        keys: Sequence[Digest],
    ) -> None:
        """Log and record how an attempt ended."""
        if self._traces_flow:
            self._trace(flow, "Done")
        if self._spans is not None:
            self._add_span(self._spans, flow, "waiting for completion", "" if error is None else str(error))
        self._estimate.ends(task_id, flow.ident, counts=error is None)
        uri = self._uris.pop(task_id, "")
        was_noted = not uri and error is None  # it never ran
        self._end_row(flow, value, error)
        self._record.task_finished(task_id, inspect, error)
        if error is not None:
            self._fail(flow, config, task_id, inspect, error, uri)
            return
        self.failures.pop(flow, None)
        assert value is not None, f"{flow} ended without a value and without an error"
        runtime_s = 0.0 if inspect is None else inspect.runtime_s
        self._log.info(tasklines.finish_line(flow, value, runtime_s, cached=was_noted))
        details = tasklines.finish_details(flow, config, keys, uri, value, inspect)
        if details:
            self._log.info(details)

    def cached(self, flow: External, value: Fileset, key: Digest) -> None:
        """Log it, where the original does."""
        if self._bottom_up:
            self._log.info(tasklines.finish_line(flow, value, 0.0, cached=True))
        if self._traces_flow:
            self._trace(flow, "Done")

    def message(self, level: str, text: str) -> None:
        """Log a line; the traceback of a bug of ours goes to the log of the run only."""
        if text.startswith(_TRACEBACK):
            self._log.to_run_log(LEVELS[level], text)
        else:
            self._log.message(LEVELS[level], text)

    def _fail(
        self,
        flow: External,
        config: ExecConfig,
        task_id: Digest,
        inspect: ExecInspect | None,
        error: ReflowError,
        uri: str,
    ) -> None:
        stdout, stderr = ("", "") if inspect is None else (inspect.stdout_path, inspect.stderr_path)
        self.failures[flow] = Failure(flow, task_id, error, stderr)
        if error.kind is Kind.CANCELED:
            self._log.debug(f"canceled: {flow.ident} {digest(flow).short}")
            return
        lines = [output_tail(path, SHOWN_OUTPUT_BYTES) for path in (stdout, stderr)]
        self._log.info(tasklines.failure(flow, config, error, uri, inspect, *lines))

    def _end_row(self, flow: External, value: Fileset | None, error: ReflowError | None) -> None:
        row = self._rows.pop(flow, None)
        if row is None:
            return
        if error is not None:
            text = f"{flow.op} error {error.text(': ')}"
        elif isinstance(flow, Extern) or value is None:
            text = f"{flow.op} done"
        else:
            text = f"{flow.op} done {format_size(value.size())}"
        self._group.done(row, text, is_failed=error is not None)

    def _trace_loading(self, spans: Trace, flow: External, what: str) -> None:
        """Let the span of what is fetched end when all is there, and the task waits for room only."""
        is_loading = flow in self._loading
        if what == WAITING and is_loading:
            self._loading.discard(flow)
            self._add_span(spans, flow, "loading", "")
        elif what not in (WAITING, STARTING) and not is_loading:
            self._loading.add(flow)
            self._begin_span(flow)

    def _begin_span(self, flow: External) -> None:
        """Begin a node's first span; how long it had waited for resources is told with its next one."""
        now_s = time.time()
        self._waited_s[flow] = now_s - self._since_s.get(flow, now_s)
        self._since_s[flow] = now_s

    def _add_span(self, spans: Trace, flow: External, state: str, error: str) -> None:
        """End the span that began when the node's last state did."""
        now_s = time.time()
        began_s, self._since_s[flow] = self._since_s.get(flow, now_s), now_s
        name = digest(flow)
        notes = {"FlowID": str(name), **({"error": error} if error else {})}
        waited_s = self._waited_s.pop(flow, None)
        if waited_s is not None:
            notes["waited"] = format_duration(waited_s)
        category = "Exec" if isinstance(flow, Exec) and state != "loading" else "Transfer"
        spans.span(category, f"{flow.ident}_{name.short} {state}", name, began_s, notes)

    def _trace(self, flow: External, state: str) -> None:
        deps = ",".join([digest(dep).short for dep in flow.deps])
        name = f"flow {digest(flow).short} state {state} {flow.op} {flow.ident or '?'}"
        self._log.message(INFO, f"mutate {name}{' deps ' + deps if deps else ''}: {state}")


def output_tail(path: str, limit_bytes: int) -> list[str]:
    """The last lines of a file of output, at most so many bytes; the first line says what was left out."""
    if not path:
        return []
    try:
        with open(path, "rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - limit_bytes))
            data = stream.read()
    except OSError as err:
        return [f"(cannot be read: {err.strerror})"]
    lines = data.decode("utf-8", "replace").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    if size > limit_bytes:
        lines[0] = f"(the first {format_size(size - limit_bytes)} are left out; all of it is in {path})"
    return lines


if TYPE_CHECKING:
    _: type[Report] = RunReport
