"""What every task database promises."""

import os
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reflow.aws.tables import TASKDB
from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind, ReflowError
from reflow.core.resources import Resources
from reflow.taskdb import Run, RunQuery, Task, TaskDB, TaskQuery, is_alive
from reflow.taskdb.dynamodb import DynamoTaskDB
from reflow.taskdb.memory import MemoryTaskDB
from reflow.taskdb.sqlite import SqliteTaskDB
from tests import dynamotable, servers
from tests.dictbucket import DictBucket, blob_repository

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
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
    bundle=Digest.of(b"bundle"),
    labels=frozenset({"project=x", "user=jo"}),
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
    error="exec b: resource does not exist: it broke",
    failure=ReflowError(Kind.NOT_EXIST, "exec", "b", cause="it broke").to_json(),
    stdout="sha256:00",
    stderr=os.fsdecode(b"/tmp/\xfe/stderr"),
    inspect={"State": "complete", "Gauges": {"cpu": 0.5}, "Commands": ["a", "<b>"], "N": 3},
    alloc_id=Digest.of(b"alloc"),
    labels=frozenset({"project=x"}),
)


def run(name: str, start: datetime = NOW, user: str = "jo") -> Run:
    return Run(id=Digest.of(name.encode()), user=user, program="a.rf", start=start)


def task(name: str, start: datetime = NOW, run: Run = FULL_RUN, **more: object) -> Task:
    plain = Task(id=Digest.of(name.encode()), run_id=run.id, flow_id=Digest.of(b"f"), start=start)
    return replace(plain, **more)  # type: ignore[arg-type]


DYNAMO = [
    pytest.param("dynamodb-dynalite-direct", marks=pytest.mark.dynamodb),
    pytest.param("dynamodb-dynalite-boto", marks=pytest.mark.dynamodb),
    pytest.param("dynamodb-moto-direct", marks=pytest.mark.aws),
]


@pytest.fixture(params=["sqlite", "memory", *DYNAMO])
async def taskdb(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TaskDB]:
    taskdb: TaskDB = MemoryTaskDB()
    with ExitStack() as stack:
        if request.param == "sqlite":
            taskdb = SqliteTaskDB(str(tmp_path / "taskdb.db"))
        elif request.param.startswith("dynamodb"):
            _, server, transport = request.param.split("-")
            servers.use(monkeypatch, dynamodb=servers.DYNAMODB if server == "dynalite" else servers.MOTO)
            session, name = stack.enter_context(dynamotable.table(TASKDB))
            objects = blob_repository(DictBucket())
            taskdb = DynamoTaskDB(session, name, objects, ["user=jo"], transport=transport)
        yield taskdb
        await taskdb.close()


def kept_run(taskdb: TaskDB, run: Run) -> Run:
    """What a database keeps of a run: a shared one keeps what the original has a place for."""
    if not isinstance(taskdb, DynamoTaskDB):
        return run
    args = tuple(sorted(os.fsencode(arg).decode("utf-8", "replace") for arg in run.args))
    labels = run.labels or frozenset({"user=jo"})
    return replace(run, program="", args=args, error="", result="", executor="", labels=labels)


def kept_task(taskdb: TaskDB, task: Task) -> Task:
    """What a database keeps of a task."""
    if not isinstance(taskdb, DynamoTaskDB):
        return task
    return replace(task, stdout="", stderr="", labels=task.labels or frozenset({"user=jo"}))


async def test_rows_read_back_whole(taskdb: TaskDB) -> None:
    taskdb.put_run(FULL_RUN)
    taskdb.put_task(FULL_TASK)
    assert await taskdb.runs(RunQuery()) == [kept_run(taskdb, FULL_RUN)]
    assert await taskdb.tasks(TaskQuery()) == [kept_task(taskdb, FULL_TASK)]


async def test_times_are_kept_to_the_microsecond_where_there_is_a_place_for_it(taskdb: TaskDB) -> None:
    moment = NOW + timedelta(microseconds=123456)
    kept = NOW if isinstance(taskdb, DynamoTaskDB) else moment
    taskdb.put_run(replace(run("a", moment), end=moment + MINUTE))
    taskdb.put_task(task("t", moment, keepalive=moment + MINUTE))
    (found,) = await taskdb.runs(RunQuery())
    assert (found.start, found.end) == (kept, kept + MINUTE)
    (its_task,) = await taskdb.tasks(TaskQuery())
    assert (its_task.start, its_task.keepalive) == (kept, kept + MINUTE)


async def test_rows_with_little_read_back_too(taskdb: TaskDB) -> None:
    taskdb.put_run(run("a"))
    taskdb.put_task(task("t"))
    assert await taskdb.runs(RunQuery()) == [kept_run(taskdb, run("a"))]
    assert await taskdb.tasks(TaskQuery()) == [kept_task(taskdb, task("t"))]


@pytest.mark.parametrize("flush", [True, False])
async def test_a_later_row_replaces(taskdb: TaskDB, flush: bool) -> None:
    taskdb.put_task(task("t"))
    taskdb.put_run(run("a"))
    if flush:
        await taskdb.flush()
    ended = task("t", end=NOW + MINUTE, error="killed")
    taskdb.put_task(ended)
    taskdb.put_run(replace(run("a"), runlog=Digest.of(b"log")))
    assert await taskdb.tasks(TaskQuery()) == [kept_task(taskdb, ended)]
    assert [each.runlog for each in await taskdb.runs(RunQuery())] == [Digest.of(b"log")]


async def test_the_newest_runs_come_first(taskdb: TaskDB) -> None:
    # Of equal times the later insertion comes first, which a shared database cannot know.
    last = 4 if isinstance(taskdb, DynamoTaskDB) else 3
    for name, minutes in (("a", 1), ("b", 3), ("c", 2), ("d", last)):
        taskdb.put_run(run(name, NOW + minutes * MINUTE))
    names = [Digest.of(name) for name in (b"d", b"b", b"c", b"a")]
    assert [each.id for each in await taskdb.runs(RunQuery())] == names
    assert [each.id for each in await taskdb.runs(RunQuery(limit=1))] == names[:1]


async def test_the_newest_tasks_come_first(taskdb: TaskDB) -> None:
    last = 4 if isinstance(taskdb, DynamoTaskDB) else 3
    for name, minutes in (("a", 1), ("b", 3), ("c", 2), ("d", last)):
        taskdb.put_task(task(name, NOW + minutes * MINUTE))
    names = [Digest.of(name) for name in (b"d", b"b", b"c", b"a")]
    assert [each.id for each in await taskdb.tasks(TaskQuery())] == names
    assert [each.id for each in await taskdb.tasks(TaskQuery(limit=3))] == names[:3]


@pytest.mark.parametrize("length", [1, 4, 32])
async def test_rows_are_found_by_abbreviated_ids(taskdb: TaskDB, length: int) -> None:
    count = 60 if isinstance(taskdb, DynamoTaskDB) else 300
    for number in range(count):
        taskdb.put_run(run(f"run{number}"))
        taskdb.put_task(task(f"task{number}"))
    prefix = DigestPrefix(Digest.of(b"run7")[:length])
    expected = {id for id in (Digest.of(b"run%d" % n) for n in range(count)) if prefix.expands_to(id)}
    assert {each.id for each in await taskdb.runs(RunQuery(id=prefix))} == expected
    prefix = DigestPrefix(Digest.of(b"task7")[:length])
    expected = {id for id in (Digest.of(b"task%d" % n) for n in range(count)) if prefix.expands_to(id)}
    assert {each.id for each in await taskdb.tasks(TaskQuery(id=prefix))} == expected
    assert await taskdb.runs(RunQuery(id=DigestPrefix(b"\xff" * 30))) == []


async def test_tasks_are_found_by_what_they_are(taskdb: TaskDB) -> None:
    other = run("other")
    image = Digest.of(b"image")
    taskdb.put_task(task("a", ident="x", end=NOW))
    taskdb.put_task(task("b", run=other, ident="x", image_cmd_id=image, end=NOW))
    taskdb.put_task(task("c", run=other, ident="y", end=NOW))

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
