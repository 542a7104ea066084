"""Evaluate a flow with made-up results, as conformance/lang/README.md tells under "Simulated evaluation"."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from reflow.core.digest import Digest
from reflow.core.fileset import EMPTY_FILESET, File, Fileset
from reflow.core.resources import Resources
from reflow.flow.digest import digest
from reflow.flow.node import Coerce, Data, Exec, Extern, Flow, Intern, K, Requires, Val
from reflow.lang.program import Program


def simulate(program: Program) -> dict[str, Any]:
    """The outcome of a program's Main: ``value`` or ``error``, ``nodes`` and ``labels``."""
    simulation = _Simulation()
    outcome: dict[str, Any] = {}
    try:
        value = simulation.evaluate(program.main) if isinstance(program.main, Flow) else program.main
        outcome["value"] = program.text(value)
    except Exception as err:  # noqa: BLE001  (whatever a node raised is its result)
        outcome["error"] = str(err)
    outcome["nodes"] = sorted(simulation.nodes)
    outcome["labels"] = sorted(simulation.labels)
    return outcome


def evaluated(root: Flow) -> Any:
    """The value of a node. Raises what a node raised."""
    return _Simulation().evaluate(root)


def _made(text: str) -> File:
    data = text.encode("utf-8", "surrogateescape")
    return File(Digest.of(data), len(data))


class _Simulation:
    def __init__(self) -> None:
        self._values: dict[Flow, Any] = {}
        self._next: dict[Flow, Flow] = {}
        self.nodes: set[str] = set()
        self.labels: set[str] = set()

    def evaluate(self, root: Flow) -> Any:
        """The value of a node, without recursion: its dependencies first, from left to right."""
        values = self._values
        stack = [root]
        while stack:
            node = stack[-1]
            if node in values:
                stack.pop()
                continue
            waiting = [dep for dep in self._needed(node) if dep not in values]
            if waiting:
                stack += reversed(waiting)
            elif isinstance(node, K) and node not in self._next:
                self._next[node] = node.fn([values[dep] for dep in node.deps])
            else:
                values[node] = self._value(node)
        return values[root]

    def _needed(self, node: Flow) -> Iterator[Flow]:
        yield from node.deps
        if node in self._next:
            yield self._next[node]

    def _value(self, node: Flow) -> Any:
        self._note(node)
        values = [self._values[dep] for dep in node.deps]
        match node:
            case Val(error=error) if error is not None:
                raise error
            case Val(value=value):
                return value
            case Data(content=content):
                if isinstance(content, bytes):
                    return Fileset.of_file(File(Digest.of(content), len(content)))
                return Fileset.of_file(File(content.digest, content.size))
            case K():
                return self._values[self._next[node]]
            case Coerce(fn=fn):
                return fn(values[0])
            case Requires():
                return values[0]
            case Intern(url=url):
                return _interned(url)
            case Extern():
                return EMPTY_FILESET
            case Exec():
                return _executed(node)
            case _:
                raise AssertionError(f"no simulation of {node.op}")

    def _note(self, node: Flow) -> None:
        if isinstance(node, Requires):
            self.nodes.add(f"requires {_resources(node.minimum)} width={node.width}")
        elif isinstance(node, Intern | Extern | Exec):
            name = digest(node)
            self.labels.add(f"{node.op} {name.short} {node.ident} {node.pos}")
            detail = _exec_text(node) if isinstance(node, Exec) else node.url
            self.nodes.add(f"{node.op} {name} {detail}")


def _interned(url: str) -> Fileset:
    if not url.endswith("/"):
        return Fileset.of_file(_made(url))
    return Fileset({path: _made(url + path) for path in ("a.txt", "b.txt", "sub/c.txt")})


def _executed(node: Exec) -> Fileset:
    key = digest(node).hex()
    members = []
    for index, is_dir in enumerate(node.output_is_dir):
        if is_dir:
            members.append(Fileset({name: _made(f"{key}:{index}:{name}") for name in ("a.txt", "b.txt")}))
        else:
            members.append(Fileset.of_file(_made(f"{key}:{index}")))
    return Fileset(members=members)


def _exec_text(node: Exec) -> str:
    words = [node.image, json.dumps(node.cmd, ensure_ascii=False)]
    words += [f"{'out' if ref.is_output else 'in'}{ref.index}" for ref in node.arguments]
    words.append(_resources(node.resources))
    if node.is_nondeterministic:
        words.append("nondeterministic")
    return " ".join(words)


def _resources(resources: Resources) -> str:
    first = ("mem", "cpu", "disk")
    words = [f"{name}={_decimal(resources.amount(name))}" for name in first]
    return " ".join(words + sorted(f"{name}={_decimal(resources[name])}" for name in {*resources} - {*first}))


def _decimal(amount: float) -> str:
    return str(int(amount)) if amount == int(amount) else repr(float(amount))
