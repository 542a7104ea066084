"""Repeating execs to see whether they give the same results each time.

The graph below a value is rebuilt so that execs met on the way, also those that continuations make later,
are noted; the rebuilt nodes have the digests of the old ones. When the value is there, every noted exec is
run again under other digests, and the results are compared.
Source: syntax/repeat.go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import EMPTY_FILESET, Fileset, path_bytes
from reflow.flow.digest import digest
from reflow.flow.node import Continuation, Exec, Flow, K, Val
from reflow.lang.force import to_flow
from reflow.lang.types import BOOL, STRING, Field, tuple_of

NOTHING_TO_REPEAT = "no execs to repeat"

_COMPARER = Digest.of(b"grail.com/reflow/syntax.repeat.Comparer")
_AGGREGATOR = Digest.of(b"grail.com/reflow/syntax.repeat.ComparerAggregator")
_COMPARISON = Digest.of(b"grail.com/reflow/syntax.repeat.repeatAndCompare")
_OUTCOME = tuple_of([Field("", STRING), Field("", BOOL)])

Note = Callable[[str], None]


def repeat_and_check(value: Flow, times: int, note: Note) -> Flow:
    """A node that tells whether all execs below ``value`` give the same results ``times`` times.

    ``note`` is told what came out, a line or several at a time.
    """
    found = _Execs(times)
    root = found.rebuild(value) if times > 1 else value

    def compare(_values: list[Any]) -> Flow:
        comparisons = found.comparisons()
        if times > 1 and not comparisons:
            if found.skipped:
                note(f"no repeated execs ({len(found.skipped)} were skipped)")
                return to_flow(True, BOOL)
            return Val(error=ReflowError(Kind.PRECONDITION, cause=NOTHING_TO_REPEAT))
        return K(lambda outcomes: _conclude(outcomes, found.skipped, note), comparisons, _AGGREGATOR)

    return K(compare, [root], _COMPARER)


def _conclude(outcomes: list[tuple[bytes, bool]], skipped: dict[Digest, Exec], note: Note) -> Flow:
    for text, _ in outcomes:
        note(f"repeated exec result {text.decode('utf-8', 'surrogateescape')}")
    if skipped:
        names = ", ".join([f"{each.ident}({key.short})" for key, each in skipped.items()])
        note(f"skipped {len(skipped)} repeated execs: {names}")
    return to_flow(all(same for _, same in outcomes), BOOL)


class _Execs:
    """The execs met while a graph is rebuilt, each once by its digest."""

    def __init__(self, times: int) -> None:
        self._times = times
        self._rebuilt: dict[Flow, Flow] = {}
        self._comparisons: dict[Digest, Flow] = {}
        self.skipped: dict[Digest, Exec] = {}

    def comparisons(self) -> list[Flow]:
        """One node for each exec that is to be repeated, in order of digests."""
        return [self._comparisons[key] for key in sorted(self._comparisons)]

    def rebuild(self, root: Flow) -> Flow:
        """The same graph, noticing its execs."""
        done = self._rebuilt
        stack = [root]
        while stack:
            node = stack[-1]
            if node in done:
                stack.pop()
                continue
            waiting = [dep for dep in node.deps if dep not in done]
            if waiting:
                stack += waiting
                continue
            done[node] = self._rebuild_node(node, [done[dep] for dep in node.deps])
            stack.pop()
        return done[root]

    def _rebuild_node(self, node: Flow, deps: Sequence[Flow]) -> Flow:
        if isinstance(node, K):
            changed = copy(node)
            changed.deps = tuple(deps)
            changed._tag = _tag_of(node)
            changed.fn = self._noticing(node.fn)
            return changed
        if any(new is not old for new, old in zip(deps, node.deps, strict=True)):
            node = copy(node)
            node.deps = tuple(deps)
        if isinstance(node, Exec):
            self._notice(node)
        return node

    def _noticing(self, fn: Continuation) -> Continuation:
        return lambda values: self.rebuild(fn(values))

    def _notice(self, node: Exec) -> None:
        key = digest(node)
        if node.is_nondeterministic:
            self.skipped.setdefault(key, node)
        elif key not in self._comparisons:
            self._comparisons[key] = _comparison(node, self._times)


def _tag_of(node: K) -> Callable[[], Digest]:
    return lambda: node.tag


def _comparison(node: Exec, times: int) -> Flow:
    """A node that runs an exec so often and tells whether the results are the same: (text, bool)."""
    key = digest(node)
    group = key.short
    repeats = [node]
    for index in range(1, times):
        repeat = copy(node)
        repeat.ident = f"{node.ident}_{group}.repeat.{index}"
        repeat.extra_digest = Digest.of_text(str(index))
        repeat._digest = None
        repeats.append(repeat)

    def compare(values: list[Fileset]) -> Flow:
        differences = [
            f"repeat 0 vs repeat {index}:\n{difference}"
            for index, value in enumerate(values[1:], 1)
            if (difference := _outputs_difference(node, values[0], value))
        ]
        text = f"{node.pos}\n" + "\n".join(differences) if differences else "all same"
        outcome = f"{node.ident}({group}): {text}".encode("utf-8", "surrogateescape")
        return to_flow((outcome, not differences), _OUTCOME)

    return K(compare, repeats, _COMPARISON)


def _outputs_difference(node: Exec, first: Fileset, other: Fileset) -> str:
    """How the outputs that the command mentions differ; nothing when they are the same."""
    lines = []
    seen = set()
    for position, ref in enumerate(node.arguments):
        if not ref.is_output or ref.index in seen:
            continue
        seen.add(ref.index)
        difference = fileset_difference(_member(first, ref.index), _member(other, ref.index))
        if difference:
            lines.append(f"{node.arg_names[position]} {difference}")
    return "\n".join(lines)


def _member(value: Fileset, index: int) -> Fileset:
    members = value.members or ()
    return members[index] if index < len(members) else EMPTY_FILESET


def fileset_difference(left: Fileset, right: Fileset, prefix: str = "", depth: int = 0) -> str:
    """The files that differ, one a line as ``"PATH" = OLD -> NEW``; nothing when all are the same."""
    prefix = "  " * depth + prefix
    lines = []
    for path in sorted(left.files.keys() | right.files.keys(), key=path_bytes):
        old, new = left.files.get(path), right.files.get(path)
        if old is None or new is None or old.digest != new.digest:
            old_text, new_text = (file.short() if file is not None else "void" for file in (old, new))
            lines.append(f'{prefix}"{path}" = {old_text} -> {new_text}')
    for index in range(max(len(left.members or ()), len(right.members or ()))):
        line = _member_difference(index, _member(left, index), _member(right, index), depth)
        if line:
            lines.append(line)
    return "\n".join(lines)


def _member_difference(index: int, left: Fileset, right: Fileset, depth: int) -> str:
    if left.is_empty() and right.is_empty():
        return ""
    if left.is_empty() or right.is_empty():
        old, new = ("empty" if each.is_empty() else each.short() for each in (left, right))
        return f"[{index}]:{old} -> {new}"
    return fileset_difference(left, right, f"[{index}]:", depth + 1)
