"""Inputs: from the repository and the user's files into an exec's ``arg`` directory.

Argument i, member j of its fileset is at ``arg/<i>/<j>``: a lone file is that path itself, a directory a tree
below it, an empty directory nothing. Objects of the repository are hard links. A user's file is never linked
hard: it shares blocks where the file system can, is copied when it is small, and else is bound into the
container or is a symbolic link (`Style`). Of small files that are many, a copy becomes an object, once.

Where ``arg`` is an overlay, an argument of many files is a tree that execs share (`linktree`).
"""

from __future__ import annotations

import enum
import errno
import os
import time
from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import cast

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, InputArg, OutputArg
from reflow.core.fileset import File, Fileset
from reflow.executor.copying import copy_file, reflink
from reflow.executor.layout import os_error
from reflow.executor.linktree import MAX_TREES, TREE_COUNT, Made, Tree, Trees, spill
from reflow.pool import InputLocator
from reflow.repository.objectfile import OBJECT_MODE

COPY_LIMIT_BYTES = 1 << 20
"""A user's file up to this size is copied: that costs less than a mount."""

LIGHT_COUNT = 8
LIGHT_BYTES = 512 << 10
"""Inputs up to this number and size in all are light: copying them costs less than any other protection."""

MAX_BINDS = 64
"""So many of a user's files are bound into one container; a mount costs 2 ms."""

_REPORT_S = 0.2
_LINK_TRIES = 10
_NO_HARD_LINK = frozenset(
    {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS}
)


class Style(enum.Enum):
    """How a large file of the user's comes in where blocks cannot be shared."""

    LINK = "symbolic link"
    BIND = "bound into the container"


@dataclass(slots=True)
class Staged:
    """What was staged: the command with its paths, and where the inputs came from.

    ``sources``: digest -> the file it was taken from, of what is not in trees. ``foreign``: path below
    ``arg`` (such as ``0/1/x``) -> the user's own file that appears there by a link or a mount. ``upper``:
    where the command's changes to ``arg`` go, where that is an overlay. ``trees`` are to be given back;
    ``lowers`` are the overlay's layers below the exec's own ``arg``.
    """

    command: str = ""
    sources: dict[Digest, str] = field(default_factory=dict)
    foreign: dict[str, str] = field(default_factory=dict)
    upper: str = ""
    trees: list[Tree] = field(default_factory=list)
    lowers: list[str] = field(default_factory=list)

    @property
    def has_files(self) -> bool:
        """Whether there is any input file."""
        return bool(self.sources or self.lowers)

    def all_sources(self) -> Mapping[Digest, str]:
        """The files that all inputs were taken from."""
        # A ChainMap asks for mappings that can change, and changes the first only.
        return ChainMap(
            self.sources, *cast("list[MutableMapping[Digest, str]]", [t.sources for t in self.trees])
        )

    def do_without_layers(self, arg: str) -> None:
        """Have what is in trees in the exec's own directory ``arg``: no overlay can be mounted."""
        try:
            for lower in self.lowers:
                spill(lower, arg)
        except OSError as err:
            raise os_error("stage", arg, err) from err
        self.lowers.clear()


def input_count(config: ExecConfig) -> int:
    """Number of files that the arguments have."""
    return sum(arg.fileset.count() for arg in config.args if isinstance(arg, InputArg))


def is_light(config: ExecConfig) -> bool:
    """Whether it costs little to copy all inputs."""
    count = size_bytes = 0
    for arg in config.args:
        if isinstance(arg, InputArg):
            count += arg.fileset.count()
            if count > LIGHT_COUNT:
                return False
            size_bytes += arg.fileset.size()
    return size_bytes <= LIGHT_BYTES


class Staging:
    """Brings the inputs of an exec to ``directory``, which the command sees as ``view``. Blocks.

    With ``copies_objects`` nothing is shared with the repository. With ``trees``, ``arg`` is seen through an
    overlay.
    """

    def __init__(
        self,
        directory: str,
        view: str,
        locator: InputLocator,
        style: Style,
        *,
        copies_objects: bool = False,
        trees: Trees | None = None,
    ) -> None:
        self._directory = directory
        self._view = view
        self._locator = locator
        self._style = style
        self._copies_objects = copies_objects
        self._trees = trees
        self._keeps_copies = False
        self._staged = Staged()
        self._made = {directory}
        self._binds = 0
        self._is_stopped = False
        self._copied_bytes = 0
        self._told_s = 0.0
        self.report: Callable[[int], None] | None = None
        """Told, now and then, how many bytes were copied; in the thread that stages."""

    def perform(self, config: ExecConfig) -> Staged:
        """Stage all inputs, and render the command.

        Raises NOT_EXIST when an object is missing, RESOURCES_EXHAUSTED when the disk is full.
        """
        words = []
        self._keeps_copies = not is_light(config)
        try:
            for index, arg in enumerate(config.args):
                match arg:
                    case OutputArg(number):
                        words.append(f"{self._view}/return/{number}")
                    case InputArg(fileset):
                        words.append(self._argument(index, fileset))
        except OSError as err:
            raise os_error("stage", self._directory, err) from err
        self._staged.command = render(config.cmd, words)
        return self._staged

    @property
    def taken(self) -> list[Tree]:
        """The trees that it has taken so far."""
        return self._staged.trees

    def stop(self) -> None:
        """End `perform` soon, with CANCELED. May be called from another thread."""
        self._is_stopped = True

    def _observe(self, size_bytes: int) -> None:
        if self._is_stopped:
            raise ReflowError(Kind.CANCELED, "stage", self._directory)
        self._copied_bytes += size_bytes
        if size_bytes and self.report is not None and time.monotonic() - self._told_s >= _REPORT_S:
            self._told_s = time.monotonic()
            self.report(self._copied_bytes)

    def _argument(self, index: int, fileset: Fileset) -> str:
        """Stage one argument; the words that stand for it."""
        members = fileset.flatten()
        if self._trees is not None and self._is_worth_a_tree(fileset):
            tree = self._trees.take(index, fileset, lambda directory: self._fill(directory, index, members))
            self._staged.trees.append(tree)
            self._staged.lowers.append(tree.path)
            self._staged.foreign.update({place: path for place, (_, path) in tree.foreign.items()})
        else:
            self._members(index, members)
        return " ".join([f"{self._view}/arg/{index}/{number}" for number in range(len(members))])

    def _is_worth_a_tree(self, fileset: Fileset) -> bool:
        return len(self._staged.trees) < MAX_TREES and fileset.count() >= TREE_COUNT

    def _fill(self, directory: str, index: int, members: tuple[Fileset, ...]) -> Made:
        """Put an argument's files into a tree."""
        inner = Staging(directory, "", self._locator, Style.BIND)
        inner._keeps_copies = True
        inner._observe = self._observe  # type: ignore[method-assign]  # it is stopped with this one
        inner._members(index, members)
        foreign = inner._staged.foreign
        users = {
            path: digest for digest, path in inner._staged.sources.items() if path in set(foreign.values())
        }
        return inner._staged.sources, {place: (users[path], path) for place, path in foreign.items()}

    def _members(self, index: int, members: tuple[Fileset, ...]) -> None:
        for number, member in enumerate(members):
            self._member(f"{index}/{number}", member)

    def _member(self, place: str, member: Fileset) -> None:
        if member.members or ("." in member.files and len(member.files) > 1):
            detail = "a fileset that is neither a file nor a directory"
            raise ReflowError(Kind.INVALID, "stage", place, cause=detail)
        for path, file in member.files.items():
            if path == ".":
                self._file(place, file)
                continue
            self._file(f"{place}/{inner_path(path)}", file)

    def _file(self, place: str, file: File) -> None:
        if file.id is None:
            raise ReflowError(Kind.INVALID, "stage", file.source, cause="unresolved file")
        self._observe(0)
        source, is_users = self._locator.locate(file.id)
        self._staged.sources[file.id] = source
        target = f"{self._directory}/arg/{place}"
        self._parent(target)
        if is_users and not self._users_file(source, target, place):
            source, is_users = self._locator.keep(file.id), False
            self._staged.sources[file.id] = source
        if not is_users:
            self._object(source, target, file.id)

    def _parent(self, target: str) -> None:
        parent = os.path.dirname(target)
        if parent in self._made:
            return
        self._made.add(parent)
        try:
            os.mkdir(parent)
        except FileExistsError:
            pass
        except FileNotFoundError:
            os.makedirs(parent, exist_ok=True)

    def _users_file(self, source: str, target: str, place: str) -> bool:
        """Bring in a user's own file; False when it is better made an object."""
        is_small = os.stat(source).st_size <= COPY_LIMIT_BYTES
        if is_small and self._keeps_copies:
            return False
        if is_small:
            copy_file(source, target, self._observe)
        elif reflink(source, target):
            pass
        elif self._style is Style.LINK:
            os.symlink(source, target)
            self._staged.foreign[place] = source
        elif self._binds < MAX_BINDS:
            self._binds += 1
            self._staged.foreign[place] = source
        else:
            return False
        return True

    def _object(self, source: str, target: str, digest: Digest) -> None:
        try:
            if self._copies_objects:
                copy_file(source, target, self._observe, OBJECT_MODE)
            else:
                _link(source, target)
        except FileNotFoundError as err:
            if os.path.lexists(source):
                raise
            raise ReflowError(Kind.NOT_EXIST, "stage", digest, cause=f"{source} is gone") from err
        except OSError as err:
            if err.errno not in _NO_HARD_LINK:
                raise
            copy_file(source, target, self._observe)


def _link(source: str, target: str) -> None:
    """Link an object, which may be replaced by an equal one at the same time: then it seems to be gone."""
    for _ in range(_LINK_TRIES):
        try:
            return os.link(source, target)
        except FileNotFoundError:
            if not os.path.lexists(source):
                raise
    return os.link(source, target)


def render(template: str, words: list[str]) -> str:
    """Put ``words`` in the places of a printf-style command. Raises INVALID for a template that is none."""
    try:
        return template % tuple(words)
    except (TypeError, ValueError) as err:
        raise ReflowError(Kind.INVALID, "stage", cause=f"command template {template!r}: {err}") from err


def inner_path(path: str) -> str:
    """The path of a fileset's file, as it is. Raises INVALID when it leads out of the fileset's directory."""
    if path.startswith("/") or ".." in path.split("/"):
        raise ReflowError(Kind.INVALID, "stage", path, cause="path leads out of its directory")
    return path
