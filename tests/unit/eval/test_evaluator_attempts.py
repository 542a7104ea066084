"""What execs are given of the machine, and when they are tried again."""

from __future__ import annotations

import pytest

from reflow.core.errors import Kind, ReflowError, kind_of
from reflow.core.resources import Resources
from reflow.flow.node import Merge
from reflow.sched.local import LocalScheduler
from tests.evalbench import Bench, failed
from tests.fakes import (
    MemoryExecutor,
    an_exec,
)


async def test_an_exec_that_ran_out_of_memory_gets_half_as_much_again(bench: Bench) -> None:
    bench.shell.failures["a"] = [failed(Kind.OOM), failed(Kind.OOM)]
    outcome = await bench.run(an_exec("a", mem=1 << 30))
    assert outcome.error is None
    asked = [config.resources["mem"] for config in bench.scheduler.executor.put_configs]
    assert asked == [1 << 30, 1.5 * (1 << 30), 2.25 * (1 << 30)]
    assert bench.evaluator.stats.executed == 1
    first, second = bench.report.texts("info")
    assert (
        "retryTask (reason: OOM): re-submitting task with 1.5GiB of memory(1/3) due to error: exec: OOM"
        in first
    )
    assert "2.2GiB of memory(2/3)" in second


async def test_memory_grows_up_to_the_machine_and_no_further(bench: Bench) -> None:
    bench.shell.failures["a"] = [failed(Kind.OOM)] * 9
    outcome = await bench.run(
        an_exec("a", mem=1 << 30), resources=Resources(mem=1.2 * (1 << 30), cpu=1.0, disk=1.0)
    )
    assert kind_of(outcome.error) is Kind.OOM
    asked = [config.resources["mem"] for config in bench.scheduler.executor.put_configs]
    assert asked == [1 << 30, 1.2 * (1 << 30) // 1]


@pytest.mark.parametrize(("failures", "runs"), [(1, 2), (3, 4), (4, 4)])
async def test_temporary_failures_are_tried_three_times_more(bench: Bench, failures: int, runs: int) -> None:
    bench.shell.failures["a"] = [failed(Kind.TEMPORARY)] * failures
    outcome = await bench.run(an_exec("a"))
    assert bench.shell.ran == ["a"] * runs
    assert (outcome.error is None) is (failures < 4)


async def test_other_failures_and_trouble_of_the_machinery_are_not_tried_again(bench: Bench) -> None:
    bench.shell.failures["a"] = [failed()]
    bench.shell.trouble["b"] = [ReflowError(Kind.OOM, "machinery")]
    for ident in "ab":
        outcome = await bench.run(an_exec(ident))
        assert outcome.error is not None
        assert bench.shell.ran == [ident]


async def test_small_requests_are_raised_and_slightly_large_ones_cut(bench: Bench) -> None:
    machine = Resources(mem=float(2 << 30), cpu=2.0, disk=1e12)
    await bench.run(Merge([an_exec("small"), an_exec("large", mem=2.05 * (1 << 30))]), resources=machine)
    asked = {config.ident: config.resources for config in bench.scheduler.executor.put_configs}
    assert (asked["small"]["mem"], asked["small"]["cpu"]) == (500 << 20, 1)
    assert asked["large"]["mem"] == 2 << 30
    assert any("capping resources from" in text for text in bench.report.texts("info"))


async def test_an_exec_too_large_for_the_machine_is_refused_by_name(bench: Bench) -> None:
    small = MemoryExecutor(bench.shell, Resources(mem=float(4 << 30), cpu=2.0, disk=1e12))
    outcome = await bench.run(an_exec("main.big", mem=900 << 30), scheduler=LocalScheduler(small))
    assert kind_of(outcome.error) is Kind.RESOURCES_EXHAUSTED
    text = str(outcome.error)
    assert "required resource {mem:900.0GiB cpu:1 disk:0B} greater than available {mem:4.0GiB cpu:2" in text
    assert "main.big" in text
    assert "mem := 4*GiB" in text
    assert bench.report.events[-1] == ("finished", "main.big", "ResourcesExhausted")
