"""Copies of objects from one repository to another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File
from reflow.repository import Repository

CONCURRENCY = 20


async def copy_files(
    files: Iterable[File],
    source: Repository,
    target: Repository,
    *,
    observe: Callable[[int], None] | None = None,
    concurrency: int = CONCURRENCY,
) -> int:
    """Copy those objects that the target has not; the bytes copied.

    ``files`` must be resolved. ``observe`` is told the bytes of each piece. Every copy is checked: an object
    that arrives with another digest is an INTEGRITY error. The first error ends the others.
    """
    sizes = {file.id: file.size for file in files if file.id is not None}
    wanted = await target.missing(sizes)
    limit = asyncio.Semaphore(concurrency)
    total = 0

    def count(size: int) -> None:
        nonlocal total
        total += size
        if observe is not None:
            observe(size)

    async def copy(digest: Digest) -> None:
        async with limit:
            await copy_object(digest, source, target, observe=count)

    try:
        async with asyncio.TaskGroup() as tasks:
            for digest in sorted(wanted):
                tasks.create_task(copy(digest))
    except* ReflowError as group:
        raise _first(group) from group
    return total


async def copy_object(
    digest: Digest, source: Repository, target: Repository, *, observe: Callable[[int], None]
) -> None:
    """Copy one object and check it."""

    async def pieces() -> AsyncIterator[bytes]:
        async for chunk in source.get(digest):
            observe(len(chunk))
            yield chunk

    stored = await target.put(pieces())
    if stored != digest:
        cause = f"{source.url} gave an object whose digest is {stored}"
        raise ReflowError(Kind.INTEGRITY, "repository.copy", digest, cause=cause)


def _first(group: BaseExceptionGroup[ReflowError]) -> ReflowError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def read_object(repository: Repository, digest: Digest) -> bytes:
    """Read a small object whole. Raises what it could not be read for."""
    data = (await repository.read_many([digest]))[digest]
    if isinstance(data, ReflowError):
        raise data
    return data
