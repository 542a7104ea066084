from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Collection, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, ExecInspect, ExecResult
from reflow.core.fileset import File, Fileset
from reflow.executor.layout import log_path
from reflow.flow.node import Exec
from reflow.runtime.log import INFO, Log
from reflow.runtime.record import Record
from reflow.runtime.report import RunReport, output_tail
from reflow.runtime.status import Status
from reflow.runtime.trace import Trace
from reflow.sched.telling import STARTING, WAITING
from reflow.taskdb import Run, RunQuery, TaskQuery
from reflow.taskdb.memory import MemoryTaskDB

RUN, TASK = Digest.of(b"run"), Digest.of(b"task")
CONFIG = ExecConfig(type="exec", ident="m.a", image="img", cmd="echo x")
VALUE = Fileset(members=[Fileset.of_file(File(Digest.of(b"x"), 12))])


class Running:
    id = TASK
    uri = f"0011/{TASK.hex()}"

    async def wait(self) -> None:
        return

    async def result(self) -> ExecResult:
        return ExecResult(VALUE)

    async def inspect(self) -> ExecInspect:
        return inspect()

    async def logs(self, *, stdout: bool, stderr: bool, follow: bool = False) -> AsyncIterator[bytes]:
        yield b""


def inspect(stderr: str = "") -> ExecInspect:
    return ExecInspect(
        config=CONFIG, created=datetime.now(UTC), state="complete", runtime_s=4.2, stderr_path=stderr
    )


def flow() -> Exec:
    return Exec("img", "echo x", ident="m.a", pos="m.rf:1:2")


class Told:
    """A report, what it logged, and its database."""

    def __init__(self, *, bottom_up: bool = False, traces: bool = False, trace: Trace | None = None) -> None:
        self.lines: list[str] = []
        self.taskdb = MemoryTaskDB()
        self.group = Status().group("run")
        log = Log(INFO, self.lines.append)
        run = Run(id=RUN, user="u", program="p", start=datetime.now(UTC))
        record = Record(self.taskdb, log, run, "/l")
        record.begin("process")
        self.report = RunReport(log, record, self.group, trace, bottom_up=bottom_up, traces_flow=traces)

    def run(self, node: Exec, error: ReflowError | None = None, stderr: str = "") -> None:
        value = None if error is not None else VALUE
        self.report.queued(node, CONFIG, 0)
        self.report.started(node, CONFIG, 0, TASK, Running())
        self.report.finished(node, CONFIG, TASK, value, inspect(stderr), error, [Digest.of(b"k")])


async def test_a_task_is_logged_and_recorded() -> None:
    told = Told()
    told.run(flow())
    heads = [line.split("\n")[0] for line in told.lines]
    assert heads[0].startswith("reflow:  ->  m.a ")
    assert heads[1].startswith("reflow:  <-  m.a ")
    assert heads[1].endswith(" ok     exec 4s 12B")
    assert heads[2].endswith(" m.rf:1:2:")
    (task,) = await told.taskdb.tasks(TaskQuery(run_id=RUN))
    assert (task.id, task.ident, task.uri, task.error) == (TASK, "m.a", Running.uri, "")
    assert task.end is not None
    assert task.inspect is not None
    assert task.inspect["Config"]["Ident"] == "m.a"
    assert task.stderr == ""


async def test_while_it_runs_the_record_says_where_its_output_is() -> None:
    told = Told()
    told.report.queued(flow(), CONFIG, 0)
    told.report.started(flow(), CONFIG, 0, TASK, Running())
    (task,) = await told.taskdb.tasks(TaskQuery(run_id=RUN))
    assert task.end is None
    assert task.stderr == log_path("/l", TASK, "stderr")


async def test_a_failure_is_kept_with_its_output(tmp_path: Path) -> None:
    (tmp_path / "err").write_text("first\nlast words\n")
    error = ReflowError(Kind.DOCKER_EXEC, "exec", TASK, cause="exited with code 3")
    told = Told()
    node = flow()
    told.run(node, error, str(tmp_path / "err"))
    (failure,) = told.report.failures.values()
    assert (failure.flow, failure.task_id, failure.stderr) == (node, TASK, str(tmp_path / "err"))
    assert "\t    last words\n" in told.lines[1]
    assert "exited with code 3\n\tm.rf:1:2\n" in told.lines[1]
    (task,) = await told.taskdb.tasks(TaskQuery(run_id=RUN))
    assert task.error == f"exec {TASK}: docker exec: exited with code 3"


def test_a_failure_that_was_retried_well_is_none() -> None:
    told = Told()
    node = flow()
    told.run(node, ReflowError(Kind.OOM, "exec", TASK))
    told.run(node)
    assert told.report.failures == {}


def test_what_was_canceled_makes_no_noise() -> None:
    told = Told()
    told.run(flow(), ReflowError(Kind.CANCELED, "exec", TASK))
    assert len(told.lines) == 1


def test_cached_nodes_are_silent_but_bottom_up() -> None:
    told = Told()
    told.report.cached(flow(), VALUE, Digest.of(b"k"))
    assert told.lines == []
    told = Told(bottom_up=True)
    told.report.cached(flow(), VALUE, Digest.of(b"k"))
    assert told.lines[0].startswith("reflow: (<-) m.a ")


def test_a_traceback_is_for_the_log_only() -> None:
    told = Told()
    told.report.message("error", "Traceback (most recent call last):\n  x")
    told.report.message("error", "plain")
    assert told.lines == ["reflow: plain\n"]


class Measured(Running):
    """An exec that knows what it uses."""

    gauges: ClassVar = {"mem": 5.0}


def test_rows_follow_the_task() -> None:
    told = Told()
    node = flow()
    told.report.queued(node, CONFIG, 0)
    (row,) = told.group.rows
    assert (row.title, row.value) == ("m.a", "exec waiting")
    told.report.progress(node, "pulling image img", 1 << 20, 2 << 20)
    assert (row.value, row.share) == ("exec pulling image img 1.0MiB of 2.0MiB", 0.5)
    row.began -= 60
    told.report.started(node, CONFIG, 0, TASK, Measured())
    assert (row.value, row.share) == ("exec img echo x", None)
    assert row.gauges == {"mem": 5.0}
    assert time.monotonic() - row.began < 30, "the time it waited is over"
    told.report.finished(node, CONFIG, TASK, VALUE, inspect(), None, [])
    assert row.value == "exec done 12B"
    assert row.ended is not None


def test_nodes_are_traced_when_asked() -> None:
    told = Told(traces=True)
    told.run(flow())
    assert [line.split()[1] for line in told.lines].count("mutate") == 3


def test_spans_of_a_task_go_to_the_trace() -> None:
    trace = Trace("/nowhere")
    told = Told(trace=trace)
    told.run(flow())
    text = trace.content().decode()
    assert text.count('"cat":"Exec"') == 1
    assert '"waited":' in text
    assert "waiting for completion" in text


def test_what_is_fetched_for_a_task_has_a_span_of_its_own() -> None:
    trace = Trace("/nowhere")
    report, node = Told(trace=trace).report, flow()
    report.queued(node, CONFIG, 0)
    report.progress(node, "pulling", 1, 2)
    report.started(node, CONFIG, 0, TASK, Running())
    (event,) = json.loads(trace.content())["traceEvents"]
    assert event["cat"] == "Transfer"
    assert event["name"].endswith(" loading")


def test_the_span_of_what_was_fetched_ends_before_the_task_waits_for_room() -> None:
    trace = Trace("/nowhere")
    report, node = Told(trace=trace).report, flow()
    report.queued(node, CONFIG, 0)
    for what in ("waiting, pulling", WAITING):
        report.progress(node, what, 0, 0)
    (event,) = json.loads(trace.content())["traceEvents"]
    assert event["name"].endswith(" loading")
    report.progress(node, STARTING, 0, 0)
    report.started(node, CONFIG, 0, TASK, Running())
    report.finished(node, CONFIG, TASK, VALUE, inspect(), None, [])
    _, event = json.loads(trace.content())["traceEvents"]
    assert event["name"].endswith(" waiting for completion")
    assert "waited" in event["args"]


def test_who_waits_after_its_inputs_came_is_shown_as_one_that_waits() -> None:
    told = Told()
    told.report.queued(flow(), CONFIG, 0)
    node = flow()
    told.report.queued(node, CONFIG, 0)
    told.report.progress(node, "copying inputs", 1, 2)
    told.report.progress(node, WAITING, 0, 0)
    queued, ready = told.group.rows
    assert (queued.value, queued.share) == (ready.value, ready.share)


async def test_trouble_with_the_database_is_said_once() -> None:
    class Broken(MemoryTaskDB):
        def put_task(self, task: object) -> None:
            raise ReflowError(Kind.NOT_ALLOWED, "taskdb", "/x")

    lines: list[str] = []
    record = Record(
        Broken(), Log(INFO, lines.append), Run(id=RUN, user="u", program="p", start=datetime.now(UTC)), "/l"
    )
    record.begin("process")
    for _ in range(2):
        record.task_started(flow(), CONFIG, 0, TASK, Running())
        record.task_finished(TASK, None, None)
    assert len(lines) == 1
    assert "this run is not recorded" in lines[0]


async def test_the_end_of_a_run_is_recorded() -> None:
    taskdb = MemoryTaskDB()
    record = Record(taskdb, Log(0, print), Run(id=RUN, user="u", program="p", start=datetime.now(UTC)), "/l")
    record.begin("docker")
    await record.end("text", "", Digest.of(b"log"), None)
    (run,) = await taskdb.runs(RunQuery())
    assert (run.executor, run.result, run.runlog, run.evalgraph) == (
        "docker",
        "text",
        Digest.of(b"log"),
        None,
    )
    assert run.end is not None


class Keeper(MemoryTaskDB):
    """A database with a place for bundles and output."""

    def __init__(self, error: ReflowError | None = None) -> None:
        super().__init__()
        self.objects: list[bytes] = []
        self._error = error

    async def put_objects(self, objects: Iterable[bytes]) -> list[Digest]:
        if self._error is not None:
            raise self._error
        stored = list(objects)
        self.objects += stored
        return [Digest.of(data) for data in stored]

    async def read_objects(self, digests: Collection[Digest]) -> dict[Digest, bytes | ReflowError]:
        return {Digest.of(data): data for data in self.objects if Digest.of(data) in digests}


async def test_the_program_is_kept_where_the_database_has_a_place_for_it() -> None:
    taskdb = Keeper()
    record = Record(taskdb, Log(0, print), Run(id=RUN, user="u", program="p", start=datetime.now(UTC)), "/l")
    record.begin("docker", lambda: b"bundle")
    await record.end("text", "", None, None)
    (run,) = await taskdb.runs(RunQuery())
    assert taskdb.objects == [b"bundle"]
    assert (run.bundle, run.result) == (Digest.of(b"bundle"), "text")


async def test_output_is_kept_where_the_database_has_a_place_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reflow.runtime.record.MOST_OUTPUT_BYTES", 10)
    taskdb = Keeper()
    record = Record(taskdb, Log(0, print), Run(id=RUN, user="u", program="p", start=datetime.now(UTC)), "/l")
    record.begin("docker")
    (tmp_path / "err").write_text("the first and the last")
    record.task_started(flow(), CONFIG, 0, TASK, Running())
    record.task_finished(TASK, inspect(str(tmp_path / "err")), None)
    await record.end("text", "", None, None)
    (task,) = await taskdb.tasks(TaskQuery(run_id=RUN))
    assert (task.stdout, task.stderr) == ("", str(Digest.of(b"d the last")))
    assert taskdb.objects == [b"d the last"]


async def test_a_program_that_cannot_be_kept_is_no_reason_to_fail() -> None:
    taskdb = Keeper(ReflowError(Kind.NOT_ALLOWED, "upload"))
    lines: list[str] = []
    run = Run(id=RUN, user="u", program="p", start=datetime.now(UTC))
    record = Record(taskdb, Log(INFO, lines.append), run, "/l")
    record.begin("docker", lambda: b"bundle")
    await record.end("text", "", None, None)
    assert [(run.bundle, run.result) for run in await taskdb.runs(RunQuery())] == [(None, "text")]
    assert lines == []


@pytest.mark.parametrize(
    ("text", "lines"), [("", []), ("a\nb", ["a", "b"]), ("a\n\n", ["a", ""]), ("\xff\n", ["\ufffd"])]
)
def test_output_is_split_into_lines(tmp_path: Path, text: str, lines: list[str]) -> None:
    (tmp_path / "x").write_bytes(text.encode("latin-1"))
    assert output_tail(str(tmp_path / "x"), 1000) == lines


def test_long_output_is_cut_at_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("0123456789\n" * 10)
    lines = output_tail(str(path), 22)
    assert lines == [f"(the first 88B are left out; all of it is in {path})", "0123456789"]


def test_output_that_is_gone_is_said() -> None:
    assert output_tail("/nonexistent/x", 10) == ["(cannot be read: No such file or directory)"]
