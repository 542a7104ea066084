"""Why each external node came from the cache or was executed: what the evaluator notes as it decides.

Noting costs a fraction of a microsecond for a hit, so that it is always done; `reflow.eval.keyparts` has
what keys are made of, and what changed between two of them. Whoever wants to keep it reads `Decisions`
when the evaluation has ended.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.core.fileset import Fileset
from reflow.eval import EvalStats
from reflow.flow.digest import digest
from reflow.flow.node import Exec, External, Flow

__all__ = ["Decisions", "Execution", "Found", "Miss", "Verdict", "WouldRunError", "total_stats"]


class Verdict(enum.IntEnum):
    """What was decided of a node. The numbers are stored: they never change their meaning."""

    HIT_EXACT = 0
    HIT_LOGICAL = 1
    NOT_FOUND = 2
    CACHE_OFF = 3
    INVALIDATED = 4
    BELOW_EXTERN = 5
    NEVER_CACHED = 6
    OBJECTS_MISSING = 7
    CONTRADICTED = 8
    EMPTY = 9
    TROUBLE = 10
    REFERENCE = 11
    NOT_TRIED = 12
    NOTED = 13

    @property
    def is_hit(self) -> bool:
        """Whether the value came from the cache."""
        return self <= Verdict.HIT_LOGICAL

    @property
    def is_executed(self) -> bool:
        """Whether it was executed, or was to be."""
        return not self.is_hit and self not in (Verdict.REFERENCE, Verdict.NOTED)


VERDICT_TEXTS = {
    Verdict.HIT_EXACT: "found under its command and the contents of its inputs",
    Verdict.HIT_LOGICAL: "found under its logical digest",
    Verdict.NOT_FOUND: "nothing is cached under its keys",
    Verdict.CACHE_OFF: "cached results are not looked up (-cache)",
    Verdict.INVALIDATED: "its identifier matches -invalidate",
    Verdict.BELOW_EXTERN: "something is copied elsewhere before it, which is always done again",
    Verdict.NEVER_CACHED: "copying elsewhere is always done again",
    Verdict.OBJECTS_MISSING: "its cached result lacks files that are no longer in the repository",
    Verdict.CONTRADICTED: "what its cached result says of its sources is not so any more",
    Verdict.EMPTY: "its cached result has an empty output, and -recomputeempty was given",
    Verdict.TROUBLE: "the cache could not be read",
    Verdict.REFERENCE: "only looked at: nothing was copied",
    Verdict.NOT_TRIED: "the run ended before its turn",
    Verdict.NOTED: "another run had done it, and its result was taken before it was in the cache",
}
"""What people are told of each verdict; completes "it was executed: …" or "it came from the cache: …"."""


class WouldRunError(ReflowError):
    """In a dry run: the error of a node that would have to be executed, and of all that need its value."""


class Miss(NamedTuple):
    """A look-up that gave nothing: why, and what there is to say beyond that."""

    verdict: Verdict = Verdict.NOT_FOUND
    detail: str = ""


NOT_FOUND = Miss()


class Found(NamedTuple):
    """A node whose value came from the cache, under ``key``; ``values`` of its dependencies, if known."""

    node: External
    values: Sequence[Any] | None
    value: Fileset
    key: Digest

    @property
    def verdict(self) -> Verdict:
        """Which of its keys it was found under."""
        return Verdict.HIT_LOGICAL if self.key == digest(self.node) else Verdict.HIT_EXACT


class Execution(NamedTuple):
    """A node that was executed (or would have been), why, and what came of it.

    ``image`` is the one with its digest, if that is known. ``has_run``: its command was started. Without
    value and error it did not come to its turn or its end.
    """

    node: External
    values: Sequence[Any]
    miss: Miss
    image: str | None = None
    task: Digest | None = None
    value: Fileset | None = None
    error: ReflowError | None = None
    has_run: bool = False


class Decisions:
    """What was decided in one evaluation, in order. ``found``: hits; ``executed``: what was begun."""

    def __init__(self) -> None:
        self.found: list[Found] = []
        self.executed: list[Execution] = []
        self._misses: dict[Flow, Miss] = {}

    def hit(self, node: External, values: Sequence[Any] | None, value: Fileset, key: Digest) -> None:
        """The value came from the cache."""
        self.found.append(Found(node, values, value, key))

    def missed(self, node: Flow, miss: Miss) -> None:
        """A look-up gave nothing. Of several, the first that says more than that counts."""
        if self._misses.get(node, NOT_FOUND).verdict is Verdict.NOT_FOUND:
            self._misses[node] = miss

    def miss_of(self, node: Flow) -> Miss | None:
        """Why there was no hit, or None when nobody looked."""
        return self._misses.get(node)

    def ran(self, execution: Execution) -> None:
        """A node was executed, or would have been."""
        self.executed.append(execution)


def total_stats(last: EvalStats, decisions: Sequence[Decisions]) -> EvalStats:
    """The counts of a run that was evaluated several times: each exec once, ``failed`` of the last time."""
    if len(decisions) == 1:
        return last
    executed = {
        digest(each.node)
        for one in decisions
        for each in one.executed
        if each.has_run and isinstance(each.node, Exec)
    }
    found = {digest(each.node) for one in decisions for each in one.found if isinstance(each.node, Exec)}
    return replace(last, executed=len(executed), cached=len(found - executed))
