"""The local scheduler over an executor in memory, which asserts that it is never over-committed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, ExecResult
from reflow.core.resources import Resources
from reflow.pool import Exec
from reflow.sched import Task, TaskOutcome
from reflow.sched.local import LocalScheduler
from tests.fakes import CountingRepository, MemoryExecutor, Shell

GIB = 1 << 30
MACHINE = Resources(mem=8.0 * GIB, cpu=2.0, disk=1e12)


def a_task(ident: str, cpu: float = 1, mem: float = 1, **more: Any) -> Task:
    config = ExecConfig(
        type="exec", ident=ident, cmd=ident, resources=Resources(mem=mem * GIB, cpu=cpu, disk=0.0)
    )
    return Task(id=Digest.of_text(ident), flow_id=Digest.of_text(ident), config=config, **more)


class Machine:
    """A scheduler, its executor, and the program they run."""

    def __init__(self, **options: Any) -> None:
        self.shell = Shell(CountingRepository())
        self.executor = MemoryExecutor(self.shell, MACHINE)
        self.scheduler = LocalScheduler(self.executor, retry_delay_s=0.0001, **options)

    def start(self, task: Task) -> asyncio.Task[TaskOutcome]:
        return asyncio.ensure_future(self.scheduler.run(task))


@pytest.fixture
async def machine() -> Machine:
    return Machine()


async def turn() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_task_runs_and_tells_that_it_does(machine: Machine) -> None:
    started: list[Exec] = []
    outcome = await machine.scheduler.run(a_task("a", on_start=started.append))
    assert outcome.error is None
    assert outcome.result is not None
    assert outcome.result.error is None
    assert outcome.inspect is not None
    assert outcome.inspect.state == "complete"
    assert [each.id for each in started] == [Digest.of_text("a")]


async def test_the_failure_of_a_command_is_a_result(machine: Machine) -> None:
    machine.shell.failures["a"] = [ReflowError(Kind.DOCKER_EXEC, "exec")]
    outcome = await machine.scheduler.run(a_task("a"))
    assert outcome.error is None
    assert outcome.result is not None
    assert outcome.result.error is not None
    assert machine.executor.removed == []


async def test_two_cores_after_one_start_as_soon_as_it_ends(machine: Machine) -> None:
    gate = machine.shell.gates["one"] = asyncio.Event()
    runs = [machine.start(a_task("one", cpu=1)), machine.start(a_task("two", cpu=2))]
    await turn()
    assert machine.shell.ran == ["one"]
    gate.set()
    await asyncio.gather(*runs)
    assert machine.shell.ran == ["one", "two"]


async def test_a_starving_task_gets_its_turn() -> None:
    now = 0.0
    machine = Machine(clock=lambda: now, patience_s=10.0)
    gates = {name: asyncio.Event() for name in ("s0", "s1", "s2")}
    machine.shell.gates.update(gates)
    runs = [machine.start(a_task("s0")), machine.start(a_task("big", cpu=2)), machine.start(a_task("s1"))]
    await turn()
    assert machine.shell.ran == ["s0", "s1"]
    now = 11.0
    runs.append(machine.start(a_task("s2")))
    gates["s0"].set()
    await turn()
    assert machine.shell.ran == ["s0", "s1"]
    gates["s1"].set()
    gates["s2"].set()
    await asyncio.gather(*runs)
    assert machine.shell.ran == ["s0", "s1", "big", "s2"]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (
            Resources(mem=900.0 * GIB, cpu=1.0, disk=0.0),
            ["mem:900.0GiB cpu:1 disk:0B", "mem := 8*GiB or less"],
        ),
        (Resources(mem=1.0 * GIB, cpu=64.0, disk=0.0), ["cpu:64", "write cpu := 2 or less"]),
        (Resources(mem=1.0 * GIB, cpu=1.0, intel_avx512=1.0), ["no intel_avx512"]),
        (Resources(mem=1.0 * GIB, cpu=1.0, disk=1e13), ["disk:9.1TiB", "write disk := 931*GiB or less"]),
    ],
)
async def test_what_can_never_fit_is_refused_with_advice(
    machine: Machine, wanted: Resources, words: list[str]
) -> None:
    task = a_task("main.big")
    task.config = ExecConfig(type="exec", ident="main.big", resources=wanted)
    outcome = await machine.scheduler.run(task)
    assert outcome.error is not None
    assert outcome.error.kind is Kind.RESOURCES_EXHAUSTED
    text = str(outcome.error)
    assert text.startswith(f"required resource {wanted} greater than available {{mem:8.0GiB cpu:2 ")
    assert "disk:931.3GiB}: resources exhausted: exec main.big: " in text
    for word in words:
        assert word in text
    assert machine.shell.ran == []


async def test_disk_counts_only_where_it_is_known() -> None:
    shell = Shell(CountingRepository())
    scheduler = LocalScheduler(MemoryExecutor(shell, Resources(mem=8.0 * GIB, cpu=2.0), is_limited=False))
    task = a_task("a")
    task.config = ExecConfig(type="exec", resources=Resources(mem=1.0, cpu=1.0, disk=1e15))
    assert (await scheduler.run(task)).error is None


@pytest.mark.parametrize(
    ("kind", "failures", "tries"),
    [
        (Kind.UNAVAILABLE, 1, 2),
        (Kind.NET, 4, 5),
        (Kind.TIMEOUT, 9, 5),
        (Kind.NOT_EXIST, 1, 1),
        (Kind.FATAL, 1, 1),
    ],
)
async def test_trouble_of_the_machinery_is_tried_again_a_few_times(
    machine: Machine, kind: Kind, failures: int, tries: int
) -> None:
    started: list[Exec] = []
    puts = 0
    trouble = [ReflowError(kind, "put") for _ in range(failures)]
    put = machine.executor.put

    async def flaky(*args: Any) -> Exec:
        nonlocal puts
        puts += 1
        if trouble:
            raise trouble.pop()
        return await put(*args)

    machine.executor.put = flaky  # type: ignore[method-assign]
    outcome = await machine.scheduler.run(a_task("a", on_start=started.append))
    assert puts == tries
    assert (outcome.error is None) is (failures < tries)
    assert len(started) == (failures < tries)
    after = await asyncio.wait_for(machine.scheduler.run(a_task("b", cpu=2)), 1)
    assert (after.error is None) is (not trouble)


async def test_cancelling_removes_what_runs_and_lets_others_in(machine: Machine) -> None:
    machine.shell.gates["a"] = asyncio.Event()
    first = machine.start(a_task("a", cpu=2))
    second = machine.start(a_task("b", cpu=2))
    await turn()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert machine.executor.removed == [Digest.of_text("a")]
    assert (await second).error is None


async def test_cancelling_what_waits_leaves_no_trace(machine: Machine) -> None:
    gate = machine.shell.gates["a"] = asyncio.Event()
    first = machine.start(a_task("a", cpu=2))
    second = machine.start(a_task("b", cpu=2))
    third = machine.start(a_task("c", cpu=2))
    await turn()
    second.cancel()
    gate.set()
    await asyncio.gather(first, third)
    assert machine.shell.ran == ["a", "c"]
    assert machine.executor.running == []


async def test_one_that_is_cancelled_as_it_is_admitted_gives_its_share_back(machine: Machine) -> None:
    first = machine.start(a_task("a", cpu=2))
    second = machine.start(a_task("b", cpu=2))
    first.add_done_callback(lambda _: second.cancel())
    third = machine.start(a_task("c", cpu=2))
    await asyncio.wait([first, second, third], timeout=1)
    assert third.done()
    assert "c" in machine.shell.ran


async def test_a_closed_scheduler_starts_nothing_more(machine: Machine) -> None:
    gate = machine.shell.gates["a"] = asyncio.Event()
    first = machine.start(a_task("a", cpu=2))
    second = machine.start(a_task("b", cpu=2))
    await turn()
    await machine.scheduler.close()
    gate.set()
    assert (await first).error is None
    refused = (await second).error
    assert refused is not None
    assert refused.kind is Kind.CANCELED
    assert machine.executor.is_closed


async def test_a_crowd_is_served_without_over_committing() -> None:
    rng = random.Random(7)
    ended: Counter[str] = Counter()

    async def program(config: ExecConfig) -> ExecResult:
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)
        ended[config.ident] += 1
        return ExecResult()

    scheduler = LocalScheduler(MemoryExecutor(program, MACHINE))
    tasks = [
        a_task(f"t{number}", cpu=rng.choice([1, 1, 1, 2]), mem=rng.choice([1, 3, 8])) for number in range(300)
    ]
    runs = [asyncio.ensure_future(scheduler.run(task)) for task in tasks]
    for run in rng.sample(runs, 40):
        await asyncio.sleep(0)
        run.cancel()
    done = await asyncio.gather(*runs, return_exceptions=True)
    served = [each for each in done if isinstance(each, TaskOutcome)]
    assert all(each.error is None for each in served)
    assert len(served) >= 260
    assert scheduler._rooms.admission.free == dict(Counter({"mem": 8 * GIB, "cpu": 2000, "disk": 10**12}))
