"""One external node on its way through the scheduler, as often as its failures allow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, ExecInspect
from reflow.core.fileset import Fileset
from reflow.core.resources import Resources
from reflow.core.units import format_duration
from reflow.eval import EvalStats, Foresight, Report
from reflow.eval.assertions import Witness
from reflow.eval.attempt import cap_memory, plan_retry
from reflow.eval.predict import with_prediction
from reflow.flow.digest import digest
from reflow.flow.node import Exec, External
from reflow.pool import Exec as RunningExec
from reflow.pool import was_noted
from reflow.sched import Scheduler, Task, TaskOutcome


@dataclass(frozen=True, slots=True)
class World:
    """What all runs of an evaluation share. ``may_retry`` says whether anything may be started now."""

    scheduler: Scheduler
    report: Report
    stats: EvalStats
    witness: Witness
    may_retry: Callable[[], bool]
    predict: Foresight | None = None


class Finished(NamedTuple):
    """How a node's last attempt ended: with a value or an error.

    ``is_final`` says that the error is not the command's own: trying again is not for us to decide.
    """

    value: Fileset | None = None
    error: ReflowError | None = None
    inspect: ExecInspect | None = None
    is_final: bool = False


class NodeRun:
    """Runs one node that counts as waiting.

    ``is_running`` says whether an exec of it runs now, ``has_run`` whether one ever did, ``task`` is the id
    of the last attempt, ``was_noted`` whether its value is one that another run had noted.
    """

    __slots__ = (
        "_is_waiting",
        "_keys",
        "_node",
        "_values",
        "_world",
        "has_run",
        "is_running",
        "task",
        "was_noted",
    )

    def __init__(self, world: World, node: External) -> None:
        self.is_running = False
        self.task: Digest | None = None
        self._is_waiting = True
        self._world = world
        self._node = node
        self.has_run = False
        self.was_noted = False
        self._values: Sequence[Any] = ()
        self._keys: Sequence[Digest] = ()

    async def to_end(self, config: ExecConfig, values: Sequence[Any], keys: Sequence[Digest]) -> Finished:
        """Run attempts until one succeeds or its failure stands."""
        self._values = values
        self._keys = keys
        stats, most = self._world.stats, self._world.scheduler.resources
        specified = config.resources
        config = self._cap(await self._foreseen(config), most)
        done = await self._attempt(config, 0)
        retries = 0
        while done.error is not None and not done.is_final and self._world.may_retry():
            retry = plan_retry(done.error, config.resources, most, retries, specified)
            if retry is None:
                break
            self._say(f"retryTask (reason: {retry.reason}): re-submitting task with {retry.message}")
            config = self._cap(replace(config, resources=retry.resources), most)
            stats.waiting += 1
            self._is_waiting = True
            retries += 1
            done = await self._attempt(config, retries)
        stats.failed += done.error is not None and isinstance(self._node, Exec)
        return done

    async def _foreseen(self, config: ExecConfig) -> ExecConfig:
        """The config with the memory that its exec is going to use, if that can be told."""
        predict = self._world.predict
        prediction = None if predict is None else await predict(config)
        if prediction is None:
            return config
        resources = with_prediction(config.resources, prediction)
        self._debug(f"modifying resources from {config.resources} to {resources}")
        if prediction.duration_ns:
            self._debug(f"predicted duration {format_duration(prediction.duration_ns / 1e9)}")
        return replace(config, resources=resources)

    def _cap(self, config: ExecConfig, most: Resources) -> ExecConfig:
        capped = cap_memory(config.resources, most)
        if capped is config.resources:
            return config
        self._say(f"capping resources from {config.resources} to {capped} (max available {most})")
        return replace(config, resources=capped)

    def _say(self, text: str) -> None:
        self._world.report.message("info", f"flow {digest(self._node).short}: {text}")

    def _debug(self, text: str) -> None:
        self._world.report.message("debug", f"(flow {digest(self._node).short}): {text}")

    async def _attempt(self, config: ExecConfig, number: int) -> Finished:
        """Submit the node once."""
        report = self._world.report
        id = self.task = Digest.next()
        task = Task(
            id=id,
            flow_id=digest(self._node),
            config=config,
            attempt=number,
            on_start=partial(self._start, config, number, id),
            on_progress=partial(report.progress, self._node),
        )
        report.queued(self._node, config, number)
        try:
            outcome = await self._world.scheduler.run(task)
        except asyncio.CancelledError:
            if self.is_running:
                error = ReflowError(Kind.CANCELED, "exec", id)
                report.finished(self._node, config, id, None, None, error, self._keys)
            self.leave()
            raise
        self.leave()
        done = self._judge(outcome)
        report.finished(self._node, config, id, done.value, done.inspect, done.error, self._keys)
        return done

    def _start(self, config: ExecConfig, number: int, id: Digest, running: RunningExec) -> None:
        stats = self._world.stats
        if was_noted(running):
            self.was_noted = not self.has_run
            stats.cached += self.was_noted
            return
        if not self.is_running:
            self.is_running = True
            self._is_waiting = False
            stats.waiting -= 1
            stats.running += 1
        if not self.has_run:
            self.has_run = True
            stats.executed += isinstance(self._node, Exec)
        self._world.report.started(self._node, config, number, id, running)

    def leave(self) -> None:
        """Count it no longer, neither as running nor as waiting."""
        self._world.stats.running -= self.is_running
        self._world.stats.waiting -= self._is_waiting
        self.is_running = self._is_waiting = False

    def _judge(self, outcome: TaskOutcome) -> Finished:
        """What an attempt's outcome means for the node."""
        result, inspect = outcome.result, outcome.inspect
        if outcome.error is not None:
            return Finished(error=outcome.error, inspect=inspect, is_final=True)
        assert result is not None, "a task ended without a result"
        if result.error is not None:
            return Finished(error=result.error, inspect=inspect)
        if not isinstance(self._node, Exec):
            return Finished(result.fileset, inspect=inspect)
        try:
            return Finished(self._world.witness.pass_on(self._values, result.fileset), inspect=inspect)
        except ReflowError as err:
            return Finished(error=err, inspect=inspect, is_final=True)
