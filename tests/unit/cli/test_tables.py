from __future__ import annotations

from datetime import UTC, datetime, timedelta

from reflow.cli.output import tabulate
from reflow.cli.tables import RunEntry, inspect_bytes, inspect_id, is_live, runs_text, task_text
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, ExecInspect, ProfileEntry
from reflow.core.wire import exec_inspect_to_json
from reflow.taskdb import Run, Task

NOW = datetime.now(UTC)
RUN = Run(id=Digest.of(b"run"), user="ann", program="p", start=NOW, end=NOW, runlog=Digest.of(b"log"))


def task(inspect: ExecInspect | None = None, **more: object) -> Task:
    row = None if inspect is None else exec_inspect_to_json(inspect, with_extras=True)
    fields: dict[str, object] = {"ident": "m.a", "end": NOW + timedelta(seconds=65), "inspect": row, **more}
    return Task(
        id=Digest.of(b"task"),
        run_id=RUN.id,
        flow_id=Digest.of(b"flow"),
        start=NOW,
        **fields,  # type: ignore[arg-type]
    )


def inspect(state: str = "complete", **more: object) -> ExecInspect:
    config = ExecConfig(type="exec", ident="m.a", image="i")
    return ExecInspect(config=config, created=NOW, state=state, **more)  # type: ignore[arg-type]


def cells(text: str) -> list[str]:
    return text.rstrip("\n").split("\t")


def test_runs_without_tasks_are_left_out() -> None:
    assert runs_text([RunEntry(RUN, [])], is_long=False, is_full=False) == ""


def test_a_run_is_a_block_with_its_tasks_indented() -> None:
    lines = tabulate(runs_text([RunEntry(RUN, [task()])], is_long=False, is_full=False)).split("\n")
    assert lines[0].split() == [
        "runid",
        "user",
        "start",
        "end",
        "cost",
        "RunLog",
        "ExecLog",
        "SysLog",
        "EvalGraph",
        "Trace",
    ]
    assert lines[1].split()[:2] == [RUN.id.short, "ann"]
    assert lines[1].split()[-1] == Digest.of(b"log").short
    assert lines[2] == ""
    assert lines[3].startswith("    taskid   flowid   attempt ident cost")
    assert lines[4].split()[:4] == [Digest.of(b"task").short, Digest.of(b"flow").short, "1", "m.a"]


def test_full_ids_are_of_runs_and_tasks_only() -> None:
    row = cells(task_text(task(attempt=2), is_long=False, is_full=True))
    assert row[1:4] == [str(Digest.of(b"task")), Digest.of(b"flow").short, "3"]


def test_a_finished_exec_shows_its_profile() -> None:
    profile = {
        "mem": ProfileEntry(2.0**30, 1.0, 0.0, 3),
        "cpu": ProfileEntry(4.0, 1.5, 0.0, 3),
        "disk": ProfileEntry(12.0, 12.0, 0.0, 1),
        "tmp": ProfileEntry(4.0, 4.0, 0.0, 1),
    }
    row = cells(task_text(task(inspect(profile=profile, runtime_s=61.0)), is_long=False, is_full=False))
    assert row[8:] == ["1m5s", "1m1s", "complete", "1.0GiB", "1.5", "16B", "[exec]"]


def test_a_running_exec_shows_its_gauges_and_processes() -> None:
    commands = ["bash -c x", "/usr/bin/bwa mem", "bwa mem", "sort -k1"]
    running = inspect("running", gauges={"mem": 1024.0, "cpu": 2.0}, commands=commands)
    row = cells(task_text(task(running), is_long=False, is_full=False))
    assert row[10:] == ["running", "1.0KiB", "2.0", "0B", "bwa(2),sort"]


def test_a_task_without_an_inspection_is_known_by_its_end() -> None:
    assert cells(task_text(task(), is_long=False, is_full=False))[10] == "complete"
    assert cells(task_text(task(end=None), is_long=False, is_full=False))[10] == "running"
    dead = task(end=None, keepalive=NOW - timedelta(seconds=1))
    assert cells(task_text(dead, is_long=False, is_full=False))[10] == "unknown"
    assert not is_live(dead)


def test_errors_are_shortened_unless_all_is_wanted() -> None:
    error = ReflowError(Kind.DOCKER_EXEC, "exec", "sha256:00", cause="exited with code 3")
    failed = task(inspect(exec_error=error), uri="a/b")
    row = cells(task_text(failed, is_long=True, is_full=False))
    assert row[15:] == [
        "unknown",
        Digest.of(inspect_bytes(failed)).short,
        "a/b",
        "exec sha256:00:...ted with code 3",
    ]
    assert inspect_id(failed) == Digest.of(inspect_bytes(failed))
    assert cells(task_text(failed, is_long=True, is_full=True))[-1] == str(error)
