"""From names in the configuration to implementations, which are imported on use."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from reflow.core.errors import Kind, ReflowError
from reflow.runtime.config import Config, not_supported

if TYPE_CHECKING:
    from reflow.assoc import Assoc
    from reflow.aws.session import AwsSession
    from reflow.blob import Bucket, Store
    from reflow.core.digest import Digest
    from reflow.repository import Repository
    from reflow.repository.blobrepo import BlobRepository
    from reflow.repository.filerepo import FileRepository
    from reflow.taskdb import TaskDB

_S3_STORE = "reflow.blob.s3:S3Store"

_SHARED = ("dynamodbassoc", "dynamodbtask")

_Opener = tuple[str, Callable[[Config], tuple[Any, ...]]]

_REPOSITORIES: dict[str, _Opener] = {
    "": ("reflow.repository.filerepo:FileRepository", lambda config: (config.repository_dir,)),
    "file": ("reflow.repository.filerepo:FileRepository", lambda config: (config.repository_dir,)),
    "noprepo": ("reflow.repository.filerepo:FileRepository", lambda config: (config.repository_dir,)),
    "s3": (
        "reflow.repository.layered:LayeredRepository",
        lambda config: (
            local_repository(config),
            bucket_repository(required(config, "repository", "bucket")),
        ),
    ),
}
_ASSOCS: dict[str, _Opener] = {
    "sqlite": ("reflow.assoc.sqlite:SqliteAssoc", lambda config: (config.assoc_file, config.labels)),
    "dynamodbassoc": (
        "reflow.assoc.dynamodb:DynamoAssoc",
        lambda config: (aws_session(), required(config, "assoc", "table"), config.labels),
    ),
}
_TASKDBS: dict[str, _Opener] = {
    "sqlite": ("reflow.taskdb.sqlite:SqliteTaskDB", lambda config: (config.taskdb_file,)),
    "dynamodbtask": (
        "reflow.taskdb.dynamodb:DynamoTaskDB",
        lambda config: (
            aws_session(),
            required(config, "taskdb", "table"),
            bucket_repository(required(config, "taskdb", "bucket")),
            config.labels,
        ),
    ),
    "inmemorytaskdb": ("reflow.taskdb.memory:MemoryTaskDB", lambda config: ()),
}


def _open(table: dict[str, _Opener], config: Config, key: str) -> Any:
    provider = config.provider(key)
    entry = table.get(provider)
    if entry is None:
        raise not_supported(f"{key}: {provider} (see reflow config -help for what there is)")
    path, arguments = entry
    return _load(path)(*arguments(config))


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def required(config: Config, key: str, flag: str) -> str:
    """A flag of a key's provider that has no default. Raises ReflowError when it is not given."""
    choice = config.choice(key)
    value = choice.flags.get(flag, "") if choice is not None else ""
    if not value:
        provider = config.provider(key)
        cause = f"{key}: {provider} has no {flag}: want {provider},{flag}=NAME in {config.path or 'the file'}"
        raise ReflowError(Kind.INVALID, "config", cause=cause)
    return value


def aws_session() -> AwsSession:
    """The session of this process."""
    return _session()


@cache
def _session() -> AwsSession:
    session: AwsSession = _load("reflow.aws.session:AwsSession")()
    return session


@cache
def _s3_store() -> Store:
    store: Store = _load(_S3_STORE)(aws_session())
    return store


async def close_connections() -> None:
    """Let go of what is connected to AWS, when nothing uses it any more."""
    if _s3_store.cache_info().currsize:
        await _s3_store().close()
        _s3_store.cache_clear()
    if _session.cache_info().currsize:
        _session().close()
        _session.cache_clear()


async def open_bucket(scheme: str, name: str) -> Bucket:
    """The bucket that a URL names. Raises NOT_SUPPORTED for other schemes, NOT_EXIST, NOT_ALLOWED."""
    if scheme != "s3":
        raise ReflowError(Kind.NOT_SUPPORTED, cause=f"no implementation for scheme {scheme}")
    return await _s3_store().bucket(name)


def bucket_repository(name: str) -> BlobRepository:
    """The repository in an S3 bucket, which is opened on use."""
    repository: BlobRepository = _load("reflow.repository.blobrepo:BlobRepository")(
        f"s3://{name}/", partial(_s3_store().bucket, name)
    )
    return repository


def local_repository(config: Config) -> FileRepository:
    """The objects of this machine."""
    repository: FileRepository = _load("reflow.repository.filerepo:FileRepository")(config.repository_dir)
    return repository


def without_sharing(config: Config) -> Config:
    """The same configuration, keeping entries and rows on this machine."""
    values = dict(config.values)
    for key, name in (("assoc", "sqlite"), ("taskdb", "sqlite")):
        if config.provider(key) in _SHARED:
            values[key] = name
    return Config(values, config.path)


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


def recorded_objects(config: Config) -> AsyncIterator[Digest] | None:
    """The objects that rows of a shared record of runs refer to; None when the record is not shared."""
    if config.provider("taskdb") != "dynamodbtask":
        return None
    inspections = bucket_repository(required(config, "taskdb", "bucket"))
    found: AsyncIterator[Digest] = _load("reflow.taskdb.dynamorefs:object_references")(
        aws_session(), required(config, "taskdb", "table"), inspections.read_many
    )
    return found


def has_taskdb(config: Config) -> bool:
    """Whether there is a record to be read: a local one that nobody wrote is not made for reading."""
    provider = config.provider("taskdb")
    return provider not in ("", "noptaskdb") and (provider != "sqlite" or os.path.exists(config.taskdb_file))


def has_assoc(config: Config) -> bool:
    """Whether there is an index to be read."""
    provider = config.provider("assoc")
    return provider != "" and (provider != "sqlite" or os.path.exists(config.assoc_file))
