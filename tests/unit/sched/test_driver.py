"""The alloc scheduler on a cluster in memory, which asserts that nothing is over-committed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reflow.core.assertion import AssertionKey, Assertions
from reflow.core.backoff import Backoff
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, ExecResult, InputArg, OutputArg
from reflow.core.fileset import File, Fileset
from reflow.core.resources import Resources
from reflow.pool import Exec
from reflow.repository import Repository
from reflow.repository.memory import MemoryRepository
from reflow.repository.transfer import copy_files
from reflow.sched import Task, TaskOutcome
from reflow.sched.attempt import Surroundings
from reflow.sched.driver import ClusterScheduler
from reflow.sched.policy import Policy
from tests.fakes import Program, Shell
from tests.pools import GIB, MemoryAlloc, MemoryCluster
from tests.waiting import until

QUICK = Policy(
    drain_s=0.0,
    pass_s=0.005,
    patience_s=0.02,
    stale_s=0.05,
    squeeze_s=0.01,
    lost=Backoff(0.001, 0.002, 2.0, 4),
    allocation=Backoff(0.001, 0.002, 2.0, 4),
)
TIMEOUT = ReflowError(Kind.TIMEOUT, "test")


async def no_pause(seconds: float) -> None:
    await asyncio.sleep(0)


class Home:
    """A cluster, the repository at home, and a scheduler between them."""

    def __init__(self, *, policy: Policy = QUICK, limit: int = 3, **around: Any) -> None:
        self.repository = MemoryRepository()
        self.shells: list[Shell] = []
        self.gate: asyncio.Event | None = None
        self.program: Program | None = None
        self.delay_s: Callable[[], float] = lambda: 0.0
        self.cluster = MemoryCluster(self._make_program, self.repository, limit=limit)
        self.said: list[str] = []
        surroundings = Surroundings(repository=self.repository, copy=copy_files, sleep=no_pause, **around)
        self.scheduler = ClusterScheduler(self.cluster, surroundings, policy=policy, say=self.said.append)

    def _make_program(self, repository: Repository) -> Program:
        shell = Shell(repository)
        self.shells.append(shell)

        async def run(config: ExecConfig) -> ExecResult:
            if self.gate is not None:
                await self.gate.wait()
            await asyncio.sleep(self.delay_s())
            return await (self.program or shell)(config)

        return run

    @property
    def ran(self) -> list[str]:
        return [ident for shell in self.shells for ident in shell.ran]

    async def an_input(self, text: str) -> Fileset:
        (digest,) = await self.repository.put_bytes_many([text.encode()])
        return Fileset.of_file(File(digest, len(text)))

    def start(self, task: Task) -> asyncio.Task[TaskOutcome]:
        return asyncio.ensure_future(self.scheduler.run(task))

    async def alloc(self, number: int = 0) -> MemoryAlloc:
        """The alloc that was made as number so and so, once it is there."""
        await until(lambda: len(self.cluster.made) > number)
        return self.cluster.made[number]

    async def running(self, count: int = 1) -> None:
        """Wait for so many execs to run."""
        await until(lambda: sum(len(alloc.running) for alloc in self.cluster.living) == count)


@asynccontextmanager
async def at_home(**options: Any) -> AsyncIterator[Home]:
    """A home whose scheduler is entered; at the end nothing may be left on the cluster."""
    home = Home(**options)
    async with home.scheduler:
        yield home
    assert home.cluster.living == []
    for alloc in home.cluster.made:
        assert not alloc.running
        assert alloc.death.is_set() or not +alloc.held, "files were not unloaded"


def a_task(ident: str, *inputs: Fileset, cpu: float = 1, mem: float = 1, **more: Any) -> Task:
    kind = more.pop("type", "exec")
    args = (*[InputArg(each) for each in inputs], OutputArg(0))
    config = ExecConfig(
        type=kind, ident=ident, cmd=ident, args=args, resources=Resources(mem=mem * GIB, cpu=cpu)
    )
    return Task(id=Digest.of_text(ident), flow_id=Digest.of_text(ident), config=config, **more)


async def failing(awaitable: Awaitable[TaskOutcome]) -> Kind:
    outcome = await awaitable
    assert outcome.error is not None
    assert outcome.result is None
    return outcome.error.kind


async def test_results_come_home_and_allocs_are_freed() -> None:
    async with at_home() as home:
        fed = await home.an_input("data")
        outcome = await home.start(a_task("sort", fed))
        assert outcome.error is None
        assert outcome.result is not None
        (file,) = outcome.result.fileset.all_files()
        assert await home.repository.missing([file.id or Digest.random()]) == set()
        assert outcome.inspect is not None
        assert home.cluster.made[0].calls["unload"] == 2


async def test_progress_of_loading_is_told() -> None:
    told: list[tuple[str, int, int]] = []

    def tell(what: str, done: int, total: int) -> None:
        told.append((what, done, total))

    async with at_home() as home:
        inputs = [await home.an_input("data"), await home.an_input("more data")]
        await home.start(a_task("sort", *inputs, on_progress=tell))
    assert told[0] == ("loading", 0, 13)
    assert told[-1] == ("loading", 13, 13)


async def test_many_tasks_share_a_few_allocs() -> None:
    async with at_home(limit=2) as home:
        tasks = [home.start(a_task(f"t{number}", cpu=1 + number % 3)) for number in range(40)]
        outcomes = await asyncio.gather(*tasks)
        assert all(outcome.error is None for outcome in outcomes)
        assert sorted(home.ran) == sorted(f"t{number}" for number in range(40))


async def test_a_task_of_a_dead_alloc_runs_elsewhere() -> None:
    execs: list[Exec] = []
    async with at_home() as home:
        home.gate = asyncio.Event()
        task = home.start(a_task("sort", on_start=execs.append))
        await home.running()
        home.cluster.drop(home.cluster.made[0])
        home.gate.set()
        outcome = await task
        assert outcome.error is None
        assert len({each.id for each in execs}) == 2
        assert "has been lost, will retry (attempt 1)" in " ".join(home.said)


async def test_an_alloc_that_cannot_be_reached_is_freed_at_once() -> None:
    async with at_home(limit=1) as home:
        home.gate = asyncio.Event()
        task = home.start(a_task("sort"))
        await home.running()
        first = home.cluster.made[0]
        first.faults["waited"] = [ReflowError(Kind.NET, "test")] * 5
        home.gate.set()
        outcome = await task
        assert outcome.error is None
        assert first.is_freed
        assert len(home.cluster.made) == 2


async def test_an_attempt_takes_a_step_again_when_it_fails() -> None:
    async with at_home() as home:
        home.gate = asyncio.Event()
        task = home.start(a_task("sort"))
        await home.running()
        alloc = home.cluster.made[0]
        alloc.faults["promote"] = [TIMEOUT, TIMEOUT]
        alloc.faults["result"] = [TIMEOUT]
        home.gate.set()
        assert (await task).error is None
        assert alloc.calls["promote"] == 3
        assert home.ran == ["sort"]


async def test_losses_are_bounded() -> None:
    async with at_home() as home:

        async def unavailable(config: ExecConfig) -> ExecResult:
            raise ReflowError(Kind.UNAVAILABLE, "daemon", cause="is down")

        home.program = unavailable
        outcome = await home.start(a_task("sort"))
        assert outcome.error is not None
        assert outcome.error.kind is Kind.TOO_MANY_TRIES
        assert "is down" in str(outcome.error)
        assert len(home.cluster.made) <= 6


@pytest.mark.parametrize("kind", [Kind.FATAL, Kind.NOT_EXIST, Kind.INTEGRITY])
async def test_an_error_of_its_own_ends_a_task(kind: Kind) -> None:
    async with at_home() as home:

        async def broken(config: ExecConfig) -> ExecResult:
            raise ReflowError(kind, "image")

        home.program = broken
        assert await failing(home.start(a_task("sort", await home.an_input("data")))) is kind
        assert len(home.cluster.made) == 1


async def test_a_failing_command_is_a_result() -> None:
    async with at_home() as home:

        async def failed(config: ExecConfig) -> ExecResult:
            return ExecResult(error=ReflowError(Kind.DOCKER_EXEC, "exec", cause="exited 1"))

        home.program = failed
        outcome = await home.start(a_task("sort"))
        assert outcome.error is None
        assert outcome.result is not None
        assert outcome.result.error is not None


async def test_cancelling_ends_the_exec() -> None:
    async with at_home() as home:
        home.gate = asyncio.Event()
        task = home.start(a_task("sort", await home.an_input("data")))
        await home.running()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert home.cluster.made[0].running == []
        assert not home.cluster.made[0].is_freed


async def test_an_agent_that_cannot_end_execs_loses_its_alloc() -> None:
    async with at_home() as home:
        home.gate = asyncio.Event()
        task = home.start(a_task("sort"))
        await home.running()
        home.cluster.made[0].faults["remove"] = [ReflowError(Kind.NOT_ALLOWED, "remove")]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: home.cluster.made[0].is_freed)
        assert not home.cluster.made[0].running


async def test_cancelling_before_there_is_an_alloc() -> None:
    async with at_home(limit=0) as home:
        task = home.start(a_task("sort"))
        await until(lambda: bool(home.cluster.asked))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_what_no_machine_has_is_refused() -> None:
    async with at_home() as home:
        outcome = await home.scheduler.run(a_task("sort", cpu=100))
        assert outcome.error is not None
        assert outcome.error.kind is Kind.RESOURCES_EXHAUSTED
        assert "cpu:100" in str(outcome.error)
        assert "sort" in str(outcome.error)


async def test_allocation_is_tried_again() -> None:
    async with at_home() as home:
        home.cluster.failures = [ReflowError(Kind.UNAVAILABLE, "ec2")] * 3
        assert (await home.start(a_task("sort"))).error is None
        assert len(home.cluster.asked) == 4


@pytest.mark.parametrize(("kind", "asked"), [(Kind.UNAVAILABLE, 5), (Kind.NOT_ALLOWED, 1)])
async def test_allocation_is_given_up(kind: Kind, asked: int) -> None:
    async with at_home() as home:
        home.cluster.failures = [ReflowError(kind, "ec2", cause="no such profile")] * 20
        outcome = await home.start(a_task("sort"))
        assert outcome.error is not None
        assert outcome.error.kind is kind
        assert "no such profile" in str(outcome.error)
        assert len(home.cluster.asked) == asked


async def test_the_end_cancels_what_runs() -> None:
    home = Home()
    home.gate = asyncio.Event()
    async with home.scheduler:
        tasks = [home.start(a_task(f"t{number}", cpu=3)) for number in range(6)]
        await home.running(3)
    assert [await failing(task) for task in tasks] == [Kind.CANCELED] * 6
    assert home.cluster.living == []
    assert await failing(home.start(a_task("late"))) is Kind.CANCELED


async def test_an_error_inside_does_not_leave_allocs() -> None:
    home = Home()
    home.gate = asyncio.Event()
    tasks: list[asyncio.Task[TaskOutcome]] = []

    async def use() -> None:
        async with home.scheduler:
            tasks.append(home.start(a_task("sort")))
            await home.running()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use()
    assert home.cluster.living == []
    assert await failing(tasks[0]) is Kind.CANCELED


async def test_a_result_that_is_home_counts_whatever_happens_then() -> None:
    async with at_home() as home:
        home.gate = asyncio.Event()
        task = home.start(a_task("sort"))
        await home.running()
        alloc = home.cluster.made[0]
        alloc.faults["unload"] = [ReflowError(Kind.NET, "test")]
        home.gate.set()
        assert (await task).error is None
        assert home.ran == ["sort"]
        # It is not tried twice: that might take a file from another task.
        assert alloc.calls["unload"] == 1
        alloc.held.clear()


async def test_inputs_are_verified_when_that_is_asked() -> None:
    async with at_home(verifies=True) as home:
        home.gate = asyncio.Event()
        task = home.start(a_task("sort", await home.an_input("data")))
        await home.running()
        home.cluster.made[0].faults["verify"] = [ReflowError(Kind.INTEGRITY, "verify")] * 5
        home.gate.set()
        assert await failing(task) is Kind.INTEGRITY


async def test_inspections_are_stored_where_that_is_asked() -> None:
    async with at_home(inspect_url="memory:") as home:
        outcome = await home.start(a_task("sort"))
        assert outcome.inspect is not None
        assert outcome.inspect.stdout == Digest.of(b"stdout\n")
        assert outcome.inspect.runtime_s == 2.0


async def test_externs_keep_what_is_asserted_of_their_files() -> None:
    async with at_home() as home:
        fed = await home.an_input("data")
        known = Assertions({AssertionKey("blob", "s3://bucket/data"): {"etag": "x"}})
        asserted = fed.with_assertions(known)

        async def extern(config: ExecConfig) -> ExecResult:
            return ExecResult(fed)

        home.program = extern
        outcome = await home.start(a_task("put", asserted, type="extern"))
        assert outcome.result is not None
        assert outcome.result.fileset.file().assertions == known


async def test_idle_allocs_are_freed() -> None:
    policy = Policy(drain_s=0.0, idle_s=0.01)
    async with at_home(policy=policy) as home:
        assert (await home.start(a_task("sort"))).error is None
        await until(lambda: home.cluster.made[0].is_freed)


async def test_a_machine_carved_up_is_put_together_again() -> None:
    """In the original an exec of all CPUs after one of half of them waits until the first alloc was idle."""
    async with at_home(limit=1) as home:
        assert (await home.start(a_task("half", cpu=2))).error is None
        assert (await home.start(a_task("all", cpu=4, mem=16))).error is None


async def test_all_tasks_end_well_whatever_fails_now_and_then() -> None:
    chance = random.Random(7)
    policy = Policy(
        drain_s=0.0,
        pass_s=0.005,
        patience_s=0.05,
        stale_s=0.05,
        squeeze_s=0.01,
        lost=Backoff(0.001, 0.004, 2.0, 30),
    )
    calls = ("load", "put", "wait", "waited", "promote", "result", "inspect", "unload", "remove")
    kinds = (Kind.TIMEOUT, Kind.UNAVAILABLE, Kind.NET, Kind.CANCELED)
    async with at_home(limit=4, policy=policy) as home:
        home.delay_s = lambda: chance.uniform(0.0, 0.01)
        fed = [await home.an_input(f"data {number}") for number in range(5)]
        tasks = [
            home.start(a_task(f"t{number}", *chance.sample(fed, 2), cpu=chance.choice([1, 1, 2, 3])))
            for number in range(300)
        ]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0.002)
            for alloc in home.cluster.living:
                if chance.random() < 0.3:
                    alloc.faults[chance.choice(calls)].append(ReflowError(chance.choice(kinds), "fault"))
                if chance.random() < 0.05:
                    home.cluster.drop(alloc)
        outcomes = [task.result() for task in tasks]
        assert any("has been lost" in text for text in home.said)
        assert len(home.cluster.made) > 4
        assert [outcome.error for outcome in outcomes if outcome.error is not None] == []
        # What was left loaded by calls that failed is the alloc's loss.
        for alloc in home.cluster.made:
            alloc.held.clear()
