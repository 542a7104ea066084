"""The work-list alone: no event loop, no cache, no execs."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ProgramError, ReflowError
from reflow.core.fileset import File, Fileset
from reflow.core.resources import Resources
from reflow.eval import Outcome
from reflow.eval.cell import When
from reflow.eval.operation import NODES, VALUES
from reflow.eval.worklist import WorkList
from reflow.flow import node as nodes
from reflow.flow.node import (
    EXTERNAL,
    Coerce,
    Collect,
    Data,
    Exec,
    Extern,
    Flow,
    Groupby,
    Intern,
    K,
    Map,
    Merge,
    Pullup,
    Requires,
    Val,
)
from tests.fakes import a_value, an_exec, output, then


def work_list(when: When = When.NEVER, log: list[tuple[str, str]] | None = None) -> WorkList:
    def note(level: str, text: str) -> None:
        if log is not None:
            log.append((level, text))

    return WorkList(when, lambda node: True, note)


def settle(work: WorkList, root: Flow) -> Outcome | None:
    work.demand(root)
    while work.ready:
        work.step(1000)
    return work.outcome(root)


def value_of(root: Flow) -> Any:
    outcome = settle(work_list(), root)
    assert outcome is not None
    assert outcome.error is None
    return outcome.value


def add(left: Flow, right: Flow) -> Flow:
    return then(left, right, fn=lambda values: a_value(values[0] + values[1]))  # type: ignore[operator]


def test_every_operation_has_a_way_to_be_computed() -> None:
    operations = {
        each
        for each in vars(nodes).values()
        if isinstance(each, type) and issubclass(each, Flow) and each not in (Flow, nodes.Tagged)
    }
    assert operations == {*VALUES, *NODES, Val, Data, *EXTERNAL}


def test_a_value_is_its_own_outcome() -> None:
    assert value_of(a_value(7)) == 7


def test_a_continuation_goes_on_with_what_it_returns() -> None:
    assert value_of(add(add(a_value(1), a_value(2)), a_value(3))) == 6


def test_a_chain_of_continuations_is_linear_and_does_not_recurse() -> None:
    tag = Digest.of(b"countdown")

    def countdown(left: int) -> Flow:
        return K(lambda values: countdown(left - 1) if left else a_value("done"), [Val(left, tag)], tag)

    began = time.process_time()
    assert value_of(countdown(100_000)) == "done"
    assert time.process_time() - began < 10


def test_a_deep_chain_of_dependencies_does_not_recurse() -> None:
    node: Flow = a_value(0)
    for _ in range(50_000):
        node = Coerce(lambda value: value + 1, node, Digest.of(b"+1"))
    assert value_of(node) == 50_000


def test_a_lattice_takes_time_linear_in_its_nodes() -> None:
    calls = 0

    def both(values: list[Any]) -> Flow:
        nonlocal calls
        calls += 1
        return a_value((values[0] + values[1]) % 1000)

    left: Flow = a_value(1)
    right: Flow = a_value(2)
    for _ in range(1000):
        left, right = then(left, right, fn=both), then(left, right, fn=both)
    value_of(add(left, right))
    assert calls == 2000


def test_dirtiness_of_a_lattice_is_linear() -> None:
    low: Flow = output(an_exec("low"))
    left: Flow = low
    right: Flow = low
    for _ in range(1000):
        left, right = Merge([left, right]), Merge([left, right])
    assert not work_list().is_dirty(Merge([left, right]))
    assert work_list().is_dirty(Merge([left, Extern("s3://b/k", low)]))


def test_a_node_is_computed_once_however_often_it_is_wanted() -> None:
    calls = []
    shared = Coerce(lambda value: calls.append(value) or 5, a_value(1), Digest.of(b"c"))
    assert value_of(add(add(shared, shared), shared)) == 15
    assert calls == [1]


def test_continuations_of_equal_digest_are_not_one() -> None:
    one = then(a_value("d"), fn=lambda values: a_value(1), tag="same")
    two = then(a_value("d"), fn=lambda values: a_value(2), tag="same")
    assert value_of(then(one, two, fn=lambda values: a_value(tuple(values)))) == (1, 2)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (Requires(a_value(3), Resources(mem=1.0)), 3),
        (Coerce(lambda value: value * 2, a_value(4), Digest.of(b"x")), 8),
        (K(lambda values: Val(error=ReflowError(Kind.INVALID, "no")), [], Digest.of(b"k")), Kind.INVALID),
        (Val(error=ReflowError(Kind.NET, "down")), Kind.NET),
    ],
)
def test_small_operations(node: Flow, expected: object) -> None:
    outcome = settle(work_list(), node)
    assert outcome is not None
    got = outcome.error.kind if isinstance(outcome.error, ReflowError) else outcome.value
    assert got == expected


def files(*paths: str) -> Fileset:
    return Fileset({path: File(Digest.of_text(path), len(path)) for path in paths})


def test_legacy_operations_work_on_filesets() -> None:
    tree = Val(files("a/1", "a/2", "b/3", "x"))
    grouped = Groupby("^(.)/", tree)
    assert value_of(grouped) == Fileset(members=[files("a/1", "a/2"), files("b/3")])
    assert value_of(Collect("^(.)/", "$1-", tree)).sorted_paths() == ["a-1", "a-2", "b-3"]
    assert value_of(Merge([Val(files("p")), Val(files("q"))])) == Fileset(members=[files("p"), files("q")])
    assert value_of(Pullup([Val(files("p")), Val(files("q"))])) == files("p", "q")
    mapped = Map(lambda member: Collect("(.*)", "new-$1", member), grouped)
    assert [each.sorted_paths() for each in value_of(mapped).members] == [["new-a/1", "new-a/2"], ["new-b/3"]]


def test_the_first_failing_dependency_in_order_decides() -> None:
    first, second = ReflowError(Kind.OTHER, "first"), ReflowError(Kind.OTHER, "second")
    root = add(Merge([Val(error=first)]), Val(error=second))
    outcome = settle(work_list(), add(a_value(1), root))
    assert outcome is not None
    assert outcome.error is second  # known at once; the other is found later
    outcome = settle(work_list(), add(Val(error=first), Val(error=second)))
    assert outcome is not None
    assert outcome.error is first


@pytest.mark.parametrize("error", [ProgramError("bad"), ReflowError(Kind.MODULE, "panic")])
def test_errors_of_a_function_are_kept_as_they_are(error: Exception) -> None:
    def fail(value: object) -> object:
        raise error

    outcome = settle(work_list(), add(Coerce(fail, a_value(1), Digest.of(b"f")), a_value(2)))
    assert outcome is not None
    assert outcome.error is error


def test_any_other_exception_is_an_internal_error_with_a_traceback_in_the_log() -> None:
    log: list[tuple[str, str]] = []

    def fail(values: list[object]) -> Flow:
        raise KeyError("oops")

    outcome = settle(work_list(log=log), then(fn=fail, ident="main.x"))
    assert outcome is not None
    assert str(outcome.error).startswith("internal error main.x: fatal: KeyError: 'oops'")
    assert log[0][0] == "error"
    assert "Traceback" in log[0][1]
    assert "in fail" in log[0][1]


def test_a_continuation_that_returns_no_node_is_an_internal_error() -> None:
    outcome = settle(work_list(log=[]), K(lambda values: 3, [], Digest.of(b"k")))  # type: ignore[arg-type,return-value]
    assert outcome is not None
    assert "returned int, want a node" in str(outcome.error)


def test_a_digest_that_cannot_be_computed_fails_the_node() -> None:
    error = ReflowError(Kind.NOT_EXIST, "file", "gone")

    def tag() -> Digest:
        raise error

    node = an_exec("a", Coerce(lambda value: value, a_value(1), tag))
    outcome = settle(work_list(), Merge([node]))
    assert outcome is not None
    assert outcome.error is error


def test_equal_execs_interns_and_data_are_one() -> None:
    work = work_list()
    root = Merge(
        [
            output(an_exec("a", cmd="same")),
            output(an_exec("b", cmd="same")),
            Intern("s3://b/k"),
            Intern("s3://b/k"),
            Intern("s3://b/k", must_intern=True),
            Data(b"x"),
            Data(b"x"),
        ]
    )
    assert settle(work, root) is None
    assert len(work.to_run) == 3
    assert len(work.to_store) == 1
    assert work.external_count == 3


def test_look_ups_come_before_dependencies_from_the_top_and_after_them_from_below() -> None:
    top = an_exec("top", output(an_exec("low")))
    work = work_list(When.TOP_DOWN)
    settle(work, top)
    assert [cell.node for cell, _ in work.to_look_up] == [top]
    work = work_list(When.BOTTOM_UP)
    settle(work, top)
    assert [cell.node.ident for cell, _ in work.to_look_up] == ["low"]


def test_a_miss_from_the_top_is_looked_up_again_when_its_inputs_are_known() -> None:
    top = an_exec("top", output(an_exec("low")))
    work = work_list(When.TOP_DOWN)
    settle(work, top)
    ((cell, missed_name),) = work.to_look_up
    assert not missed_name
    work.to_look_up = []
    work.missed(cell)
    settle(work, top)
    ((low, _),) = work.to_look_up
    assert low.node.ident == "low"
    work.to_look_up = []
    work.finish(low, Fileset(members=[files("x")]))
    settle(work, top)
    assert work.to_look_up == [(cell, True)]
    work.to_look_up = []
    work.missed(cell)
    settle(work, top)
    assert work.to_run == [cell]


def test_what_depends_on_an_extern_is_not_looked_up_from_the_top() -> None:
    extern = Extern("s3://b/k", Val(files("x")))
    top = an_exec("top", Merge([extern]))
    work = work_list(When.TOP_DOWN)
    settle(work, top)
    assert not work.to_look_up
    assert [cell.node for cell in work.to_run] == [extern]
    work.finish(work.to_run.pop(), files("x"))
    settle(work, top)
    assert not work.to_look_up
    assert [cell.node for cell in work.to_run] == [top]


def test_an_extern_that_a_continuation_returned_has_its_digest() -> None:
    from reflow.flow.digest import digest

    inner = then(fn=lambda values: Extern("s3://b/k", Val(files("x")), ident="copy"), tag="inner")
    outer = then(fn=lambda values: inner, tag="outer")
    work = work_list()
    settle(work, outer)
    (cell,) = work.to_run
    assert digest(cell.node) == digest(outer)
    assert cell.node.ident == "copy"
    work.finish(cell, files("x"))
    outcome = settle(work, outer)
    assert outcome is not None
    assert outcome.value == files("x")


def test_once_stopping_only_failures_travel() -> None:
    calls = []
    slow, failing = an_exec("slow"), an_exec("failing")
    late = Coerce(lambda value: calls.append(value), output(slow), Digest.of(b"late"))
    root = Merge([late, output(failing)])
    work = work_list()
    settle(work, root)
    by_ident = {cell.node.ident: cell for cell in work.to_run}
    work.fail(by_ident["failing"], ReflowError(Kind.DOCKER_EXEC, "exec"))
    work.is_stopping = True
    work.finish(by_ident["slow"], Fileset(members=[files("x")]))
    outcome = settle(work, root)
    assert outcome is not None
    assert isinstance(outcome.error, ReflowError)
    assert calls == []


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Flow, int, int]:
    """A random graph of sums: its root, its value, and how many nodes there are."""
    made: list[tuple[Flow, int]] = [(a_value(1), 1)]
    for number in range(draw(st.integers(1, 30))):
        picks = draw(st.lists(st.integers(0, len(made) - 1), min_size=1, max_size=4))
        chosen = [made[pick] for pick in picks]
        total = sum(value for _, value in chosen) + number
        deps = [node for node, _ in chosen]
        shape = draw(st.sampled_from(["direct", "continued", "twice"]))
        made.append((_sum(deps, number, shape), total))
    root, value = made[-1]
    return root, value, len(made)


def _sum(deps: list[Flow], extra: int, shape: str) -> Flow:
    def finish(values: list[Any]) -> Flow:
        return a_value(sum(values) + extra)

    if shape == "direct":
        return then(*deps, fn=finish)
    if shape == "continued":
        return then(fn=lambda values: then(*deps, fn=finish))
    return then(fn=lambda values: then(fn=lambda values: then(*deps, fn=finish)))


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(1, 7))
def test_random_graphs_of_continuations_have_their_value(graph: tuple[Flow, int, int], step: int) -> None:
    root, value, _ = graph
    work = work_list()
    work.demand(root)
    while work.ready:
        work.step(step)
    assert work.outcome(root) == Outcome(value)


def test_the_graph_of_continuations_can_be_asked_for() -> None:
    inner = a_value(1)
    outer = then(fn=lambda values: inner)
    work = work_list()
    settle(work, outer)
    assert work.continued() == {outer: inner}
    assert isinstance(an_exec("x"), Exec)
