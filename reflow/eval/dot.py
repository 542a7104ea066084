"""The graph of an evaluation as a Graphviz file: what was there at first, and what continuations added.

Nodes are named by the first 8 digits of their digests; ``dynamic`` edges were found when a continuation
had run. The file is written at the end of every run, so that it must cost microseconds a node: names are
the 4 bytes that the digits stand for, and each label is made once.
Source: flow/dot.go, and the layout of the gonum library that writes it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.flow.digest import digest
from reflow.flow.node import EXTERNAL, Extern, Flow, Intern, K

_URL_BYTES = 64
_MARK = "ExecDepIncorrectCacheKeyBug"
_NAME_BYTES = 4
_EXTERNAL = frozenset(EXTERNAL)
_LOCATED = frozenset({Intern, Extern})

_EXTERNAL_TEXT = " [\nfillcolor=green\nstyle=filled\n];"
_MARKED_TEXT = f" [\n{_MARK.lower()}=true\nfillcolor=red\nstyle=filled\n];"
_STATIC_TEXT = " [dynamic=false];"
_DYNAMIC_TEXT = " [\ndynamic=true\ncolor=blue\n];"


def dot_text(run_id: Digest, root: Flow, continued: Mapping[Flow, Flow]) -> str:
    """The whole file. ``continued`` maps continuations to the nodes that they returned."""
    graph = _Graph(root, continued)
    lines = [f'strict digraph "reflow flowgraph {run_id}" {{', "// Node definitions."]
    lines += graph.node_lines()
    lines += ["", "// Edge definitions."]
    lines += graph.edge_lines()
    return "\n".join([*lines, "}"])


class _Graph:
    """``nodes``: name -> the first node of that name. ``edges``: name -> names below -> whether dynamic."""

    def __init__(self, root: Flow, continued: Mapping[Flow, Flow]) -> None:
        self.nodes: dict[bytes, Flow] = {}
        self.edges: dict[bytes, dict[bytes, bool]] = {}
        self._continued = continued
        self._names: dict[Flow, bytes] = {}
        self._tails: dict[tuple[str, str], str] = {}
        self._labels: dict[bytes, str] = {}
        self._collect(root)
        self._affected = self._find_affected()

    def _collect(self, root: Flow) -> None:
        """Edges to dependencies, then those of what nodes became; nodes in the order they are met."""
        continued = self._continued
        queue = [root]
        self._names[root] = _name(root)
        for node in queue:
            if node.deps:
                self._add(node, node.deps, queue, is_dynamic=False)
        known = len(queue)
        for number, node in enumerate(queue):
            if number >= known:
                self._add(node, node.deps, queue, is_dynamic=True)
            step = continued.get(node)
            while step is not None:
                if step.deps:
                    self._add(node, step.deps, queue, is_dynamic=True)
                step = continued.get(step)

    def _add(self, node: Flow, deps: Iterable[Flow], queue: list[Flow], *, is_dynamic: bool) -> None:
        names, nodes, edges = self._names, self.nodes, self.edges
        above = names[node]
        out = edges.get(above)
        for dep in deps:
            below = names.get(dep)
            if below is None:
                below = names[dep] = _name(dep)
                queue.append(dep)
            if not above or not below or above == below:
                continue
            if out is None:
                out = edges[above] = {}
                nodes.setdefault(above, node)
            nodes.setdefault(below, dep)
            if below not in out and (below not in edges or above not in edges[below]):
                out[below] = is_dynamic

    def _steps(self, node: Flow) -> Iterator[Flow]:
        """The node, and what it became one after the other."""
        step: Flow | None = node
        while step is not None:
            yield step
            step = self._continued.get(step)

    def _find_affected(self) -> set[bytes]:
        """Nodes that are marked, or that depend on one that is."""
        if not any([isinstance(each, K) and each.affected for each in (*self._names, *self._continued)]):
            return set()
        marked = [
            name
            for name, node in self.nodes.items()
            if any(isinstance(step, K) and step.affected for step in self._steps(node))
        ]
        affected = set(marked)
        above: defaultdict[bytes, list[bytes]] = defaultdict(list)
        for name, out in self.edges.items():
            for below in out:
                above[below].append(name)
        while marked:
            fresh = [parent for parent in above[marked.pop()] if parent not in affected]
            affected.update(fresh)
            marked += fresh
        return affected

    def node_lines(self) -> Iterator[str]:
        """The line or lines that define each node, in the order of the names; `edge_lines` comes after."""
        nodes, labels, affected, continued = self.nodes, self._labels, self._affected, self._continued
        for name in sorted(nodes):
            final = nodes[name]
            step = continued.get(final)
            while step is not None:
                final, step = step, continued.get(step)
            label = labels[name] = self._label(name, final)
            if final.__class__ not in _EXTERNAL:
                yield label + ";"
            else:
                yield label + (_MARKED_TEXT if name in affected else _EXTERNAL_TEXT)

    def _label(self, name: bytes, final: Flow) -> str:
        key = (final.op, final.ident)
        tail = self._tails.get(key)
        if tail is None:
            tail = self._tails[key] = _quoted(f"-{final.op}-{final.ident}")[1:]
        if final.__class__ not in _LOCATED and name not in self._affected:
            return f'"{name.hex()}{tail}'
        more = f"-{_cut(final.url)}" if isinstance(final, Intern | Extern) else ""
        more += f"-{_MARK}" if name in self._affected else ""
        return f'"{name.hex()}{tail[:-1]}{_quoted(more)[1:]}'

    def edge_lines(self) -> Iterator[str]:
        """The line or lines that define each edge, in the order of the names."""
        labels, edges = self._labels, self.edges
        for name, label in labels.items():
            out = edges.get(name)
            if out:
                for below in sorted(out) if len(out) > 1 else out:
                    yield f"{label} -> {labels[below]}{_DYNAMIC_TEXT if out[below] else _STATIC_TEXT}"


def _name(node: Flow) -> bytes:
    """The first bytes of the digest; none when a file is unreadable that belongs to it."""
    try:
        return digest(node)[:_NAME_BYTES]
    except ReflowError:
        return b""


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _cut(url: str) -> str:
    raw = url.encode("utf-8", "surrogateescape")
    if len(raw) <= _URL_BYTES:
        return url
    return (raw[:30] + b"..." + raw[-30:]).decode("utf-8", "replace")
