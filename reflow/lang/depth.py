"""A bound on how deep a tree may be, so that passes over it may recurse."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from reflow.lang.diagnostic import Diagnostic, SourceError
from reflow.lang.source import Pos
from reflow.lang.types import TOO_DEEP, ErrorType, Field, Type, VariantType

MAX_DEPTH = 2000
"""Levels. Passes recurse with a few frames a level, below a recursion limit of 10 000."""


def check(tree: Any, place: Pos) -> None:
    """Raise SourceError if the tree has more than `MAX_DEPTH` levels, at a place where it is too deep.

    Visits everything, without recursion. Expressions, declarations, patterns and types count. ``place``
    is where an error is reported if the tree has no places, as a type has none.
    """
    level, nodes = 0, _parts(tree) if isinstance(tree, list) else [tree]
    while nodes:
        level += 1
        if level > MAX_DEPTH or any(_is_cut_off(each) for each in nodes):
            place = next((pos for each in nodes if (pos := getattr(each, "pos", None)) is not None), place)
            text = f"nested too deeply: more than {MAX_DEPTH} levels"
            raise SourceError([Diagnostic(_reported(place), text, "give the inner parts names of their own")])
        if isinstance(pos := getattr(nodes[0], "pos", None), Pos):
            place = pos
        nodes = [part for each in nodes for part in _parts(each)]


def _is_cut_off(node: Any) -> bool:
    """Whether a node stands for a type that was too deep to be made."""
    return isinstance(node, ErrorType) and node.message == TOO_DEEP


def _reported(pos: Pos) -> Pos:
    """A place that can be reported: set, and in the source that has a name."""
    source, start, end = pos.source, pos.start, pos.end
    while source.outer is not None:
        start += source.outer_offset
        end += source.outer_offset
        source = source.outer
    return pos if pos.is_set and source is pos.source else Pos(source, end, start, end)


def _parts(node: Any) -> list[Any]:
    """The nodes one level below."""
    found: list[Any] = []
    todo = list(node) if isinstance(node, list | tuple) else _slots(node)
    while todo:
        each = todo.pop()
        if isinstance(each, list | tuple):
            todo.extend(each)
        elif isinstance(each, Type | Field | VariantType) or is_dataclass(each):
            found.append(each)
    return found


def _slots(node: Any) -> list[Any]:
    if is_dataclass(node):
        return [getattr(node, each.name, None) for each in fields(node)]
    slots = [slot for cls in type(node).__mro__ for slot in getattr(cls, "__slots__", ())]
    return [getattr(node, each, None) for each in slots]
