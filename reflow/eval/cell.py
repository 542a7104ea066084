"""What the work-list knows of each node, and the states that it passes through."""

from __future__ import annotations

import enum
from typing import Any

from reflow.flow.node import Flow

NEW, WAITING, FORWARDING, OUTSIDE, DONE = range(5)
"""Phases of a cell; plain numbers, because there may be millions of comparisons."""

UNTRIED, TRIED_NAME, TRIED_ALL = range(3)
"""How far a node was looked up: not at all, by its logical digest, by every key (or never to be)."""


class When(enum.Enum):
    """When execs and interns are looked up: never, before their dependencies, or after them."""

    NEVER = enum.auto()
    TOP_DOWN = enum.auto()
    BOTTOM_UP = enum.auto()


class Cell:
    """What is known of a node. ``target`` is the node that a continuation returned, ``origin`` the outermost
    continuation that led here, ``waiters`` the cells to be told when this one is done.
    """

    __slots__ = ("error", "node", "origin", "pending", "phase", "target", "tried", "value", "waiters")

    def __init__(self, node: Flow) -> None:
        self.node = node
        self.phase = NEW
        self.pending = 0
        self.tried = UNTRIED
        self.waiters: list[Cell] | None = None
        self.target: Flow | None = None
        self.origin: Flow | None = None
        self.value: Any = None
        self.error: BaseException | None = None
