"""What the alloc scheduler is told, and what it wants done.

Tasks are named by the ids they were submitted with, attempts by their number, allocs by numbers that the
machine gives out. ``now`` is in seconds of any steady clock and never goes back.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.core.resources import Requirements, Resources


class Request(NamedTuple):
    """A task that is submitted: what it wants, and how urgent it is (lower goes first)."""

    task: Digest
    resources: Resources
    priority: int = 0


class Submitted(NamedTuple):
    """Tasks are to be run."""

    requests: Sequence[Request]
    now: float


class Cancelled(NamedTuple):
    """A task is wanted no longer."""

    task: Digest
    now: float


class AllocReady(NamedTuple):
    """An alloc that was asked for is there."""

    alloc: int
    resources: Resources
    now: float


class AllocFailed(NamedTuple):
    """An alloc that was asked for cannot be had now; or, if ``is_final``, at all."""

    alloc: int
    error: ReflowError
    is_final: bool
    now: float


class AllocLost(NamedTuple):
    """An alloc can be used no longer. Its attempts have to end before their tasks run again."""

    alloc: int
    error: ReflowError
    now: float


class Staged(NamedTuple):
    """An attempt's inputs are on its alloc, and its exec runs."""

    task: Digest
    attempt: int
    now: float


class Ending(enum.Enum):
    """How an attempt ended."""

    DONE = "done"
    """The task is done, whatever came of it."""

    LOST = "lost"
    """The machinery failed it: it has to run again."""


class Exited(NamedTuple):
    """An attempt has ended; nothing of it runs, unless the alloc is unusable.

    ``is_alloc_usable`` is false when the alloc did not answer or something may have been left running there.
    """

    task: Digest
    attempt: int
    ending: Ending
    error: ReflowError | None
    is_alloc_usable: bool
    now: float


class Tick(NamedTuple):
    """Time has passed; see `Machine.next_wake`."""

    now: float


class Closed(NamedTuple):
    """The scheduler is to end."""

    now: float


Event = Submitted | Cancelled | AllocReady | AllocFailed | AllocLost | Staged | Exited | Tick | Closed


class Allocate(NamedTuple):
    """Ask the cluster for an alloc; answered by AllocReady or AllocFailed."""

    alloc: int
    requirements: Requirements


class Start(NamedTuple):
    """Stage a task's inputs on an alloc and run it there; answered by Staged and Exited."""

    task: Digest
    attempt: int
    alloc: int


class Cancel(NamedTuple):
    """End an attempt; answered by Exited."""

    task: Digest
    attempt: int


class Release(NamedTuple):
    """Free an alloc, or give up the request for it. It is not heard of again."""

    alloc: int


class Report(NamedTuple):
    """A task is done: with what its last attempt gave, or with an error of the scheduler."""

    task: Digest
    error: ReflowError | None


Command = Allocate | Start | Cancel | Release | Report
