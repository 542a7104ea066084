"""Predictions out of a task database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, ExecInspect, ProfileEntry
from reflow.core.wire import exec_inspect_to_json
from reflow.eval.predict import PredictorConfig
from reflow.runtime.predictor import Group, Predictor, groups_of
from reflow.taskdb import Task, TaskQuery
from reflow.taskdb.memory import MemoryTaskDB

START = datetime(2026, 1, 1, tzinfo=UTC)
SORT = ExecConfig(type="exec", ident="align.Sort", image="samtools", cmd="sort")
CLOSEST, BY_IDENT = groups_of(SORT)


class CountingTaskDB(MemoryTaskDB):
    """Counts queries; ``broken`` makes them fail."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[TaskQuery] = []
        self.broken = False

    async def tasks(self, query: TaskQuery) -> list[Task]:
        self.asked.append(query)
        await asyncio.sleep(0)
        if self.broken:
            raise ReflowError(Kind.UNAVAILABLE, "taskdb")
        return await super().tasks(query)


def a_task(number: int, mem: float, *, config: ExecConfig = SORT, **inspect: Any) -> Task:
    """A task that ended ``number`` minutes after the start."""
    seen = ExecInspect(
        config=config,
        created=START,
        state="complete",
        profile={"mem": ProfileEntry(mem, mem, 0, 1, START, START + timedelta(seconds=number + 1))},
        **inspect,
    )
    return Task(
        id=Digest.of_text(f"{number} {mem} {config}"),
        run_id=Digest.of_text("run"),
        flow_id=Digest.of_text("flow"),
        image_cmd_id=Digest.of_text(config.image + config.cmd),
        ident=config.ident,
        start=START,
        end=START + timedelta(minutes=number),
        inspect=exec_inspect_to_json(seen),
    )


def a_predictor(taskdb: CountingTaskDB, **more: Any) -> Predictor:
    return Predictor(taskdb, PredictorConfig(**{"min_data": 3, "mem_percentile": 100.0, **more}))


def a_taskdb(*tasks: Task) -> CountingTaskDB:
    taskdb = CountingTaskDB()
    for task in tasks:
        taskdb.put_task(task)
    return taskdb


def test_only_execs_belong_to_groups() -> None:
    assert groups_of(ExecConfig(type="intern", ident="input")) == ()
    assert str(CLOSEST) == f"imgCmdGroup:{Digest.of_text('samtoolssort')}"
    assert str(BY_IDENT) == "identGroup:align.Sort"


async def test_execs_of_one_image_and_command_predict_each_other() -> None:
    predictor = a_predictor(a_taskdb(*[a_task(number, 100.0 + number) for number in range(3)]))
    prediction = await predictor.predict(SORT)
    assert prediction is not None
    assert prediction.mem_bytes == 102.0
    assert prediction.duration_ns == 3_000_000_000


async def test_the_ident_is_the_second_best() -> None:
    others = [
        a_task(number, 50.0, config=ExecConfig(type="exec", ident="align.Sort", image="samtools:2", cmd="x"))
        for number in range(3)
    ]
    taskdb = a_taskdb(a_task(9, 100.0), *others)
    prediction = await a_predictor(taskdb).predict(SORT)
    assert prediction is not None
    assert prediction.mem_bytes == 100.0
    assert [query.ident for query in taskdb.asked] == [None, "align.Sort"]
    assert {query.limit for query in taskdb.asked} == {1000}


async def test_only_the_latest_inspections_count() -> None:
    tasks = [a_task(number, 1000.0 - number) for number in range(6)]
    prediction = await a_predictor(a_taskdb(*tasks), max_inspect=3).predict(SORT)
    assert prediction is not None
    assert prediction.mem_bytes == 997.0


@pytest.mark.parametrize(
    "trouble",
    [
        {"error": ReflowError(Kind.UNAVAILABLE, "exec")},
        {"exec_error": ReflowError(Kind.OOM, "exec")},
    ],
)
async def test_execs_that_failed_predict_nothing(trouble: dict[str, ReflowError]) -> None:
    tasks = [a_task(0, 10.0), a_task(1, 10.0), a_task(2, 99.0, **trouble)]
    assert await a_predictor(a_taskdb(*tasks)).predict(SORT) is None


async def test_why_nothing_is_predicted_is_said() -> None:
    said: list[str] = []
    predictor = Predictor(a_taskdb(a_task(0, 1.0)), PredictorConfig(), debug=said.append)
    assert await predictor.predict(SORT) is None
    assert said[0].endswith("insufficient tasks (1 < 5)")
    assert len(said) == 2


async def test_a_database_that_fails_is_no_reason_to_stop() -> None:
    taskdb = a_taskdb()
    taskdb.broken = True
    assert await a_predictor(taskdb).predict(SORT) is None


async def test_predictions_are_remembered_for_an_hour() -> None:
    now = 0.0
    taskdb = a_taskdb(*[a_task(number, 100.0) for number in range(3)])
    predictor = Predictor(taskdb, PredictorConfig(min_data=3), clock=lambda: now)
    first = await asyncio.gather(*[predictor.predict(SORT) for _ in range(10)])
    assert len(set(first)) == 1
    assert len(taskdb.asked) == 1
    taskdb.put_task(a_task(7, 500.0))
    now = 3599.0
    assert await predictor.predict(SORT) == first[0]
    now = 3600.0
    assert await predictor.predict(SORT) != first[0]


async def test_profiles_of_a_group() -> None:
    predictor = a_predictor(a_taskdb(*[a_task(number, 100.0) for number in range(4)]))
    profiles = await predictor.profiles(Group(ident="align.Sort"))
    assert len(profiles) == 4
