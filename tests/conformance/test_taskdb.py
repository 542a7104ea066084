"""What every task database promises."""

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reflow.core.digest import Digest, DigestPrefix
from reflow.core.resources import Resources
from reflow.taskdb import Run, RunQuery, Task, TaskDB, TaskQuery, is_alive
from reflow.taskdb.memory import MemoryTaskDB
from reflow.taskdb.sqlite import SqliteTaskDB

NOW = datetime(2026, 3, 4, 5, 6, 7, 123456, UTC)
MINUTE = timedelta(minutes=1)
FULL_RUN = Run(
    id=Digest.of(b"run"),
    user="jo",
    program=os.fsdecode(b"/data/caf\xe9/") + "été.rf",
    args=("-n=3", os.fsdecode(b"-x=\xff")),
    start=NOW,
    keepalive=NOW + MINUTE,
    end=NOW + 2 * MINUTE,
    error="exec failed:\n\tdetails",
    result="[file(…)]",
    executor="docker",
    runlog=Digest.of(b"log"),
    evalgraph=Digest.of(b"graph"),
)
FULL_TASK = Task(
    id=Digest.of(b"task"),
    run_id=FULL_RUN.id,
    flow_id=Digest.of(b"flow"),
    image_cmd_id=Digest.of(b"ubuntu" + b"cmd"),
    ident="align.reference",
    attempt=2,
    resources=Resources(mem=524288000, cpu=1.5, disk=0),
    uri="local/abc",
    result_id=Digest.of(b"task"),
    start=NOW,
    keepalive=NOW + MINUTE,
    end=NOW + 2 * MINUTE,
    error="it broke",
    stdout="sha256:00",
    stderr=os.fsdecode(b"/tmp/\xfe/stderr"),
    inspect={"State": "complete", "Gauges": {"cpu": 0.5}, "Commands": ["a", "<b>"], "N": 3},
)


def run(name: str, start: datetime = NOW, user: str = "jo") -> Run:
    return Run(id=Digest.of(name.encode()), user=user, program="a.rf", start=start)


def task(name: str, start: datetime = NOW, run: Run = FULL_RUN, **more: object) -> Task:
    plain = Task(id=Digest.of(name.encode()), run_id=run.id, flow_id=Digest.of(b"f"), start=start)
    return replace(plain, **more)  # type: ignore[arg-type]


@pytest.fixture(params=["sqlite", "memory"])
async def taskdb(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TaskDB]:
    taskdb: TaskDB = MemoryTaskDB()
    if request.param == "sqlite":
        taskdb = SqliteTaskDB(str(tmp_path / "taskdb.db"))
    yield taskdb
    await taskdb.close()


async def test_rows_read_back_whole(taskdb: TaskDB) -> None:
    taskdb.put_run(FULL_RUN)
    taskdb.put_task(FULL_TASK)
    assert await taskdb.runs(RunQuery()) == [FULL_RUN]
    assert await taskdb.tasks(TaskQuery()) == [FULL_TASK]


async def test_rows_with_little_read_back_too(taskdb: TaskDB) -> None:
    taskdb.put_run(run("a"))
    taskdb.put_task(task("t"))
    assert await taskdb.runs(RunQuery()) == [run("a")]
    assert await taskdb.tasks(TaskQuery()) == [task("t")]


@pytest.mark.parametrize("flush", [True, False])
async def test_a_later_row_replaces(taskdb: TaskDB, flush: bool) -> None:
    taskdb.put_task(task("t"))
    taskdb.put_run(run("a"))
    if flush:
        await taskdb.flush()
    ended = task("t", end=NOW + MINUTE, error="killed")
    taskdb.put_task(ended)
    taskdb.put_run(replace(run("a"), result="1"))
    assert await taskdb.tasks(TaskQuery()) == [ended]
    assert [each.result for each in await taskdb.runs(RunQuery())] == ["1"]


async def test_the_newest_come_first(taskdb: TaskDB) -> None:
    for name, minutes in (("a", 1), ("b", 3), ("c", 2), ("d", 3)):
        taskdb.put_run(run(name, NOW + minutes * MINUTE))
        taskdb.put_task(task(name, NOW + minutes * MINUTE))
    names = [Digest.of(name) for name in (b"d", b"b", b"c", b"a")]
    assert [each.id for each in await taskdb.runs(RunQuery())] == names
    assert [each.id for each in await taskdb.tasks(TaskQuery(limit=3))] == names[:3]
    assert [each.id for each in await taskdb.runs(RunQuery(limit=1))] == names[:1]


async def test_rows_are_found_by_abbreviated_ids(taskdb: TaskDB) -> None:
    for number in range(300):
        taskdb.put_run(run(str(number)))
        taskdb.put_task(task(str(number)))
    wanted = Digest.of(b"7")
    for length in (1, 4, 32):
        prefix = DigestPrefix(wanted[:length])
        runs, tasks = await taskdb.runs(RunQuery(id=prefix)), await taskdb.tasks(TaskQuery(id=prefix))
        expected = {id for id in (Digest.of(b"%d" % n) for n in range(300)) if prefix.expands_to(id)}
        assert {each.id for each in runs} == {each.id for each in tasks} == expected
    assert await taskdb.runs(RunQuery(id=DigestPrefix(b"\xff" * 30))) == []


async def test_tasks_are_found_by_what_they_are(taskdb: TaskDB) -> None:
    other = run("other")
    image = Digest.of(b"image")
    taskdb.put_task(task("a", ident="x"))
    taskdb.put_task(task("b", run=other, ident="x", image_cmd_id=image))
    taskdb.put_task(task("c", run=other, ident="y"))

    async def names(query: TaskQuery) -> set[Digest]:
        return {each.id for each in await taskdb.tasks(query)}

    a, b, c = (Digest.of(name) for name in (b"a", b"b", b"c"))
    assert await names(TaskQuery(run_id=other.id)) == {b, c}
    assert await names(TaskQuery(ident="x")) == {a, b}
    assert await names(TaskQuery(image_cmd_id=image)) == {b}
    assert await names(TaskQuery(ident="x", run_id=FULL_RUN.id)) == {a}


async def test_runs_are_found_by_user_and_activity(taskdb: TaskDB) -> None:
    taskdb.put_run(run("started", NOW))
    taskdb.put_run(replace(run("alive", NOW - 60 * MINUTE, "mia"), keepalive=NOW + MINUTE))
    taskdb.put_run(replace(run("ended", NOW - 60 * MINUTE), keepalive=NOW, end=NOW - 5 * MINUTE))

    async def names(query: RunQuery) -> set[Digest]:
        return {each.id for each in await taskdb.runs(query)}

    started, alive, ended = (Digest.of(name) for name in (b"started", b"alive", b"ended"))
    assert await names(RunQuery(since=NOW)) == {started, alive}
    assert await names(RunQuery(since=NOW - 10 * MINUTE)) == {started, alive, ended}
    assert await names(RunQuery(since=NOW, user="mia")) == {alive}
    assert await names(RunQuery(user="nobody")) == set()


async def test_keepalives_reach_a_run_and_its_unfinished_tasks(taskdb: TaskDB) -> None:
    taskdb.put_run(run("a"))
    taskdb.put_task(task("runs", run=run("a")))
    taskdb.put_task(task("done", run=run("a"), end=NOW))
    taskdb.put_task(task("other"))
    await taskdb.flush()
    taskdb.keepalive(run("a").id, NOW + 2 * MINUTE)
    rows = {each.id: each for each in await taskdb.tasks(TaskQuery())}
    alive = {name: is_alive(rows[Digest.of(name)], NOW) for name in (b"runs", b"done", b"other")}
    assert alive == {b"runs": True, b"done": False, b"other": False}
    (row,) = await taskdb.runs(RunQuery())
    assert (is_alive(row, NOW + 2 * MINUTE), is_alive(row, NOW + 3 * MINUTE)) == (True, False)


async def test_a_keepalive_never_goes_back(taskdb: TaskDB) -> None:
    taskdb.put_run(run("a"))
    taskdb.keepalive(run("a").id, NOW + 2 * MINUTE)
    await taskdb.flush()
    taskdb.keepalive(run("a").id, NOW + MINUTE)
    taskdb.put_run(run("a"))
    (row,) = await taskdb.runs(RunQuery())
    assert row.keepalive == NOW + 2 * MINUTE
