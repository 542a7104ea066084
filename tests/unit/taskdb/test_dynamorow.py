"""Items of the task database: those of the original, and what we make of our rows."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow.core.digest import Digest
from reflow.core.gojson import load_json
from reflow.core.resources import Resources
from reflow.taskdb import Run, Task
from reflow.taskdb import dynamorow as rows

NOW = datetime(2021, 3, 4, 5, 6, 7, tzinfo=UTC)
ZERO = {"S": "<zero>"}
ID = Digest.of(b"task")
TASK_ATTRIBUTES = [
    *("AllocID", "Attempt", "EndTime", "FlowID", "ID", "ID4", "Ident", "ImgCmdID", "Inspect", "Labels"),
    *("Resources", "ResultID", "RunID", "RunID4", "StartTime", "Stderr", "Stdout", "Type", "URI"),
]


def finished() -> Task:
    return Task(
        id=ID,
        run_id=Digest.of(b"run"),
        flow_id=Digest.of(b"flow"),
        image_cmd_id=Digest.of(b"image"),
        ident="main.Main",
        resources=Resources(mem=1073741824, cpu=1, disk=0),
        result_id=ID,
        start=NOW,
        end=NOW + timedelta(minutes=1),
        inspect={"State": "complete", "Config": {"Ident": "main.Main", "Position": "a.rf:1:1"}},
    )


def test_a_finished_task_has_the_originals_attributes() -> None:
    item = rows.task_item(finished(), ["user=jo"], Digest.of(b"inspect"))
    assert sorted(item) == TASK_ATTRIBUTES  # Date and Keepalive are set with it
    assert (item["AllocID"], item["Stdout"], item["Stderr"]) == (ZERO, ZERO, ZERO)
    assert (item["ID4"], item["Attempt"]) == ({"S": ID.short}, {"N": "0"})
    assert item["Resources"] == {"S": '{"cpu":1,"disk":0,"mem":1073741824}'}
    assert (item["StartTime"], item["EndTime"]) == (
        {"S": "2021-03-04T05:06:07Z"},
        {"S": "2021-03-04T05:07:07Z"},
    )
    assert item["Labels"] == {"SS": ["user=jo"]}


def test_a_run_has_the_originals_attributes() -> None:
    item = rows.run_item(Run(id=ID, user="jo", program="a.rf", start=NOW), ["user=jo"])
    assert sorted(item) == ["ID", "ID4", "Labels", "StartTime", "Type", "User"]


def test_arguments_are_a_set_and_never_empty() -> None:
    run = Run(id=ID, user="jo", program="a.rf", start=NOW, args=("-b=1", "-a=2", "-b=1"))
    assert rows.run_item(run, [])["Args"] == {"SS": ["-a=2", "-b=1"]}


def test_a_command_that_failed_has_its_error_in_the_inspection_only() -> None:
    error = {"Op": "exec", "Arg": None, "Kind": "", "Error": "exited with code 1"}
    task = Task(id=ID, run_id=ID, flow_id=ID, start=NOW, error="x", inspect={"ExecError": error})
    item = rows.task_item(task, [], Digest.of(b"i"))
    assert "Error" not in item
    assert "exited with code 1" in rows.task_of(item, task.inspect).error


def test_plain_errors_of_old_rows_are_read() -> None:
    item = rows.task_item(finished(), [], None) | {"Error": {"S": "it broke"}}
    assert rows.task_of(item, None).error == "it broke"


def test_a_stored_inspection_is_what_the_original_stores() -> None:
    data = rows.inspect_bytes(finished().inspect or {})
    assert data.endswith(b"}\n")
    assert load_json(data) == {"State": "complete", "Config": {"Ident": "main.Main"}}


def test_an_original_alloc_and_pool_are_read() -> None:
    common = {"ID": {"S": str(ID)}, "StartTime": {"S": "2021-03-04T05:06:07Z"}}
    pool = Digest.of_text("i-1")
    alloc = rows.alloc_of(
        {**common, "PoolID": {"S": str(pool)}, "AllocID": {"S": "52fdfc07"}, "Resources": {"S": '{"cpu":4}'}}
    )
    assert (alloc.pool_id, alloc.alloc_id, alloc.resources) == (pool, "52fdfc07", Resources(cpu=4))
    read = rows.pool_of({**common, "PoolID": {"S": "i-1"}, "PoolType": {"S": "c5.large"}})
    assert (read.pool_id, read.pool_type, read.start) == ("i-1", "c5.large", NOW)


digests = st.binary(min_size=32, max_size=32).map(Digest)
times = st.integers(0, 10**9).map(lambda seconds: NOW + timedelta(seconds=seconds))
texts = st.text(max_size=20).filter(lambda text: not any("\ud800" <= char <= "\udfff" for char in text))


@given(digests, digests, digests, st.none() | digests, texts, texts, st.integers(0, 99), times)
def test_tasks_survive_the_way_there_and_back(
    id: Digest,
    run: Digest,
    flow: Digest,
    image: Digest | None,
    ident: str,
    error: str,
    attempt: int,
    start: datetime,
) -> None:
    task = Task(
        id=id,
        run_id=run,
        flow_id=flow,
        image_cmd_id=image,
        ident=ident,
        error=error,
        attempt=attempt,
        start=start,
    )
    assert rows.task_of(rows.task_item(task, [], None), None) == task


@given(digests, texts, st.sets(st.text("abc-=", min_size=1)), times, st.none() | times)
def test_runs_survive_the_way_there_and_back(
    id: Digest, user: str, args: set[str], start: datetime, end: datetime | None
) -> None:
    run = Run(id=id, user=user, program="", args=tuple(sorted(args)), start=start, end=end)
    assert rows.run_of(rows.run_item(run, [])) == run


def test_objects_with_output_are_named_in_the_inspection() -> None:
    place = str(Digest.of(b"said"))
    task = Task(
        id=ID, run_id=ID, flow_id=ID, start=NOW, stdout="/here", stderr=place, inspect={"Docker": None}
    )
    assert task.inspect is not None
    stored = rows.inspect_bytes(task.inspect, task.stdout, task.stderr)
    assert json.loads(stored) == {"Docker": {"Logs": {"Stderr": place}}}
    item = rows.task_item(task, (), Digest.of(stored))
    assert (item["Stdout"], item["Stderr"]) == ({"S": "<zero>"}, {"S": "<zero>"})
    found = rows.task_of(item, rows.read_inspect(stored))
    assert (found.stdout, found.stderr) == ("", place)


@pytest.mark.parametrize("docker", [None, 3, {"Logs": 3}, {"Logs": {"Stderr": 3}}, {"Logs": {"Stderr": "x"}}])
def test_inspections_of_others_may_say_anything(docker: object) -> None:
    item = rows.task_item(Task(id=ID, run_id=ID, flow_id=ID, start=NOW), (), None)
    assert rows.task_of(item, {"Docker": docker}).stderr == ""
