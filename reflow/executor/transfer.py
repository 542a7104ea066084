"""Interns and externs of local files: ``localfile://`` URLs.

An intern copies a file or a tree into the repository, an extern the files of its argument to a path. Neither
shares anything with the user's files: each may be changed afterwards.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from urllib.parse import urlsplit

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, InputArg
from reflow.core.fileset import File, Fileset
from reflow.executor.copying import copy_file
from reflow.executor.layout import os_error
from reflow.executor.staging import inner_path
from reflow.pool import InputLocator
from reflow.repository import LocalFiles

SCHEME = "localfile"


class Transfer:
    """An intern or extern. Copies are made in ``scratch``, an empty directory of its own."""

    def __init__(
        self, config: ExecConfig, repository: LocalFiles, locator: InputLocator, scratch: str
    ) -> None:
        assert config.type in ("intern", "extern")
        self._config = config
        self._repository = repository
        self._locator = locator
        self._scratch = scratch
        self._is_stopped = False

    def perform(self) -> Fileset:
        """Do it; the files that were moved. Blocks.

        Raises NOT_SUPPORTED for other schemes, NOT_EXIST when there is nothing at the path.
        Source: local/localfile.go, (*localfileExec).do.
        """
        config = self._config
        path = _local_path(config)
        try:
            return self._intern(path) if config.type == "intern" else self._extern(path)
        except OSError as err:
            raise os_error(config.type, config.url, err) from err

    def stop(self) -> None:
        """End `perform` soon, with CANCELED. May be called from another thread."""
        self._is_stopped = True

    def _observe(self, size_bytes: int) -> None:
        if self._is_stopped:
            raise ReflowError(Kind.CANCELED, self._config.type, self._config.url)

    def _intern(self, path: str) -> Fileset:
        if not stat.S_ISDIR(os.stat(path).st_mode):
            return Fileset.of_file(self._install_copy(path))
        files: dict[str, File] = {}
        for directory, names, leaves in os.walk(path, followlinks=True, onerror=_raise):
            names.sort()
            for name in leaves:
                source = os.path.join(directory, name)
                files[os.path.relpath(source, path)] = self._install_copy(source)
        return Fileset(files)

    def _install_copy(self, source: str) -> File:
        if not stat.S_ISREG(os.stat(source).st_mode):
            raise ReflowError(Kind.INVALID, "intern", source, cause="neither a file nor a directory")
        copy = f"{self._scratch}/copy"
        copy_file(source, copy, self._observe)
        return self._repository.install(copy)

    def _extern(self, path: str) -> Fileset:
        args = self._config.args
        if len(args) != 1 or not isinstance(args[0], InputArg):
            detail = f"extern needs one argument, got {len(args)}"
            raise ReflowError(Kind.PRECONDITION, "extern", self._config.url, cause=detail)
        fileset = args[0].fileset.pullup()
        for rel, file in fileset.files.items():
            if file.id is None:
                raise ReflowError(Kind.INVALID, "extern", file.source, cause="unresolved file")
            target = path.rstrip("/") if rel == "." else os.path.join(path, inner_path(rel))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            _place(self._locator.locate(file.id)[0], target, self._observe)
        return fileset


def _local_path(config: ExecConfig) -> str:
    scheme = urlsplit(config.url).scheme
    if scheme != SCHEME:
        detail = f"no implementation for scheme {scheme}"
        raise ReflowError(Kind.NOT_SUPPORTED, config.type, config.url, cause=detail)
    # Not by urlsplit: a path may hold any character.
    return config.url[len(SCHEME) + len("://") :]


def _raise(err: OSError) -> None:
    raise err


def _place(source: str, target: str, observe: Callable[[int], None]) -> None:
    """Copy beside the target, then rename: nobody sees half a file."""
    part = f"{target}.reflow-{Digest.random().short}"
    try:
        copy_file(source, part, observe)
        os.utime(part)
        os.rename(part, target)
    finally:
        if os.path.lexists(part):
            os.unlink(part)
