"""What the evaluator runs, in which order, and how often; over in-memory storage and execs."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflow.core.errors import Kind, kind_of
from reflow.core.fileset import File, Fileset
from reflow.core.resources import Resources
from reflow.eval import Outcome
from reflow.flow.node import Flow, Intern, Merge, Val
from reflow.sched.local import LocalScheduler
from tests.evalbench import Bench, failed, pipeline
from tests.fakes import (
    MemoryExecutor,
    a_value,
    an_exec,
    output,
    then,
)
from tests.waiting import until


async def test_everything_runs_once_and_in_order(bench: Bench) -> None:
    outcome = await bench.run(pipeline())
    assert isinstance(outcome.value, Fileset)
    assert bench.shell.ran[0] == "a"
    assert sorted(bench.shell.ran[1:3]) == ["b", "c"]
    assert bench.shell.ran[3:] == ["d"]
    assert (bench.evaluator.stats.executed, bench.evaluator.stats.cached) == (4, 0)
    assert bench.evaluator.stats.total == bench.evaluator.stats.completed == 4


async def test_a_value_needs_nothing(bench: Bench) -> None:
    assert await bench.run(a_value(3)) == Outcome(3)
    assert bench.assoc.calls.total() == 0


async def test_a_second_run_executes_nothing_and_asks_little(bench: Bench) -> None:
    first = await bench.run(pipeline())
    bench.assoc.calls.clear()
    second = await bench.run(pipeline())
    assert second == first
    assert bench.shell.ran == []
    assert (bench.evaluator.stats.executed, bench.evaluator.stats.cached) == (0, 1)
    assert bench.assoc.calls == {"get_many": 1}
    assert bench.report.of("cached") == ["d"]


async def test_the_root_is_looked_up_even_when_it_is_an_exec(bench: Bench) -> None:
    await bench.run(an_exec("root"))
    await bench.run(an_exec("root"))
    assert bench.shell.ran == []


async def test_from_below_everything_is_looked_up(bench: Bench) -> None:
    await bench.run(pipeline())
    await bench.run(pipeline(), bottom_up=True)
    assert bench.shell.ran == []
    assert sorted(map(str, bench.report.of("cached"))) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("bottom_up", [False, True])
async def test_the_two_ways_leave_the_same_cache(bench: Bench, bottom_up: bool) -> None:
    other = Bench()
    await bench.run(pipeline())
    await other.run(pipeline(), bottom_up=True)
    assert bench.assoc.rows == other.assoc.rows


async def test_a_wide_graph_is_looked_up_with_one_request(bench: Bench) -> None:
    root = Merge([output(an_exec(f"e{number}")) for number in range(500)])
    await bench.run(root)
    bench.assoc.calls.clear()
    bench.repository.calls.clear()
    await bench.run(root)
    assert bench.evaluator.stats.cached == 500
    assert bench.assoc.calls == {"get_many": 1}
    assert bench.repository.calls == {"read_many": 1, "missing": 1}


async def test_laziness_a_branch_not_taken_is_not_run(bench: Bench) -> None:
    yes, no = output(an_exec("yes")), output(an_exec("no"))
    test = output(an_exec("test"))
    await bench.run(then(test, fn=lambda values: yes if values else no))
    assert bench.shell.ran == ["test", "yes"]


async def test_dynamic_nodes_are_evaluated_as_they_appear(bench: Bench) -> None:
    def scatter(values: list[Any]) -> Flow:
        parts = [output(an_exec(f"part{number}", Val(values[0]))) for number in range(3)]
        return output(an_exec("gather", Merge(parts)))

    root = then(output(an_exec("split")), fn=scatter)
    await bench.run(root)
    assert bench.shell.ran[0] == "split"
    assert sorted(bench.shell.ran[1:4]) == ["part0", "part1", "part2"]
    assert bench.shell.ran[4] == "gather"
    await bench.run(root)
    assert bench.shell.ran == []


async def test_equal_execs_run_once(bench: Bench) -> None:
    twins = [output(an_exec("one", cmd="twin")), output(an_exec("two", cmd="twin"))]
    await bench.run(then(*twins, fn=lambda values: output(an_exec("three", cmd="twin"))))
    assert bench.shell.ran == ["one"]


async def test_results_reach_whoever_needs_only_their_contents(bench: Bench) -> None:
    # The upstream command is edited but writes the same bytes: what is below is found by its inputs.
    bench.shell.outputs = {"up": b"same", "edited": b"same"}
    await bench.run(output(an_exec("down", output(an_exec("up")), cmd="down")))
    await bench.run(output(an_exec("down", output(an_exec("edited")), cmd="down")))
    assert bench.shell.ran == ["edited"]


async def test_submissions_wait_for_look_ups_but_not_for_ever(bench: Bench) -> None:
    release = asyncio.Event()

    async def snapshot(url: str) -> Fileset:
        await release.wait()
        return Fileset.of_file(File(size=3, source=url, etag='"e"'))

    root = Merge([output(an_exec("a")), Intern("s3://b/k")])
    evaluator = bench.fresh(snapshot=snapshot)
    running = asyncio.ensure_future(evaluator.run(root))
    await asyncio.sleep(0.02)
    assert bench.shell.ran == []
    await until(lambda: bench.shell.ended == ["a"])
    release.set()
    assert (await running).error is None


async def test_many_execs_are_given_to_the_scheduler_in_portions(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reflow.eval.evaluator.MAX_SUBMITTED", 10)
    root = Merge([output(an_exec(f"e{number}")) for number in range(95)])
    machine = MemoryExecutor(bench.shell, Resources(mem=float(4 << 30), cpu=3.0, disk=1e12))
    outcome = await bench.run(root, scheduler=LocalScheduler(machine))
    assert outcome.error is None
    assert bench.evaluator.stats.executed == 95


async def test_what_can_never_fit_is_refused_though_others_are_first_and_those_that_run_finish(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reflow.eval.evaluator.MAX_SUBMITTED", 2)
    machine = MemoryExecutor(bench.shell, Resources(mem=float(4 << 30), cpu=3.0, disk=1e12))
    others = [f"e{number}" for number in range(20)]
    bench.shell.gates = {ident: asyncio.Event() for ident in others}
    first = output(an_exec("first"))
    big = then(first, fn=lambda values: an_exec("big", cpu=4))
    root = Merge([first, *(output(an_exec(ident)) for ident in others), output(big)])
    running = asyncio.ensure_future(bench.run(root, scheduler=LocalScheduler(machine)))
    await until(lambda: bench.shell.ended == ["first"] and bench.evaluator.stats.waiting == 0)
    for gate in bench.shell.gates.values():
        gate.set()
    error = (await running).error
    assert kind_of(error) is Kind.RESOURCES_EXHAUSTED
    assert bench.shell.ended == bench.shell.ran
    assert bench.shell.ran[:2] == ["first", "e0"]


async def test_an_evaluator_counts_for_its_summary(bench: Bench) -> None:
    await bench.run(pipeline())
    await bench.run(pipeline(), invalidate=lambda node: node.ident == "d")
    lines = bench.evaluator.summary.text(61).splitlines()
    assert lines[0] == "total n=3 time=1m1s"
    assert [line.split()[:3] for line in lines[2:]] == [["b", "1", "1"], ["c", "1", "1"], ["d", "1", "0"]]


@st.composite
def exec_graphs(draw: st.DrawFn) -> tuple[Flow, dict[str, set[str]], set[str]]:
    """A random graph of execs: its root, all execs below each (itself included), and some that fail."""
    nodes: list[Flow] = []
    below: dict[str, set[str]] = {}
    for number in range(draw(st.integers(1, 12))):
        ident = f"e{number}"
        picks = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        deps = [output(nodes[pick]) for pick in sorted(picks)]
        if draw(st.booleans()):
            made: Flow = an_exec(ident, *deps)
        else:
            made = then(*deps, fn=partial(_exec_of, ident))
        nodes.append(made)
        below[ident] = {ident}.union(*(below[f"e{pick}"] for pick in picks))
    failing = draw(st.sets(st.sampled_from(sorted(below)), max_size=2))
    return Merge(nodes), below, failing


def _exec_of(ident: str, values: list[Any]) -> Flow:
    return an_exec(ident, *map(Val, values))


@settings(max_examples=40, deadline=None)
@given(exec_graphs(), st.booleans())
def test_random_graphs_run_what_they_must_and_nothing_twice(
    graph: tuple[Flow, dict[str, set[str]], set[str]], bottom_up: bool
) -> None:
    root, below, failing = graph

    async def check() -> None:
        bench = Bench()
        for ident in failing:
            bench.shell.failures[ident] = [failed()]
        outcome = await bench.run(root, keep_going=True, bottom_up=bottom_up)
        reached = {ident for ident, all_below in below.items() if not (all_below - {ident}) & failing}
        assert sorted(bench.shell.ran) == sorted(reached)
        assert (outcome.error is not None) is bool(failing)
        bench.shell.failures.clear()
        outcome = await bench.run(root, bottom_up=bottom_up)
        assert outcome.error is None
        assert sorted(bench.shell.ran) == sorted(set(below) - (reached - failing))
        again = await bench.run(root, bottom_up=not bottom_up)
        assert again == outcome
        assert bench.shell.ran == []

    asyncio.run(check())
