"""Trees of links to objects: what an argument of many files looks like, made once for all execs that have it.

A tree is a lower layer of the overlay that an exec sees as ``/arg``, so what commands write never reaches it.
Trees lie in a directory of this process, locked while it lives: an exec that outlives its run goes on
reading from them, and the last executor of the localdir removes them (`remove_abandoned`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.core.fileset import Fileset
from reflow.executor import execdir
from reflow.executor.execdir import ExecDir
from reflow.executor.layout import Layout, os_error
from reflow.pool import InputLocator

TREE_COUNT = 32
"""An argument of so many files gets a tree. Fewer are linked for each exec: that costs less than a layer."""

MAX_TREES = 16
"""So many trees are layers of one exec: mount options have an end."""

_IDLE_LINKS = 200_000
"""So many links are kept for arguments that nobody uses now."""

_DIRECTORY = "trees"


@dataclass(slots=True, eq=False)
class Tree:
    """One argument's files, at ``<index>/<member>/…`` below ``path``.

    ``sources``: digest -> the object that was linked. ``foreign``: place such as ``0/1/x`` -> the user's own
    file that is to be mounted there, and its digest. ``users``: execs that have it now.
    """

    path: str
    directory: str
    sources: Mapping[Digest, str]
    foreign: Mapping[str, tuple[Digest, str]]
    epoch: int | None
    count: int
    users: int = 0
    is_current: bool = True


@dataclass(slots=True, eq=False)
class _Slot:
    """Where an argument's tree is kept; locked while it is made."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    tree: Tree | None = None


Made = tuple[Mapping[Digest, str], Mapping[str, tuple[Digest, str]]]
"""What was put into a tree: its ``sources`` and ``foreign``."""


class Trees:
    """The trees of one executor. May be used from threads."""

    def __init__(self, layout: Layout, locator: InputLocator) -> None:
        self._layout = layout
        self._locator = locator
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._own: ExecDir | None = None
        self._slots: dict[tuple[int, Digest], _Slot] = {}
        self._idle: OrderedDict[Tree, None] = OrderedDict()
        self._idle_links = 0

    def take(self, index: int, fileset: Fileset, fill: Callable[[str], Made]) -> Tree:
        """The tree of argument ``index``; ``fill`` makes its ``<index>/…`` in a directory. Give it back.

        Raises what ``fill`` raises, and ReflowError when there is no room. Blocks.
        """
        with self._lock:
            slot = self._slots.setdefault((index, fileset.digest), _Slot())
        with slot.lock:
            if slot.tree is None or not self._is_good(slot.tree):
                fresh = self._made(fileset.count(), fill)
                if slot.tree is not None:
                    self._retire(slot.tree)
                slot.tree = fresh
            tree = slot.tree
            with self._lock:
                tree.users += 1
                if tree in self._idle:
                    del self._idle[tree]
                    self._idle_links -= tree.count
        return tree

    def give_back(self, trees: Sequence[Tree]) -> None:
        """An exec has ended, and its outputs were taken."""
        unwanted = []
        with self._lock:
            for tree in trees:
                tree.users -= 1
                if tree.users:
                    continue
                if not tree.is_current:
                    unwanted.append(tree)
                    continue
                self._idle[tree] = None
                self._idle_links += tree.count
            while self._idle_links > _IDLE_LINKS and len(self._idle) > 1:
                oldest, _ = self._idle.popitem(last=False)
                self._idle_links -= oldest.count
                oldest.is_current = False
                unwanted.append(oldest)
        for tree in unwanted:
            self._layout.discard(tree.directory)

    def close(self) -> None:
        """Remove all: no exec of this executor runs any more. Blocks."""
        with self._lock:
            self._slots.clear()
            self._idle.clear()
            own, self._own = self._own, None
        if own is not None:
            own.remove()

    def _is_good(self, tree: Tree) -> bool:
        """Whether a tree can be used again. Raises INVALID when a user's file has changed."""
        epoch = self._locator.epoch
        if not tree.is_current or epoch is None or epoch != tree.epoch:
            return False
        return all(self._locator.locate(digest) == (path, True) for digest, path in tree.foreign.values())

    def _made(self, count: int, fill: Callable[[str], Made]) -> Tree:
        epoch = self._locator.epoch
        directory = self._new_directory()
        path = f"{directory}/arg"
        try:
            os.mkdir(directory)
            os.mkdir(path)
            sources, foreign = fill(directory)
        except BaseException as err:
            self._layout.discard(directory)
            if isinstance(err, OSError):
                raise os_error("stage", directory, err) from err
            raise
        return Tree(path, directory, sources, foreign, epoch, count)

    def _retire(self, tree: Tree) -> None:
        with self._lock:
            tree.is_current = False
            if tree in self._idle:
                del self._idle[tree]
                self._idle_links -= tree.count
            is_used = tree.users > 0
        if not is_used:
            self._layout.discard(tree.directory)

    def _new_directory(self) -> str:
        with self._lock:
            while self._own is None:
                name = f"{os.getpid()}-{os.urandom(4).hex()}"
                try:
                    self._own = execdir.acquire(f"{self._layout.root}/{_DIRECTORY}/{name}")
                except OSError as err:
                    raise os_error("stage", self._layout.root, err) from err
            return f"{self._own.path}/{next(self._numbers)}"


def spill(tree: str, arg: str) -> None:
    """Link all files of a tree into an exec's own directory: it cannot be a layer. Raises OSError."""
    for directory, _, names in os.walk(tree):
        target = arg + directory[len(tree) :]
        with contextlib.suppress(FileExistsError):
            os.mkdir(target)
        for name in names:
            os.link(f"{directory}/{name}", f"{target}/{name}")


def remove_abandoned(root: str) -> None:
    """Remove the trees of dead processes; nothing uses them any more. Blocks."""
    try:
        entries = list(os.scandir(f"{root}/{_DIRECTORY}"))
    except OSError:
        return
    for entry in entries:
        with contextlib.suppress(OSError, ReflowError):
            directory = execdir.adopt(entry.path)
            if directory is not None:
                directory.remove()
