"""Local files that nodes wait for: hashed by one job at a time, so that none is read twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence

from reflow.core.errors import Kind, ReflowError
from reflow.eval.cell import Cell
from reflow.eval.worklist import WorkList
from reflow.flow.data import LocalFile

HashFiles = Callable[[Sequence[LocalFile]], Awaitable[None]]


class Hashing:
    """Empties the work-list's ``to_hash``. ``fail`` is told of cells whose files cannot be read."""

    def __init__(
        self,
        work: WorkList,
        hash_files: HashFiles | None,
        fail: Callable[[Cell, BaseException], None],
    ) -> None:
        self._work = work
        self._hash_files = hash_files or _hash_in_thread
        self._fail = fail
        self._is_busy = False

    def begin(self) -> bool:
        """Tell whether `run` is to be called now; until it has ended it is not."""
        if not self._work.to_hash or self._is_busy:
            return False
        self._is_busy = True
        return True

    async def run(self) -> None:
        """Hash what cells wait for, until none does."""
        while self._work.to_hash:
            batch, self._work.to_hash = self._work.to_hash, []
            try:
                await self._hash([file for _, files in batch for file in files])
            except ReflowError:
                # Some file cannot be read: find out whose.
                for cell, files in batch:
                    await self._hash_for(cell, files)
            else:
                for cell, _ in batch:
                    self._work.hashed(cell)
        self._is_busy = False

    async def _hash_for(self, cell: Cell, files: Sequence[LocalFile]) -> None:
        try:
            await self._hash(files)
        except ReflowError as err:
            self._fail(cell, err)
        else:
            self._work.hashed(cell)

    async def _hash(self, files: Iterable[LocalFile]) -> None:
        unknown = [file for file in dict.fromkeys(files) if not file.is_hashed]
        if unknown:
            await self._hash_files(unknown)


async def _hash_in_thread(files: Sequence[LocalFile]) -> None:
    """Hash files; the thread stops soon after a cancellation."""
    is_cancelled = threading.Event()

    def observe(count: int) -> None:
        if is_cancelled.is_set():
            raise ReflowError(Kind.CANCELED, "hash")

    try:
        for file in files:
            await asyncio.to_thread(file.hash, observe)
    finally:
        is_cancelled.set()
