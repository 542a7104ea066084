"""Why a node of a recorded run was executed: which part of its key is not as it was, and where that is from.

A node that was recorded before, with the very same key, is compared with the last run that had it; any
other with the nearest earlier node: the one of its name of which the fewest parts differ.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache, cached_property
from typing import NamedTuple

from reflow.core.digest import Digest
from reflow.eval.keyparts import Change, KeyParts, compare, distance
from reflow.runtime.explain import FAILED, UNFINISHED
from reflow.runtime.explainread import Entry, NodeRow, Origins, Reader, RecordedRun

__all__ = ["Earlier", "FileOrigin", "Reason", "Reasons"]

_INDEXED_INPUTS = 16


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
        self._candidates = cache(self._candidates_for)

    def _origins_of(self, start_us: int) -> Origins | None:
        run = self.run if start_us == self.run.facts.start_us else self._reader.run_at(start_us)
        return None if run is None else Origins(self._reader, run)

    def reason(self, entry: Entry, *, is_exact: bool = True) -> Reason:
        """The reason for one node; unless ``is_exact``, compared with any of those that are about as near."""
        node = self._reader.nodes([entry.number])[entry.number]
        if entry.verdict.is_hit:
            return Reason(node, entry)
        start_us = self.run.facts.start_us
        if node.first_us < start_us:
            before = self._reader.last_with(node.number, start_us)
            earlier = None if before is None else Earlier(before, before.entries[node.number])
            return Reason(node, entry, earlier)
        nearest = self._nearest(node, is_exact=is_exact)
        if nearest is None:
            return Reason(node, entry)
        now, then = self._reader.with_command(node), self._reader.with_command(nearest)
        return Reason(node, entry, None, nearest, tuple(compare(now, then, self._reader.listing)))

    def _candidates_for(self, ident: str, op: str) -> _Candidates:
        found = self._reader.with_ident(ident, op, self.run.facts.start_us)
        return _Candidates(found, self._numbers)

    def _nearest(self, node: NodeRow, *, is_exact: bool) -> NodeRow | None:
        """The earlier node that this one is most likely to have been.

        The fewest parts differ, and this run has it no more; of these the one with the nearest command, and
        then one that reads files of the same names.
        """
        candidates = self._candidates(node.ident, node.parts.op)
        if not candidates:
            candidates = self._with_command_of(node)
        close = list(candidates.closest(node.parts)) if is_exact else candidates.close(node.parts)
        if len(close) > 1 and any(each.parts.command != node.parts.command for each in close):
            now = self._reader.with_command(node)
            close = _least(close, lambda each: distance(now, self._reader.with_command(each))[1])
        if len(close) > 1:
            paths = self._paths(node, self.run.facts.start_us)
            close = _least(close, lambda each: -len(paths & self._paths(each, each.first_us)))
        return close[0] if close else None

    def _with_command_of(self, node: NodeRow) -> _Candidates:
        found = self._reader.with_same_command(node, self.run.facts.start_us)
        return _Candidates(found, self._numbers)

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


class _Candidates:
    """Earlier nodes of one name, found by what all but one of their parts are.

    ``current`` has the numbers of nodes that the run still has: these come last.
    """

    def __init__(self, nodes: Sequence[NodeRow], current: Collection[int]) -> None:
        gone = [node for node in nodes if node.number not in current]
        self._nodes = gone + [node for node in nodes if node.number in current]
        self._gone = {node.number for node in gone}
        self._index: dict[tuple[object, ...], list[NodeRow]] = {}
        for node in self._nodes:
            for key in _keys(node.parts):
                self._index.setdefault(key, []).append(node)

    def __bool__(self) -> bool:
        return bool(self._nodes)

    def closest(self, parts: KeyParts) -> Sequence[NodeRow]:
        """Those of which the fewest parts differ; if there are such, only those that the run has no more."""
        found = [each for key in _keys(parts) for each in self._index.get(key, ())]
        if not found and self._nodes:
            found = _least(self._nodes, lambda each: distance(parts, each.parts)[0])
        return [each for each in found if each.number in self._gone] or found

    def close(self, parts: KeyParts) -> Sequence[NodeRow]:
        """One of those, whichever is at hand."""
        first = [each for key in _keys(parts) for each in self._index.get(key, ())[:1]]
        first.sort(key=lambda each: each.number not in self._gone)
        return first[:1] or self.closest(parts)[:1]


def _keys(parts: KeyParts) -> Iterator[tuple[object, ...]]:
    """All parts but one, in every way."""
    op, image, command, _, _, inputs, extra = parts
    yield "command", op, image, inputs, extra
    yield "image", op, command, inputs, extra
    if len(inputs) <= _INDEXED_INPUTS:
        for index in range(len(inputs)):
            yield index, op, image, command, inputs[:index] + inputs[index + 1 :], extra


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
