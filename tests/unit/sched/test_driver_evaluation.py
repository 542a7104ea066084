"""Whole graphs evaluated on a cluster in memory."""

from __future__ import annotations

import asyncio

from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import Fileset
from reflow.eval import EvalConfig
from reflow.eval.evaluator import Evaluator
from tests.fakes import RecordingReport, an_exec
from tests.unit.sched.test_driver import at_home


async def test_a_graph_is_evaluated_on_allocs() -> None:
    async with at_home() as home:
        leaves = [an_exec(f"leaf{number}", cpu=1) for number in range(8)]
        root = an_exec("root", *[an_exec(f"middle{number}", leaf) for number, leaf in enumerate(leaves)])
        report = RecordingReport()
        evaluator = Evaluator(
            EvalConfig(scheduler=home.scheduler, repository=home.repository, assoc=None, report=report)
        )
        outcome = await evaluator.run(root)
        assert outcome.error is None
        assert isinstance(outcome.value, Fileset)
        (file,) = outcome.value.all_files()
        assert file.id is not None
        assert await home.repository.missing([file.id]) == set()
        assert len(home.ran) == 17
        assert len(report.of("finished")) == 17


async def test_an_evaluation_that_is_cancelled_leaves_nothing() -> None:
    async with at_home() as home:
        home.gate = asyncio.Event()
        evaluator = Evaluator(
            EvalConfig(
                scheduler=home.scheduler, repository=home.repository, assoc=None, report=RecordingReport()
            )
        )
        run = asyncio.ensure_future(evaluator.run(an_exec("sort")))
        await home.running()
        run.cancel()
        await asyncio.wait([run])
        assert not home.cluster.made[0].running


async def test_trouble_of_the_cluster_is_the_error_of_the_node() -> None:
    async with at_home() as home:
        home.cluster.failures = [ReflowError(Kind.NOT_ALLOWED, "ec2", cause="no such right")]
        evaluator = Evaluator(
            EvalConfig(
                scheduler=home.scheduler, repository=home.repository, assoc=None, report=RecordingReport()
            )
        )
        outcome = await evaluator.run(an_exec("sort"))
        assert outcome.error is not None
        assert "no such right" in str(outcome.error)
