"""Steps of an attempt, and what its end means."""

from __future__ import annotations

import pytest

from reflow.core.errors import Kind, ReflowError
from reflow.sched.step import Next, Step, judge, next_step


def test_steps_follow_each_other() -> None:
    steps, step = [], Step.LOAD
    while step is not Step.DONE:
        steps.append(step)
        step = next_step(step, None, is_over=False, verifies=False).step
    assert steps == [each for each in Step if each not in (Step.VERIFY, Step.DONE)]


def test_inputs_are_verified_after_the_exec() -> None:
    assert next_step(Step.WAIT, None, is_over=False, verifies=True).step is Step.VERIFY


@pytest.mark.parametrize(
    ("step", "kind", "follows"),
    [
        (Step.LOAD, Kind.NET, Next(Step.LOAD, True)),
        (Step.WAIT, Kind.UNAVAILABLE, Next(Step.PUT, True)),
        (Step.RESULT, Kind.NOT_EXIST, Next(Step.DONE, False)),
    ],
)
def test_what_follows_a_failure(step: Step, kind: Kind, follows: Next) -> None:
    assert next_step(step, ReflowError(kind), is_over=False, verifies=False) == follows


def test_nothing_follows_when_the_alloc_is_lost() -> None:
    for error in (None, ReflowError(Kind.NET)):
        assert next_step(Step.WAIT, error, is_over=True, verifies=True) == Next(Step.DONE, False)


@pytest.mark.parametrize(
    ("kind", "is_alloc_lost", "verdict"),
    [
        (None, False, (True, True)),
        (Kind.TIMEOUT, False, (False, True)),
        (Kind.UNAVAILABLE, False, (False, True)),
        (Kind.NET, False, (False, False)),
        (Kind.CANCELED, False, (False, False)),
        (Kind.TEMPORARY, False, (True, True)),
        (Kind.FATAL, False, (True, True)),
        (Kind.FATAL, True, (False, False)),
        (None, True, (True, False)),
    ],
)
def test_the_end_of_an_attempt(kind: Kind | None, is_alloc_lost: bool, verdict: tuple[bool, bool]) -> None:
    error = None if kind is None else ReflowError(kind, "put")
    assert judge(error, is_alloc_lost=is_alloc_lost) == verdict


def test_the_kind_of_a_cause_counts() -> None:
    assert not judge(ReflowError(Kind.OTHER, "put", cause=ReflowError(Kind.NET)), is_alloc_lost=False).is_done
