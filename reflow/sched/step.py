"""The steps of one attempt at a task on an alloc, and what follows when one of them fails.

Source: sched/internal/execstate.go, ExecState.Next; sched/scheduler.go, (*Scheduler).run.
"""

from __future__ import annotations

import enum
import itertools
from typing import NamedTuple

from reflow.core.errors import Kind, ReflowError, is_non_retryable, kind_of

MAX_TRIES = 5
"""Failures of all steps of an attempt together that end it."""


class Step(enum.Enum):
    """Steps in their order; the value is how messages call them."""

    LOAD = "loading"
    PUT = "submitting"
    WAIT = "waiting for completion"
    VERIFY = "verifying integrity"
    PROMOTE = "promoting objects"
    INSPECT = "retrieving diagnostic output"
    RESULT = "retrieving result"
    TRANSFER_OUT = "transferring output"
    UNLOAD = "unloading"
    DONE = "complete"


_ORDER = tuple(Step)
_FOLLOWER = dict(itertools.pairwise(_ORDER))


class Next(NamedTuple):
    """The step that follows, and whether it is a further try."""

    step: Step
    is_retry: bool


def next_step(step: Step, error: ReflowError | None, *, is_over: bool, verifies: bool) -> Next:
    """Say what follows a step. ``is_over``: the alloc is lost, or nobody wants the task any more."""
    if is_over or (error is not None and is_non_retryable(error)):
        following, is_retry = Step.DONE, False
    elif error is None:
        following, is_retry = _FOLLOWER[step], False
    else:
        # What failed while it was waited for has to be put again.
        following, is_retry = Step.PUT if step is Step.WAIT else step, True
    if following is Step.VERIFY and not verifies:
        following = _FOLLOWER[following]
    return Next(following, is_retry)


class Verdict(NamedTuple):
    """What an attempt that ended means: whether its task is done, and whether its alloc is any good."""

    is_done: bool
    is_alloc_usable: bool


_ALLOC_GONE = frozenset({Kind.CANCELED, Kind.NET})
_LOST = _ALLOC_GONE | {Kind.TIMEOUT, Kind.UNAVAILABLE}


def judge(error: ReflowError | None, *, is_alloc_lost: bool) -> Verdict:
    """Say what an attempt's last error means; an error of the program is none.

    A task is lost when its alloc was, or when the machinery did not answer; any other error is its own.
    """
    kind = kind_of(error)
    is_usable = not is_alloc_lost and (error is None or kind not in _ALLOC_GONE)
    is_done = error is None or not (is_alloc_lost or kind in _LOST)
    return Verdict(is_done, is_usable)
