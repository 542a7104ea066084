"""Execs that are given the memory that they are going to use."""

from __future__ import annotations

import pytest

from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig
from reflow.core.resources import Resources
from reflow.eval import EvalConfig, Outcome
from reflow.eval.evaluator import Evaluator
from reflow.eval.predict import Prediction
from tests.fakes import CountingRepository, MemoryScheduler, RecordingReport, Shell, an_exec

GIB = float(1 << 30)


class World:
    """A machine whose execs are predicted to use 2 GiB of memory."""

    def __init__(self, most_gib: float = 64) -> None:
        self.repository = CountingRepository()
        self.shell = Shell(self.repository)
        self.scheduler = MemoryScheduler(self.shell, Resources(mem=most_gib * GIB, cpu=4.0))
        self.report = RecordingReport()
        self.predicted: Prediction | None = Prediction(2 * GIB, 3_000_000_000)

    async def predict(self, config: ExecConfig) -> Prediction | None:
        return self.predicted

    async def evaluate(self, mem_gib: float) -> Outcome:
        config = EvalConfig(
            scheduler=self.scheduler,
            repository=self.repository,
            assoc=None,
            report=self.report,
            predict=self.predict,
        )
        return await Evaluator(config).run(an_exec("a", mem=mem_gib * GIB, cpu=1))

    @property
    def given_gib(self) -> list[float]:
        return [task.config.resources["mem"] / GIB for task in self.scheduler.tasks]


@pytest.mark.parametrize("asked_gib", [1.0, 8.0])
async def test_an_exec_gets_what_was_predicted(asked_gib: float) -> None:
    world = World()
    assert (await world.evaluate(asked_gib)).error is None
    assert world.given_gib == [2.0]
    texts = [text for level, text in world.report.messages if level == "debug"]
    assert any("modifying resources from" in text for text in texts)
    assert any("predicted duration 3s" in text for text in texts)


async def test_an_exec_gets_what_it_asks_for_when_nothing_is_predicted() -> None:
    world = World()
    world.predicted = None
    assert (await world.evaluate(8.0)).error is None
    assert world.given_gib == [8.0]


async def test_memory_grows_to_what_was_asked_for_and_then_by_half() -> None:
    world = World()
    world.shell.failures["a"] = [ReflowError(Kind.OOM, "exec")] * 3
    assert (await world.evaluate(8.0)).error is None
    assert world.given_gib == [2.0, 8.0, 12.0, 18.0]


async def test_another_failure_is_tried_once_with_what_was_asked_for() -> None:
    world = World()
    world.shell.failures["a"] = [ReflowError(Kind.DOCKER_EXEC, "exec")] * 4
    assert (await world.evaluate(8.0)).error is not None
    assert world.given_gib == [2.0, 8.0]


async def test_memory_grows_no_further_than_the_machine() -> None:
    world = World(most_gib=10)
    world.shell.failures["a"] = [ReflowError(Kind.OOM, "exec")] * 4
    assert (await world.evaluate(8.0)).error is not None
    assert world.given_gib == [2.0, 8.0, 10.0]
