"""From a flow graph to its value.

`reflow.eval.evaluator` drives an evaluation; look-ups, transfers and execs are its only tasks. What is
next is decided by `worklist` (pure: no loop, no I/O) with `operation` and `filesetop`; `cache` looks up and
writes in batches, `noderun` runs one node with the retries that `attempt` plans, `assertions` and
`imagename` keep what was learnt of the world. `explain` notes what was decided of each node and why, with
`keyparts`. `summary`, `tasklines` and `dot` are the texts that tell people of it. This module has what an
evaluation is told (`EvalConfig`) and what it tells (`Report`).
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from reflow.core.assertion import AssertionKey, Assertions
from reflow.core.digest import Digest
from reflow.core.execconfig import ExecConfig, ExecInspect
from reflow.core.fileset import Fileset

if TYPE_CHECKING:
    from reflow.assoc import Assoc
    from reflow.core.errors import ReflowError
    from reflow.eval.predict import Prediction
    from reflow.flow.data import LocalFile
    from reflow.flow.node import External, Flow
    from reflow.pool import Exec as RunningExec
    from reflow.repository import Repository
    from reflow.sched import Scheduler

__all__ = [
    "AssertionSource",
    "CacheMode",
    "EvalConfig",
    "EvalStats",
    "Foresight",
    "ImageResolver",
    "KeyNamespace",
    "Outcome",
    "Report",
    "SpanTaker",
]


class CacheMode(enum.Flag):
    """Whether results are looked up, written, or both."""

    OFF = 0
    READ = enum.auto()
    WRITE = enum.auto()
    READWRITE = READ | WRITE


AssertionSource = Callable[[AssertionKey], Awaitable[Assertions]]
"""What is true now of a subject; raises ReflowError when nobody can tell."""

ImageResolver = Callable[[str], Awaitable[str | None]]
"""Image as written, without qualifiers -> the name with its digest that enters keys, or None."""

KeyNamespace = Callable[[Digest], Digest]
"""Cache key -> the key under which it is stored; the identity for docker and sandbox."""


Foresight = Callable[[ExecConfig], Awaitable["Prediction | None"]]
"""What an exec is going to use, as far as anybody can tell."""

SpanTaker = Callable[[str, str, Digest, float, Mapping[str, str]], None]
"""Told of a piece of work that ends now: category, name, what it belongs to, when it began (seconds since
1970), and notes."""


class Report(Protocol):
    """Told what happens to external nodes, always on the event loop's thread. Must not block."""

    def queued(self, flow: External, config: ExecConfig, attempt: int) -> None:
        """It is to be run and waits for its turn."""
        ...

    def progress(self, flow: External, what: str, done_bytes: int, total_bytes: int) -> None:
        """Something is pulled or copied for it."""
        ...

    def started(
        self,
        flow: External,
        config: ExecConfig,
        attempt: int,
        task_id: Digest,
        running: RunningExec,
    ) -> None:
        """It runs now."""
        ...

    def finished(
        self,
        flow: External,
        config: ExecConfig,
        task_id: Digest,
        value: Fileset | None,
        inspect: ExecInspect | None,
        error: ReflowError | None,
        keys: Sequence[Digest],
    ) -> None:
        """An attempt ended."""
        ...

    def cached(self, flow: External, value: Fileset, key: Digest) -> None:
        """Its value came from the cache."""
        ...

    def message(self, level: str, text: str) -> None:
        """A line for the log; level is error, info or debug."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a node came to: its value, or why there is none."""

    value: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class EvalStats:
    """Counts of one evaluation.

    ``executed``, ``cached``, ``failed``: distinct execs that ran (whatever came of it), whose value came from
    the cache, and that failed. The others count external nodes: those that wait for their turn, that run,
    that are done, and all that were met so far.
    """

    executed: int = 0
    cached: int = 0
    failed: int = 0
    waiting: int = 0
    running: int = 0
    completed: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalConfig:
    """All that an evaluation needs from outside.

    ``current_assertions`` is given for the policy *exact*: a cached value counts only if what it asserts of
    the world is still so. None is the policy *never*. ``hash_files`` hashes local files that a
    continuation brought up (and makes them known to whoever looks for inputs); None hashes in a thread.
    ``keep_files`` puts hashed local files where others find them; None: nobody needs that.
    With ``is_dry`` nothing is executed and nothing is written: what would be fails with WouldRunError.
    ``predict`` tells how much memory execs get; None: what their programs say. ``images`` are those that
    ``resolve_image`` is asked for, as written; the others are used as written. None: it is asked for all.
    ``span`` is told of look-ups and writes of the cache. ``is_repair``: every node that can be seen is looked
    up, after its dependencies (but whether they have values or not), and gets the keys that it lacks.
    """

    scheduler: Scheduler
    repository: Repository
    assoc: Assoc | None
    report: Report
    cache: CacheMode = CacheMode.READWRITE
    bottom_up: bool = False
    keep_going: bool = False
    recompute_empty: bool = False
    invalidate: Callable[[Flow], bool] | None = None
    resolve_image: ImageResolver | None = None
    images: Collection[str] | None = None
    key_namespace: KeyNamespace | None = None
    snapshot: Callable[[str], Awaitable[Fileset]] | None = None
    current_assertions: AssertionSource | None = None
    hash_files: Callable[[Sequence[LocalFile]], Awaitable[None]] | None = None
    keep_files: Callable[[Sequence[LocalFile]], Awaitable[None]] | None = None
    is_dry: bool = False
    is_repair: bool = False
    span: SpanTaker | None = None
    predict: Foresight | None = None
