"""What the evaluator does when something fails, or is cancelled."""

from __future__ import annotations

import asyncio

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ProgramError, kind_of
from reflow.core.resources import Resources
from reflow.flow.node import Coerce, Merge
from reflow.sched.local import LocalScheduler
from tests.evalbench import Bench, failed
from tests.fakes import (
    MemoryExecutor,
    an_exec,
    output,
)
from tests.waiting import until


async def test_a_failure_stops_new_work_but_what_runs_is_finished_and_cached(bench: Bench) -> None:
    bench.shell.gates["slow"] = asyncio.Event()
    bench.shell.failures["bad"] = [failed()]
    small = MemoryExecutor(bench.shell, Resources(mem=float(8 << 30), cpu=2.0, disk=1e12))
    later = [output(an_exec(f"later{number}")) for number in range(3)]
    root = Merge([output(an_exec("slow")), output(an_exec("bad")), *later])
    evaluator = bench.fresh(scheduler=LocalScheduler(small))
    running = asyncio.ensure_future(evaluator.run(root))
    await until(lambda: bench.shell.ended == ["bad"])
    await asyncio.sleep(0.005)
    assert not running.done()
    bench.shell.gates["slow"].set()
    outcome = await running
    assert kind_of(outcome.error) is Kind.DOCKER_EXEC
    assert bench.shell.ran == ["slow", "bad"]
    assert (evaluator.stats.executed, evaluator.stats.failed, evaluator.stats.waiting) == (2, 1, 0)
    await evaluator.drain()
    await bench.run(output(an_exec("slow")))
    assert bench.shell.ran == []


async def test_keep_going_runs_all_that_does_not_depend_on_the_failure(bench: Bench) -> None:
    bench.shell.failures["bad"] = [failed()]
    good = output(an_exec("after", output(an_exec("good"))))
    root = Merge([output(an_exec("below", output(an_exec("bad")))), good])
    outcome = await bench.run(root, keep_going=True)
    assert kind_of(outcome.error) is Kind.DOCKER_EXEC
    assert sorted(bench.shell.ran) == ["after", "bad", "good"]
    assert bench.evaluator.stats.failed == 1


async def test_errors_of_the_program_come_out_as_they_are(bench: Bench) -> None:
    error = ProgramError("main.rf:1:1: bad")

    def fail(value: object) -> object:
        raise error

    outcome = await bench.run(Coerce(fail, output(an_exec("a")), Digest.of(b"f")))
    assert outcome.error is error


async def test_a_bug_in_a_job_ends_the_run_with_an_internal_error(bench: Bench) -> None:
    def burst(key: Digest) -> Digest:
        raise ZeroDivisionError("bug")

    evaluator = bench.fresh(key_namespace=burst)
    outcome = await evaluator.run(output(an_exec("a")))
    assert str(outcome.error).startswith("internal error: fatal: ZeroDivisionError: bug")
    assert any("Traceback" in text for text in bench.report.texts("error"))


async def test_cancelling_kills_what_runs_and_keeps_what_was_finished(bench: Bench) -> None:
    bench.shell.gates["slow"] = asyncio.Event()
    root = Merge([output(an_exec("quick")), output(an_exec("slow"))])
    evaluator = bench.fresh()
    running = asyncio.ensure_future(evaluator.run(root))
    await until(lambda: ("finished", "quick", "ok") in bench.report.events)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert bench.scheduler.executor.running == []
    assert ("finished", "slow", "Canceled") in bench.report.events
    assert await evaluator.drain() == []
    await bench.run(output(an_exec("quick")))
    assert bench.shell.ran == []
