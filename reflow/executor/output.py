"""Outputs: from an exec's ``return`` directory into the repository.

First all outputs are looked at (`find_outputs`), so that a wrong one leaves nothing behind; then their files
are taken over (`install_files`). Links are read as the exec saw them (`view`); empty directories vanish.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from reflow.core.digest import Digest
from reflow.core.execconfig import ExecConfig, OutputArg
from reflow.core.fileset import File, Fileset
from reflow.executor.copying import copy_file
from reflow.executor.layout import os_error
from reflow.executor.view import Place, View, ViewError
from reflow.repository import LocalFiles

UNDECLARED = "default"
"""Name of the one output of an exec that declares none: ``$out`` is ``return/default``."""


class Found(NamedTuple):
    """A file of an output. ``rel`` is its path in the output's fileset, ``host`` where it is here."""

    rel: str
    host: str
    info: os.stat_result
    is_foreign: bool


class TooManyFiles(Exception):  # noqa: N818  (a signal to go on elsewhere, no error)
    """There are more files than the caller wants to wait for."""


class OutputError(Exception):
    """An output is not what was declared; the text names it."""


def find_outputs(config: ExecConfig, view: View, root: str, limit: int = 0) -> list[list[Found]]:
    """The files of each declared output (or of the one undeclared), below ``root`` in the view.

    Raises `OutputError`; `TooManyFiles` beyond ``limit`` files (0: no limit).
    """
    if not config.output_is_dir:
        return [_Walk(view, "output", limit).files(f"{root}/{UNDECLARED}", None, is_needed=False)]
    mentioned = _mentioned(config)
    outputs = []
    for index, is_dir in enumerate(config.output_is_dir):
        walk = _Walk(view, output_title(config, index), limit)
        outputs.append(walk.files(f"{root}/{index}", is_dir, is_needed=index in mentioned and not is_dir))
    return outputs


def is_plainly_wrong(config: ExecConfig, directory: str) -> bool:
    """Whether an output in ``directory`` (the host's ``return``) is missing, or not of the declared sort.

    One look at each, so that it is known at once; `find_outputs` knows the rest, and says what is wrong.
    """
    mentioned = _mentioned(config)
    for index, is_dir in enumerate(config.output_is_dir):
        try:
            mode = os.lstat(f"{directory}/{index}").st_mode
        except OSError:
            if index in mentioned and not is_dir:
                return True
            continue
        if not stat.S_ISLNK(mode) and stat.S_ISDIR(mode) != is_dir:
            return True
    return False


def _mentioned(config: ExecConfig) -> set[int]:
    return {arg.index for arg in config.args if isinstance(arg, OutputArg)}


def output_title(config: ExecConfig, index: int) -> str:
    """An output as messages call it."""
    return f'output "{config.output_names[index]}"' if index < len(config.output_names) else f"output {index}"


def outputs_fileset(config: ExecConfig, outputs: Sequence[Mapping[str, File]]) -> Fileset:
    """The value of an exec: a list with one fileset per output; what is in ``$out`` when none is declared."""
    if config.output_is_dir:
        return Fileset(members=[Fileset(files) for files in outputs])
    return Fileset(outputs[0]) if outputs[0] else Fileset(members=())


def install_files(
    files: Sequence[Found], repository: LocalFiles, sources: Mapping[Digest, str], directory: str
) -> dict[str, File]:
    """Put files into the repository: host path -> File. They are objects then, and not to be changed.

    ``sources`` are the exec's inputs, ``directory`` is the exec's own. Raises RESOURCES_EXHAUSTED when the
    disk is full.
    """
    installed: dict[str, File] = {}
    known: dict[tuple[int, int], Digest] | None = None
    for found in files:
        if found.host in installed:
            continue
        if found.info.st_nlink > 1 or found.is_foreign:
            known = _inodes(sources) if known is None else known
            installed[found.host] = _install_shared(found, repository, known, directory)
        else:
            # It stays where it is as well: who is killed in the midst of this leaves all to begin anew with.
            installed[found.host] = _install(found.host, repository, found.rel, keep=True)
    return installed


def _install(path: str, repository: LocalFiles, rel: str, *, keep: bool = False) -> File:
    try:
        return repository.install(path, keep=keep)
    except OSError as err:
        raise os_error("install", rel, err) from err


def _install_shared(
    found: Found, repository: LocalFiles, known: Mapping[tuple[int, int], Digest], directory: str
) -> File:
    """Install a copy of a file that may be somebody else's as well: taking it over would change theirs."""
    digest = known.get((found.info.st_dev, found.info.st_ino))
    if digest is not None and os.path.exists(repository.path(digest)):
        return File(digest, found.info.st_size)
    take = f"{directory}/take"
    with suppress(FileExistsError):
        os.mkdir(take)
    copy = f"{take}/{found.info.st_dev}-{found.info.st_ino}"
    try:
        copy_file(found.host, copy)
    except FileExistsError:
        return _install_anew(found, repository, copy)
    except OSError as err:
        raise os_error("install", found.rel, err) from err
    return _install(copy, repository, found.rel)


def _install_anew(found: Found, repository: LocalFiles, copy: str) -> File:
    """Install while another thread copies another name of the same file."""
    mine = f"{copy}-{Digest.random().short}"
    copy_file(found.host, mine)
    return _install(mine, repository, found.rel)


def _inodes(sources: Mapping[Digest, str]) -> dict[tuple[int, int], Digest]:
    inodes = {}
    for digest, path in sources.items():
        try:
            info = os.stat(path)
        except OSError:
            continue
        inodes[info.st_dev, info.st_ino] = digest
    return inodes


class _Walk:
    """Lists the files of one output."""

    def __init__(self, view: View, title: str, limit: int) -> None:
        self._view = view
        self._title = title
        self._limit = limit
        self._found: list[Found] = []

    def files(self, path: str, is_dir: bool | None, *, is_needed: bool) -> list[Found]:
        """The files at ``path`` in the view; ``is_dir`` is what was declared, None when nothing was."""
        place = self._root(path, is_needed)
        if place is None:
            return []
        if stat.S_ISDIR(place.info.st_mode):
            if is_dir is False:
                raise OutputError(f"{self._title} was declared a file, and the command made a directory")
            self._directory(place)
        elif is_dir:
            raise OutputError(f"{self._title} was declared a directory, and the command made a file")
        else:
            self._file(place, ".")
        return self._found

    def _root(self, path: str, is_needed: bool) -> Place | None:
        parent, _, name = path.rpartition("/")
        if not os.path.lexists(f"{self._resolve(parent, 'its directory').host}/{name}"):
            if is_needed:
                raise OutputError(f"{self._title} was not written by the command")
            return None
        return self._resolve(path, ".")

    def _resolve(self, path: str, rel: str) -> Place:
        try:
            return self._view.resolve(path)
        except ViewError as err:
            raise OutputError(f"{self._title}: {rel} is a link that cannot be followed: {err}") from err

    def _directory(self, top: Place) -> None:
        pending: list[tuple[Place, str, tuple[tuple[int, int], ...]]] = [(top, "", (_inode(top),))]
        while pending:
            place, prefix, above = pending.pop()
            if not place.info.st_mode & stat.S_IWUSR:
                # Files are taken out of it.
                with suppress(OSError):
                    os.chmod(place.host, stat.S_IMODE(place.info.st_mode) | stat.S_IRWXU)
            for name in self._names(place, prefix):
                child = self._child(place, name, prefix + name)
                if not stat.S_ISDIR(child.info.st_mode):
                    self._file(child, prefix + name)
                elif _inode(child) in above:
                    raise OutputError(f"{self._title}: {prefix}{name} is a link to a directory above it")
                else:
                    pending.append((child, f"{prefix}{name}/", (*above, _inode(child))))

    def _names(self, place: Place, prefix: str) -> list[str]:
        try:
            return self._view.children(place)
        except OSError as err:
            raise OutputError(f"{self._title}: {prefix or '.'}: {(err.strerror or '').lower()}") from err

    def _child(self, place: Place, name: str, rel: str) -> Place:
        try:
            return self._view.child(place, name)
        except ViewError as err:
            raise OutputError(f"{self._title}: {rel} is a link that cannot be followed: {err}") from err

    def _file(self, place: Place, rel: str) -> None:
        mode = place.info.st_mode
        if not stat.S_ISREG(mode):
            raise OutputError(f"{self._title}: {rel} is {_sort(mode)} ({place.view}), want a file")
        if not os.access(place.host, os.R_OK):
            how = f"{place.view}, mode {stat.filemode(mode)}"
            raise OutputError(f"{self._title}: {rel} cannot be read ({how})")
        self._found.append(Found(rel, place.host, place.info, place.is_foreign))
        if self._limit and len(self._found) > self._limit:
            raise TooManyFiles


def _inode(place: Place) -> tuple[int, int]:
    return place.info.st_dev, place.info.st_ino


def _sort(mode: int) -> str:
    for is_sort, title in (
        (stat.S_ISFIFO, "a fifo"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a block device"),
        (stat.S_ISCHR, "a character device"),
    ):
        if is_sort(mode):
            return title
    return "no file"
