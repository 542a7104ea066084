"""Looking up what depends on a failure: how the cache is repaired where some of it was collected."""

from __future__ import annotations

from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import Fileset
from reflow.eval.cell import Cell, When
from reflow.eval.worklist import WorkList
from reflow.flow.node import Flow
from tests.fakes import an_exec, output

ERROR = ReflowError(Kind.NOT_EXIST, cause="not cached")
VALUE = Fileset(members=[Fileset()])


def work_list(*, rescues: bool) -> WorkList:
    work = WorkList(When.BOTTOM_UP, lambda node: True, lambda level, text: None)
    work.rescues = rescues
    return work


def step(work: WorkList) -> list[Flow]:
    """Go on until something is to be looked up or run; what is to be looked up."""
    while work.ready:
        work.step(1000)
    return [cell.node for cell, _ in work.to_look_up]


def miss(work: WorkList) -> list[Cell]:
    """The cache has none of what is looked up; what is to be run."""
    cells, work.to_look_up = work.to_look_up, []
    for cell, _ in cells:
        work.missed(cell)
    step(work)
    taken, work.to_run = work.to_run, []
    return taken


def test_what_depends_on_a_failure_may_be_cached_all_the_same() -> None:
    first = an_exec("first")
    second = an_exec("second", output(first))
    work = work_list(rescues=True)
    work.demand(second)
    assert step(work) == [first]
    (cell,) = miss(work)
    work.fail(cell, ERROR)
    assert step(work) == [second]
    assert not work.to_look_up[0][1]
    work.finish(work.to_look_up[0][0], VALUE)
    outcome = work.outcome(second)
    assert outcome is not None
    assert outcome.value is VALUE


def test_what_is_not_cached_either_has_failed() -> None:
    first, other = an_exec("first"), an_exec("other")
    second = an_exec("second", output(first), output(other))
    work = work_list(rescues=True)
    work.demand(second)
    assert set(step(work)) == {first, other}
    one, two = miss(work)
    work.fail(one, ERROR)
    assert step(work) == [second]
    assert miss(work) == []
    outcome = work.outcome(second)
    assert outcome is not None
    assert outcome.error is ERROR
    work.fail(two, ERROR)
    assert step(work) == []


def test_otherwise_it_has_failed_at_once() -> None:
    first = an_exec("first")
    second = an_exec("second", output(first))
    work = work_list(rescues=False)
    work.demand(second)
    step(work)
    (cell,) = miss(work)
    work.fail(cell, ERROR)
    assert step(work) == []
    outcome = work.outcome(second)
    assert outcome is not None
    assert outcome.error is ERROR
