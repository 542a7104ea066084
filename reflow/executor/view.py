"""An exec's files as the exec itself saw them.

A link that a command leaves behind is meant in the command's own surroundings: ``/arg/0/0`` in a container is
somewhere else here. `View` follows links there, and only there: what leads out of ``arg``, ``return`` and
``tmp`` is refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

_MAX_LINKS = 40


class ViewError(Exception):
    """A path cannot be followed; the text says why."""


class Place(NamedTuple):
    """A file or directory: its path in the view, its path here, and whether it is a user's own file."""

    view: str
    host: str
    info: os.stat_result
    is_foreign: bool


class Layers:
    """A directory, or an overlay: the first of ``directories`` hides what the second has."""

    __slots__ = ("directories",)

    def __init__(self, directories: Sequence[str]) -> None:
        self.directories = tuple(directories)

    def find(self, rel: str) -> tuple[str, os.stat_result] | None:
        """The file or directory at ``rel``, links not followed."""
        *uppers, lowest = self.directories
        hidden = False
        for upper in uppers:
            found = _lstat(f"{upper}/{rel}" if rel else upper)
            if found is not None and not _is_whiteout(found):
                return (f"{upper}/{rel}" if rel else upper), found
            hidden = hidden or _hides(upper, rel)
        path = f"{lowest}/{rel}" if rel else lowest
        info = None if hidden else _lstat(path)
        return None if info is None else (path, info)

    def names(self, rel: str) -> list[str]:
        """The names in the directory ``rel``, in no order."""
        names: dict[str, None] = {}
        for directory in self.directories:
            try:
                entries = os.listdir(f"{directory}/{rel}" if rel else directory)
            except (FileNotFoundError, NotADirectoryError):
                continue
            names.update(dict.fromkeys(entries))
        if len(self.directories) == 1:
            return list(names)
        return [name for name in names if self.find(f"{rel}/{name}" if rel else name) is not None]


class View:
    """Where an exec saw what.

    ``roots``: path as the exec saw it -> layers here. ``foreign``: path in the view -> user's file mounted
    there.
    ``allowed``: the user's files that links may lead to directly.
    """

    def __init__(
        self, roots: Mapping[str, Layers], foreign: Mapping[str, str], allowed: frozenset[str] = frozenset()
    ) -> None:
        self._roots = roots
        self._foreign = foreign
        self._allowed = allowed

    def resolve(self, path: str) -> Place:
        """Follow all links of a path in the view. Raises ViewError."""
        pending = [part for part in reversed(path.split("/")) if part]
        current = ""
        place: Place | None = None
        links = 0
        while pending:
            part = pending.pop()
            if part == ".":
                continue
            if part == "..":
                current = os.path.dirname(current).rstrip("/")
                place = None
                continue
            candidate = f"{current}/{part}"
            place = self._at(candidate, bool(pending))
            if place is None or not stat.S_ISLNK(place.info.st_mode):
                current = candidate
                continue
            links += 1
            if links > _MAX_LINKS:
                raise ViewError("too many links, one leads to another in a circle")
            target = os.readlink(place.host)
            if not pending and target in self._allowed:
                return Place(candidate, target, os.stat(target), True)
            pending += [word for word in reversed(target.split("/")) if word]
            current = "" if target.startswith("/") else current
            place = None
        if place is None:
            place = self._at(current or "/", False)
        if place is None:
            raise ViewError(f"{current or '/'} is outside of the exec's arg, return and tmp")
        return place

    def children(self, place: Place) -> list[str]:
        """The names in a directory."""
        root, layers = self._root(place.view)
        return layers.names(place.view[len(root) + 1 :])

    def child(self, place: Place, name: str) -> Place:
        """One name in a directory, links followed. Raises ViewError."""
        path = f"{place.view}/{name}"
        found = self._at(path, False)
        if found is None or stat.S_ISLNK(found.info.st_mode):
            return self.resolve(path)
        return found

    def _root(self, path: str) -> tuple[str, Layers]:
        for root, layers in self._roots.items():
            if path == root or path.startswith(root + "/"):
                return root, layers
        raise ViewError(f"{path} is outside of the exec's arg, return and tmp")

    def _at(self, path: str, is_parent: bool) -> Place | None:
        """What is at a path; None for a directory above the roots."""
        if path in self._foreign:
            host = self._foreign[path]
            return Place(path, host, os.stat(host), True)
        if is_parent and any(root.startswith(path + "/") for root in self._roots):
            return None
        root, layers = self._root(path)
        found = layers.find(path[len(root) + 1 :])
        if found is None:
            raise ViewError(f"{path} does not exist")
        return Place(path, found[0], found[1], False)


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_whiteout(info: os.stat_result) -> bool:
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def _hides(upper: str, rel: str) -> bool:
    """Tell whether the upper layer hides what the lower one has at ``rel``."""
    path = upper
    for part in rel.split("/"):
        path = f"{path}/{part}"
        info = _lstat(path)
        if info is None:
            return False
        if _is_whiteout(info) or not stat.S_ISDIR(info.st_mode):
            return True
        if _is_opaque(path):
            return True
    return False


def _is_opaque(path: str) -> bool:
    # In a user namespace overlays use the second.
    for name in ("trusted.overlay.opaque", "user.overlay.opaque"):
        with suppress(OSError):
            if os.getxattr(path, name, follow_symlinks=False) == b"y":
                return True
    return False
