"""From names in the configuration to implementations, which are imported on use."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from reflow.runtime.config import Config, not_supported

if TYPE_CHECKING:
    from reflow.assoc import Assoc
    from reflow.repository import Repository
    from reflow.taskdb import TaskDB

_Opener = tuple[str, Callable[[Config], tuple[Any, ...]]]

_REPOSITORIES: dict[str, _Opener] = {
    "": ("reflow.repository.filerepo:FileRepository", lambda config: (config.repository_dir,)),
    "file": ("reflow.repository.filerepo:FileRepository", lambda config: (config.repository_dir,)),
    "noprepo": ("reflow.repository.filerepo:FileRepository", lambda config: (config.repository_dir,)),
}
_ASSOCS: dict[str, _Opener] = {
    "sqlite": ("reflow.assoc.sqlite:SqliteAssoc", lambda config: (config.assoc_file, config.labels)),
}
_TASKDBS: dict[str, _Opener] = {
    "sqlite": ("reflow.taskdb.sqlite:SqliteTaskDB", lambda config: (config.taskdb_file,)),
    "inmemorytaskdb": ("reflow.taskdb.memory:MemoryTaskDB", lambda config: ()),
}


def _open(table: dict[str, _Opener], config: Config, key: str) -> Any:
    provider = config.provider(key)
    entry = table.get(provider)
    if entry is None:
        raise not_supported(f"{key}: {provider} (see reflow config -help for what there is)")
    path, arguments = entry
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)(*arguments(config))


def open_repository(config: Config) -> Repository:
    """The repository; made if it is not there yet. Raises ReflowError."""
    repository: Repository = _open(_REPOSITORIES, config, "repository")
    return repository


def open_assoc(config: Config) -> Assoc | None:
    """The cache's index, or None when none is configured."""
    if not config.provider("assoc"):
        return None
    assoc: Assoc = _open(_ASSOCS, config, "assoc")
    return assoc


def open_taskdb(config: Config) -> TaskDB | None:
    """The record of runs, or None when none is configured."""
    if config.provider("taskdb") in ("", "noptaskdb"):
        return None
    taskdb: TaskDB = _open(_TASKDBS, config, "taskdb")
    return taskdb


def has_taskdb(config: Config) -> bool:
    """Whether there is a record to be read: a local one that nobody wrote is not made for reading."""
    provider = config.provider("taskdb")
    return provider not in ("", "noptaskdb") and (provider != "sqlite" or os.path.exists(config.taskdb_file))


def has_assoc(config: Config) -> bool:
    """Whether there is an index to be read."""
    provider = config.provider("assoc")
    return provider != "" and (provider != "sqlite" or os.path.exists(config.assoc_file))
