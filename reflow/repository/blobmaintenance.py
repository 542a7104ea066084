"""Removing objects of a repository in a bucket.

When an object was last of use is the time at which it was stored: reading does not change it. Objects of
somebody who stores them again while we collect are new; that is looked at again just before they are removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError, kind_of
from reflow.repository.blobrepo import BlobRepository
from reflow.repository.gather import gather_all
from reflow.repository.maintenance import ObjectPlace
from reflow.repository.objectdir import StoredObject

_OBJECTS = "objects/"
_UPLOADS = "uploads/"
_REMOVED_AT_ONCE = 1000
_ASKED_AT_ONCE = 64


class Uploads(NamedTuple):
    """Unfinished uploads: how many, and how many of them (and bytes) were, or would be, removed."""

    uploads: int
    removed: int
    removed_bytes: int


class BlobObjects:
    """The objects of a repository. ``strangers`` counts keys among them that are no digests; these stay."""

    def __init__(self, repository: BlobRepository, prefix: str = "") -> None:
        self._repository = repository
        self._prefix = prefix
        self.strangers = 0

    async def objects(self, number: int) -> AsyncIterator[StoredObject]:
        """The objects whose digests begin with a byte."""
        bucket = await self._repository.bucket()
        start = f"{self._prefix}{_OBJECTS}"
        async for key, file in bucket.scan(f"{start}sha256:{number:02x}"):
            try:
                digest = Digest.parse(key.removeprefix(start))
            except ValueError:
                self.strangers += 1
                continue
            if self._repository.key(digest) == key:
                yield StoredObject(digest, file.size, _seconds(file.last_modified))
            else:
                self.strangers += 1

    async def remove(self, objects: Sequence[StoredObject]) -> Sequence[StoredObject]:
        """Remove objects that were not stored again since they were listed."""
        bucket = await self._repository.bucket()
        slots = asyncio.Semaphore(_ASKED_AT_ONCE)

        async def is_unused(each: StoredObject) -> bool:
            async with slots:
                try:
                    file = await bucket.file(self._repository.key(each.digest))
                except ReflowError as err:
                    if kind_of(err) is not Kind.NOT_EXIST:
                        raise
                    return False
                changed = file.last_modified
                return changed is not None and int(changed.timestamp()) <= int(each.changed_s)

        answers = await gather_all([is_unused(each) for each in objects])
        unused = [each for each, answer in zip(objects, answers, strict=True) if answer]
        await bucket.delete([self._repository.key(each.digest) for each in unused])
        return unused

    async def collect_uploads(self, before_s: float, *, dry_run: bool) -> Uploads:
        """Remove what the original left below ``uploads/`` when it was killed, if stored before a time."""
        bucket = await self._repository.bucket()
        going: list[str] = []
        uploads = removed = size = 0
        async for key, file in bucket.scan(f"{self._prefix}{_UPLOADS}"):
            uploads += 1
            if _seconds(file.last_modified) > before_s:
                continue
            removed += 1
            size += file.size
            if not dry_run:
                going.append(key)
            if len(going) == _REMOVED_AT_ONCE:
                await bucket.delete(going)
                going.clear()
        if going:
            await bucket.delete(going)
        return Uploads(uploads, removed, size)


def _seconds(moment: datetime | None) -> float:
    """A time of change; one that is not known counts as now and later."""
    return float("inf") if moment is None else moment.timestamp()


if TYPE_CHECKING:
    _: type[ObjectPlace] = BlobObjects
