"""Objects as new files: whole and as they should be, or not there."""

from __future__ import annotations

import asyncio
import os

from reflow.aws.retry import retrying
from reflow.blob import Observe
from reflow.blob.datapath import DataPath, Received, Target
from reflow.blob.etag import Sums, again_if_damaged
from reflow.blob.gather import gather
from reflow.blob.s3part import READ_PART, Part, parts
from reflow.core.digest import Digest
from reflow.disk.blocking import Blocking, to_the_end
from reflow.disk.filesystem import translate_error

_CHUNK = 1 << 20


class Download:
    """One object, to be at ``path``. With ``known``, its metadata, it comes in parallel parts."""

    def __init__(
        self, data: DataPath, target: Target, known: Received | None, path: str, observe: Observe | None
    ) -> None:
        self._data = data
        self._target = target
        self._known = known
        self._path = path
        self._observe = observe
        self._descriptor = -1

    async def run(self, blocking: Blocking, slots: asyncio.Semaphore) -> Digest:
        """Make the file; its SHA-256. ``slots`` are for parts that come at the same time."""

        async def once() -> Digest:
            received = await self._fetch(slots)
            return await to_the_end(blocking(self._look, received))

        try:
            await to_the_end(blocking(self._make))
            return await again_if_damaged(once)
        except BaseException:
            if self._descriptor >= 0:
                os.unlink(self._path)
            raise
        finally:
            if self._descriptor >= 0:
                os.close(self._descriptor)

    async def _fetch(self, slots: asyncio.Semaphore) -> Received:
        if self._known is None or not self._known.size:
            received = await retrying(lambda: self._data.read_into(self._target, self._descriptor))
            self._tell(received.size)
            return received

        async def fetch(part: Part) -> None:
            async with slots:
                await retrying(lambda: self._data.read_into(self._target, self._descriptor, part))
            self._tell(part.size)

        await gather(fetch, parts(self._known.size, READ_PART))
        return self._known

    def _tell(self, size: int) -> None:
        if self._observe is not None:
            self._observe(size)

    def _make(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._descriptor = os.open(self._path, flags, 0o644)
        except OSError as err:
            raise translate_error(err, "s3.get_object", self._path) from err

    def _look(self, received: Received) -> Digest:
        """Cut off what an earlier try may have left, and compare."""
        sums = Sums(received, digest=True)
        offset = 0
        try:
            os.ftruncate(self._descriptor, received.size)
            while chunk := os.pread(self._descriptor, _CHUNK, offset):
                sums.update(chunk)
                offset += len(chunk)
        except OSError as err:
            raise translate_error(err, "s3.get_object", self._path) from err
        sums.check("s3.get_object", self._target.url)
        return sums.digest()
