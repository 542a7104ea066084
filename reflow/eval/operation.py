"""What each pure operation computes from its dependencies' values.

`VALUES` has those that give a value, `NODES` those that give the node to go on with. What is in neither
has its value already (`Val`) or needs the world: `Data` is stored or hashed, and those of
`reflow.flow.node.EXTERNAL` are looked up and run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reflow.core.fileset import Fileset
from reflow.eval.filesetop import collect, group_by
from reflow.flow.node import Coerce, Collect, Flow, Groupby, K, Kctx, Map, Merge, Pullup, Requires, Val


def _coerce(node: Flow, values: list[Any]) -> Any:
    assert isinstance(node, Coerce)
    return node.fn(values[0])


def _requires(node: Flow, values: list[Any]) -> Any:
    return values[0]


def _merge(node: Flow, values: list[Any]) -> Fileset:
    return Fileset(members=values)


def _pullup(node: Flow, values: list[Any]) -> Fileset:
    return Fileset(members=values).pullup()


def _groupby(node: Flow, values: list[Any]) -> Fileset:
    assert isinstance(node, Groupby)
    return group_by(node.pattern, values[0])


def _collect(node: Flow, values: list[Any]) -> Fileset:
    assert isinstance(node, Collect)
    return collect(node.pattern, node.replacement, values[0])


def _continue(node: Flow, values: list[Any]) -> Flow:
    assert isinstance(node, K)
    return node.fn(values)


def _map(node: Flow, values: list[Any]) -> Flow:
    assert isinstance(node, Map)
    members = [node.fn(Val(member)) for member in values[0].members or ()]
    return Merge(members, ident=node.ident, pos=node.pos)


VALUES: dict[type[Flow], Callable[[Flow, list[Any]], Any]] = {
    Coerce: _coerce,
    Requires: _requires,
    Merge: _merge,
    Pullup: _pullup,
    Groupby: _groupby,
    Collect: _collect,
}

NODES: dict[type[Flow], Callable[[Flow, list[Any]], Flow]] = {K: _continue, Kctx: _continue, Map: _map}
