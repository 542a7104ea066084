"""Why a node of a recorded run was executed: which part of its key is not as it was, and where that is from.

A node that was recorded before, with the very same key, is compared with the last run that had it; any
other with the nearest earlier node: the one of its name of which the fewest parts differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import NamedTuple

from reflow.core.digest import Digest
from reflow.eval.keyparts import Change, compare, distance
from reflow.runtime.explain import FAILED, UNFINISHED
from reflow.runtime.explainread import Entry, NodeRow, Origins, Reader, RecordedRun

__all__ = ["Earlier", "FileOrigin", "Reason", "Reasons"]

_CLOSEST = 200


class FileOrigin(NamedTuple):
    """Where a file is from, now and then; empty for none. ``cause`` is the exec that wrote the one of now."""

    now: str
    then: str
    cause: Entry | None = None


class Earlier(NamedTuple):
    """The last run before that had the very same node, and what came of it there."""

    run: RecordedRun
    entry: Entry


class Reason(NamedTuple):
    """What was decided of a node, and for one that was executed, what it is compared with.

    ``earlier`` when its key was there before; else ``nearest`` and the ``changes`` from it, if there is one.
    """

    node: NodeRow
    entry: Entry
    earlier: Earlier | None = None
    nearest: NodeRow | None = None
    changes: tuple[Change, ...] = ()

    @property
    def title(self) -> str:
        """Why it was executed, in a few words."""
        if self.changes:
            return f"{' and '.join([change.title for change in self.changes[:3]])} changed"
        if self.earlier is None:
            return "it is new"
        if self.earlier.entry.outcome == FAILED:
            return "it failed before"
        if self.earlier.entry.outcome == UNFINISHED:
            return "it was not finished before"
        return "its key is not new, but nothing is cached under it any more"


class Reasons:
    """Finds reasons for the nodes of one run."""

    def __init__(self, reader: Reader, run: RecordedRun) -> None:
        self.run = run
        self._reader = reader
        self._origins = cache(self._origins_of)

    def _origins_of(self, start_us: int) -> Origins | None:
        run = self.run if start_us == self.run.facts.start_us else self._reader.run_at(start_us)
        return None if run is None else Origins(self._reader, run)

    def reason(self, entry: Entry) -> Reason:
        """The reason for one node."""
        node = self._reader.nodes([entry.number])[entry.number]
        if entry.verdict.is_hit:
            return Reason(node, entry)
        start_us = self.run.facts.start_us
        if node.first_us < start_us:
            before = self._reader.last_with(node.number, start_us)
            earlier = None if before is None else Earlier(before, before.entries[node.number])
            return Reason(node, entry, earlier)
        nearest = self._nearest(node)
        if nearest is None:
            return Reason(node, entry)
        now, then = self._reader.with_command(node), self._reader.with_command(nearest)
        return Reason(node, entry, None, nearest, tuple(compare(now, then, self._reader.listing)))

    def _nearest(self, node: NodeRow) -> NodeRow | None:
        """The earlier node that this one is most likely to have been.

        The fewest parts differ; then one that this run has no more; then the nearest command; then one whose
        inputs came from the same files.
        """
        close = self._reader.candidates(node, self.run.facts.start_us)
        if not close:
            return None
        close = _least(close, lambda each: distance(node.parts, each.parts)[0])
        close = _least(close, lambda each: each.number in self._numbers)[:_CLOSEST]
        if any(each.parts.command != node.parts.command for each in close):
            now = self._reader.with_command(node)
            close = _least(close, lambda each: distance(now, self._reader.with_command(each))[1])
        if len(close) > 1:
            paths = self._paths(node, self.run.facts.start_us)
            close = _least(close, lambda each: -len(paths & self._paths(each, each.first_us)))
        return close[0]

    @cached_property
    def _numbers(self) -> frozenset[int]:
        return frozenset(self.run.numbers)

    def _paths(self, node: NodeRow, start_us: int) -> set[str]:
        """The local files that a node reads, by their paths in the run that began then."""
        origins = self._origins(start_us)
        if origins is None:
            return set()
        rows = [row for name in node.parts.inputs for row in self._reader.listing(name) or ()]
        return {path for row in rows if (path := origins.local_path(row)) is not None}

    def origin(self, reason: Reason, change: Change, index: int) -> FileOrigin:
        """Where the files of a change are from; ``index`` is the number of the file."""
        file = change.files[index]
        now = then = ""
        cause = None
        if file.now is not None:
            origins = self._origins(self.run.facts.start_us)
            assert origins is not None, "a run knows itself"
            now, node = origins.of_file(file.now, _input(reason.node, change), reason.node.number)
            cause = None if node is None else self.run.entries.get(node.number)
        if file.then is not None and reason.nearest is not None:
            origins = self._origins(reason.nearest.first_us)
            if origins is not None:
                before = reason.nearest
                then, _ = origins.of_file(file.then, _input(before, change), before.number)
        return FileOrigin(now, then, cause)


def _least(nodes: Sequence[NodeRow], key: Callable[[NodeRow], int]) -> list[NodeRow]:
    """Those for which ``key`` is least, in order."""
    keys = [key(node) for node in nodes]
    least = min(keys)
    return [node for node, each in zip(nodes, keys, strict=True) if each == least]


def _input(node: NodeRow, change: Change) -> Digest | None:
    """The name of the input that a change is about."""
    for index, name in enumerate(node.parts.inputs):
        if node.parts.input_name(index) == change.name:
            return name
    return None
