"""The graph of an evaluation as a Graphviz file: what was there at first, and what continuations added.

Source: flow/dot.go, and the layout of the gonum library that writes it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.flow.digest import digest
from reflow.flow.node import EXTERNAL, Extern, Flow, Intern, K

_URL_BYTES = 64
_MARK = "ExecDepIncorrectCacheKeyBug"


def dot_text(run_id: Digest, root: Flow, continued: Mapping[Flow, Flow]) -> str:
    """The whole file. ``continued`` maps continuations to the nodes that they returned."""
    graph = _Graph(root, continued)
    lines = [f'strict digraph "reflow flowgraph {run_id}" {{', "// Node definitions."]
    lines += [graph.node_text(name) for name in sorted(graph.nodes)]
    lines += ["", "// Edge definitions."]
    lines += [graph.edge_text(*edge) for edge in sorted(graph.edges)]
    return "\n".join([*lines, "}"])


class _Graph:
    """Nodes by the first 8 digits of their digest; edges from a node to its dependencies.

    The value of an edge says whether it is dynamic: found only when a continuation had run.
    """

    def __init__(self, root: Flow, continued: Mapping[Flow, Flow]) -> None:
        self.nodes: dict[str, Flow] = {}
        self.edges: dict[tuple[str, str], bool] = {}
        self._continued = continued
        self._names: dict[Flow, str] = {}
        self._collect(root)
        self._affected = self._find_affected()

    def _collect(self, root: Flow) -> None:
        order, seen = [root], {root}
        for node in order:
            self._add(node, node.deps, order, seen, is_dynamic=False)
        known = len(order)
        for number, node in enumerate(order):
            for step in self._steps(node, skip_first=number < known):
                self._add(node, step.deps, order, seen, is_dynamic=True)

    def _steps(self, node: Flow, *, skip_first: bool) -> Iterator[Flow]:
        """The node, and what it became one after the other."""
        step: Flow | None = node
        while step is not None:
            if step is not node or not skip_first:
                yield step
            step = self._continued.get(step)

    def _add(
        self, node: Flow, deps: Sequence[Flow], order: list[Flow], seen: set[Flow], *, is_dynamic: bool
    ) -> None:
        for dep in deps:
            self._add_edge(node, dep, is_dynamic)
            if dep not in seen:
                seen.add(dep)
                order.append(dep)

    def _add_edge(self, node: Flow, dep: Flow, is_dynamic: bool) -> None:
        above, below = self._name(node), self._name(dep)
        if not above or not below or above == below:
            return
        self.nodes.setdefault(above, node)
        self.nodes.setdefault(below, dep)
        if (above, below) not in self.edges and (below, above) not in self.edges:
            self.edges[above, below] = is_dynamic

    def _name(self, node: Flow) -> str:
        """The first digits of the digest; nothing when a file is unreadable that belongs to it."""
        name = self._names.get(node)
        if name is None:
            try:
                name = digest(node).short
            except ReflowError:
                name = ""
            self._names[node] = name
        return name

    def _find_affected(self) -> set[str]:
        """Nodes that are marked, or that depend on one that is."""
        above: defaultdict[str, list[str]] = defaultdict(list)
        for parent, child in self.edges:
            above[child].append(parent)
        marked = [
            name
            for name, node in self.nodes.items()
            if any(isinstance(step, K) and step.affected for step in self._steps(node, skip_first=False))
        ]
        affected = set(marked)
        while marked:
            fresh = [parent for parent in above[marked.pop()] if parent not in affected]
            affected.update(fresh)
            marked += fresh
        return affected

    def _label(self, name: str) -> str:
        final = self._final(name)
        text = f"{name}-{final.op}-{final.ident}"
        if isinstance(final, Intern | Extern):
            text += f"-{_cut(final.url)}"
        if name in self._affected:
            text += f"-{_MARK}"
        return json.dumps(text, ensure_ascii=False)

    def _final(self, name: str) -> Flow:
        *_, final = self._steps(self.nodes[name], skip_first=False)
        return final

    def node_text(self, name: str) -> str:
        """The line or lines that define a node."""
        attributes = []
        if isinstance(self._final(name), EXTERNAL):
            if name in self._affected:
                attributes = [f"{_MARK.lower()}=true", "fillcolor=red", "style=filled"]
            else:
                attributes = ["fillcolor=green", "style=filled"]
        return self._label(name) + _attribute_text(attributes)

    def edge_text(self, above: str, below: str) -> str:
        """The line or lines that define an edge."""
        is_dynamic = self.edges[above, below]
        attributes = ["dynamic=true", "color=blue"] if is_dynamic else ["dynamic=false"]
        return f"{self._label(above)} -> {self._label(below)}{_attribute_text(attributes)}"


def _attribute_text(attributes: Sequence[str]) -> str:
    if not attributes:
        return ";"
    if len(attributes) == 1:
        return f" [{attributes[0]}];"
    return "\n".join([" [", *attributes, "];"])


def _cut(url: str) -> str:
    raw = url.encode("utf-8", "surrogateescape")
    if len(raw) <= _URL_BYTES:
        return url
    return (raw[:30] + b"..." + raw[-30:]).decode("utf-8", "replace")
