"""Faults of machines and of what lies between, in the middle of an evaluation on a cluster in memory.

One row of the fault table a test: whatever happens to allocs, the value is the right one, or a named error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import Fileset
from reflow.eval import EvalConfig, Outcome
from reflow.eval.evaluator import Evaluator
from reflow.flow.node import Flow
from tests.fakes import RecordingReport, an_exec
from tests.pools import MemoryAlloc
from tests.unit.sched.test_driver import Home, at_home


def graph() -> Flow:
    leaves = [an_exec(f"leaf{number}", cpu=1) for number in range(4)]
    return an_exec("root", *[an_exec(f"middle{number}", leaf) for number, leaf in enumerate(leaves)])


def evaluation(home: Home) -> asyncio.Task[Outcome]:
    report = RecordingReport()
    config = EvalConfig(scheduler=home.scheduler, repository=home.repository, assoc=None, report=report)
    return asyncio.ensure_future(Evaluator(config).run(graph()))


async def undisturbed() -> Fileset:
    async with at_home() as home:
        outcome = await evaluation(home)
        assert isinstance(outcome.value, Fileset)
        return outcome.value


async def instance_lost(home: Home) -> None:
    home.cluster.drop(home.cluster.made[0])


async def agent_cannot_be_reached(home: Home) -> None:
    home.cluster.made[0].faults["waited"] = [ReflowError(Kind.NET, "test")] * 5


async def agent_does_not_answer_in_time(home: Home) -> None:
    home.cluster.made[0].faults["waited"] = [ReflowError(Kind.TIMEOUT, "test")] * 5


async def docker_daemon_restart(home: Home) -> None:
    home.cluster.made[0].faults["waited"] = [ReflowError(Kind.UNAVAILABLE, "docker")] * 5


async def store_answers_with_errors_for_a_while(home: Home) -> None:
    home.cluster.made[0].faults["promote"] = [ReflowError(Kind.TEMPORARY, "s3")] * 3


def _left(alloc: MemoryAlloc) -> int:
    return sum(map(len, alloc.faults.values()))


@pytest.mark.parametrize(
    "fault",
    [
        instance_lost,
        agent_cannot_be_reached,
        agent_does_not_answer_in_time,
        docker_daemon_restart,
        store_answers_with_errors_for_a_while,
    ],
)
async def test_the_value_is_the_right_one_after(fault: Callable[[Home], Awaitable[None]]) -> None:
    expected = await undisturbed()
    async with at_home() as home:
        home.gate = asyncio.Event()
        run = evaluation(home)
        await home.alloc()
        await home.running(4)
        await fault(home)
        first = home.cluster.made[0]
        prepared = _left(first)
        home.gate.set()
        outcome = await run
        assert first.death.is_set() or _left(first) < prepared, "the fault did not happen"
        assert outcome.error is None
        assert outcome.value == expected
        assert set(home.ran) == {f"{name}{number}" for name in ("leaf", "middle") for number in range(4)} | {
            "root"
        }
        for file in expected.all_files():
            assert file.id is not None
            assert await home.repository.missing([file.id]) == set()


async def test_instances_lost_again_and_again_end_in_a_named_error() -> None:
    async with at_home() as home:
        home.gate = asyncio.Event()
        run = evaluation(home)

        async def reclaim() -> None:
            while not run.done():
                for alloc in home.cluster.living:
                    if alloc.running:
                        home.cluster.drop(alloc)
                await asyncio.sleep(0.001)

        reclaiming = asyncio.ensure_future(reclaim())
        async with asyncio.timeout(60):
            outcome = await run
        await reclaiming
        assert outcome.error is not None
        assert "too many tries" in str(outcome.error)


async def test_client_interrupt_frees_every_alloc() -> None:
    async with at_home() as home:
        home.gate = asyncio.Event()
        run = evaluation(home)
        await home.running(4)
        run.cancel()
        await asyncio.wait([run])
        assert not any(alloc.running for alloc in home.cluster.made)
