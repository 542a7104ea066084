"""``reflow sync``: a cached result as files. Source: tool/sync.go."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, Fatal
from reflow.core.digest import DigestPrefix
from reflow.core.errors import Kind, ReflowError, kind_of
from reflow.core.fileset import File, Fileset

if TYPE_CHECKING:
    from reflow.assoc import Assoc
    from reflow.repository import Repository

_DETAILS = """\
Sync copies the files of a cached result below a path. The result is named by any key of the cache that it
has ("reflow info" shows it); of a list, -index names the member.

Files that are there already, with the right size and contents, are left alone; others are replaced, and files
that are not part of the result stay. -sizeonly does not look at contents."""

_AT_ONCE = 8


def run(app: App, arguments: Arguments) -> int:
    """Find the result, then copy what differs."""
    word, base = arguments.words
    try:
        prefix = DigestPrefix.parse(word)
    except ValueError as err:
        raise Fatal(f"parse {word}: {err}") from err
    return app.run_async(_sync(app, arguments, prefix, base))


async def _sync(app: App, arguments: Arguments, prefix: DigestPrefix, base: str) -> int:
    from reflow.runtime.wiring import has_assoc, open_assoc, open_repository

    if not has_assoc(app.config):
        raise Fatal(f"lookup {prefix}: resource does not exist: nothing is cached yet")
    repository, assoc = open_repository(app.config), open_assoc(app.config)
    assert assoc is not None
    try:
        fileset = _chosen(await _find(app, assoc, repository, prefix), arguments["index"])
        names = iter(fileset.sorted_paths())

        async def place_some() -> None:
            for name in names:
                path, file = os.path.join(base, name), fileset.files[name]
                await _place(app, repository, path, file, size_only=arguments["sizeonly"])

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(place_some())
    finally:
        await repository.close()
        await assoc.close()
    return 0


async def _find(app: App, assoc: Assoc, repository: Repository, prefix: DigestPrefix) -> Fileset:
    """The cached fileset of that name. Raises Fatal or ReflowError."""
    from reflow.assoc import Kind as AssocKind
    from reflow.cli.cachekey import cache_keys_of
    from reflow.core.filesetcodec import decode_fileset

    for key in await cache_keys_of(app, assoc, prefix):
        found = await assoc.get_many([(AssocKind.FILESET_V2, key.stored), (AssocKind.FILESET, key.stored)])
        for (kind, _), value in found.items():
            if isinstance(value, ReflowError):
                raise value
            data = (await repository.read_many([value]))[value]
            if isinstance(data, ReflowError):
                raise data
            return decode_fileset(data, kind)
    raise Fatal(f"lookup {prefix}: resource does not exist: no cached result has this key")


def _chosen(fileset: Fileset, index: int) -> Fileset:
    """The fileset whose files are to be copied. Raises Fatal."""
    if not fileset.count():
        raise Fatal("fileset is empty")
    if fileset.members:
        if not 0 <= index < len(fileset.members):
            raise Fatal(f"index {index} out of bounds: list is size {len(fileset.members)}")
        fileset = fileset.members[index]
    if list(fileset.files) == ["."]:
        raise Fatal("fileset is singular")
    return fileset


async def _place(app: App, repository: Repository, path: str, file: File, *, size_only: bool) -> None:
    """Copy a file unless it is there already."""
    if file.id is None:
        raise Fatal(f"{path}: {file.source or 'the file'} is not in the repository")
    if await asyncio.to_thread(_is_there, path, file, size_only):
        app.log.info(f"{path}: up to date")
        return
    app.log.info(f"copying {path} {file.id.hex()}")
    scratch = await asyncio.to_thread(_make_room, path)
    try:
        await _fetch(repository, file, scratch)
        os.replace(scratch, path)
    except BaseException as err:
        with contextlib.suppress(OSError):
            os.unlink(scratch)
        if isinstance(err, ReflowError) and kind_of(err) is Kind.NOT_EXIST:
            raise Fatal(f"{path}: its contents are not in the repository any more: {file.id}") from err
        raise


async def _fetch(repository: Repository, file: File, path: str) -> None:
    """Write an object to a new file: from a bucket in parallel parts, unless this machine has it."""
    from reflow.repository.layered import LayeredRepository

    assert file.id is not None
    if isinstance(repository, LayeredRepository) and await repository.local.missing([file.id]):
        await repository.shared.download(file, path)
        return
    with await asyncio.to_thread(open, path, "wb") as stream:
        async for chunk in repository.get(file.id):
            await asyncio.to_thread(stream.write, chunk)


def _is_there(path: str, file: File, size_only: bool) -> bool:
    from reflow.repository.objectfile import hash_file

    try:
        if os.stat(path).st_size != file.size:
            return False
        return size_only or hash_file(path).digest == file.id
    except FileNotFoundError:
        return False


def _make_room(path: str) -> str:
    """Make the directory of a file; the path of a scratch file there."""
    directory, name = os.path.split(path)
    os.makedirs(directory or ".", exist_ok=True)
    return os.path.join(directory, f".{name[:100]}.{os.getpid()}.part")


COMMAND = Command(
    "sync",
    "sync [-sizeonly] [-index n] fileset path",
    _DETAILS,
    run,
    flags=[
        ("index", "int", "0", "which member, when the fileset is a list"),
        ("sizeonly", "bool", "false", "files of equal size count as the same"),
    ],
    min_words=2,
    max_words=2,
)
