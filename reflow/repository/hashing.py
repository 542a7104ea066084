"""Hashing of many files: a few small ones at once, the rest in threads, with progress."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.signature import Signature
from reflow.disk.controlgroup import usable_cpus

HashProgress = Callable[[int, int, int, int], None]
"""Told files done, files in all, bytes done, bytes in all."""

_INTERVAL_S = 0.1
_SLICE_S = 0.02
_BATCH_BYTES = 8 << 20
_BATCH_FILES = 64
_REMOTE_THREADS = 8
_ATTEMPTS = 3


class InputFile(Protocol):
    """A file that is hashed here: `reflow.flow.data.LocalFile`, which lives in a higher layer."""

    path: str
    size: int
    signature: Signature

    @property
    def is_hashed(self) -> bool:
        """Whether the digests are known."""
        ...

    @property
    def digest(self) -> Digest:
        """Digest of the bytes."""
        ...

    @property
    def data_digest(self) -> Digest:
        """Digest of the `Data` flow."""
        ...

    def hash(self, observe: Callable[[int], None] | None = None) -> None:
        """Read the file."""
        ...

    def supply(self, file_digest: Digest, data_digest: Digest, signature: Signature) -> None:
        """Take digests that were computed before."""
        ...


class _StoppedError(Exception):
    """Raised inside a read when nobody waits for it any more."""


async def hash_inline(files: Sequence[InputFile], progress: HashProgress | None) -> None:
    """Hash few and small files where we are; others get their turn every 20 ms."""
    total = sum(file.size for file in files)
    done = 0
    pause_s = time.monotonic() + _SLICE_S
    for index, file in enumerate(files):
        _hash(file, None)
        done += file.size
        if time.monotonic() > pause_s:
            if progress is not None:
                progress(index + 1, len(files), done, total)
            await asyncio.sleep(0)
            pause_s = time.monotonic() + _SLICE_S
    if progress is not None:
        progress(len(files), len(files), done, total)


async def hash_in_threads(
    files: Sequence[InputFile], progress: HashProgress | None, *, is_remote: bool
) -> None:
    """Hash files in as many threads as there are processors (more when waiting is what takes the time)."""
    # Imported on use: most runs have few and small inputs.
    from concurrent.futures import ThreadPoolExecutor

    count = _REMOTE_THREADS if is_remote else usable_cpus()
    counter = _Counter(files)
    threads = ThreadPoolExecutor(count, "hash")
    loop = asyncio.get_running_loop()
    waiting: set[asyncio.Future[None]] = set()
    try:
        waiting = {loop.run_in_executor(threads, counter.hash, batch) for batch in _batches(files)}
        while waiting:
            finished, waiting = await asyncio.wait(
                waiting, timeout=_INTERVAL_S, return_when=asyncio.FIRST_EXCEPTION
            )
            counter.report(progress)
            errors = [err for each in finished if (err := each.exception()) is not None]
            if errors:
                raise errors[0]
    finally:
        counter.is_stopped = True
        for each in waiting:
            each.cancel()
        threads.shutdown(wait=False, cancel_futures=True)


class _Counter:
    """Counts what threads have done, and tells them to stop."""

    def __init__(self, files: Sequence[InputFile]) -> None:
        self.files = len(files)
        self.bytes = sum(file.size for file in files)
        self.done_files = 0
        self.done_bytes = 0
        self.is_stopped = False
        self._lock = threading.Lock()

    def hash(self, batch: Sequence[InputFile]) -> None:
        """Hash files one after the other."""
        for file in batch:
            try:
                _hash(file, self._observe)
            except _StoppedError:
                return
            with self._lock:
                self.done_files += 1

    def _observe(self, size: int) -> None:
        if self.is_stopped:
            raise _StoppedError
        with self._lock:
            self.done_bytes += size

    def report(self, progress: HashProgress | None) -> None:
        """Tell how far it is."""
        if progress is not None:
            progress(self.done_files, self.files, min(self.done_bytes, self.bytes), self.bytes)


def _batches(files: Sequence[InputFile]) -> Iterator[list[InputFile]]:
    """Large files first and alone, so that all threads end at the same time; small ones together."""
    batch: list[InputFile] = []
    size = 0
    for file in sorted(files, key=lambda file: -file.size):
        batch.append(file)
        size += file.size
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_FILES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _hash(file: InputFile, observe: Callable[[int], None] | None) -> None:
    """Hash a file; again when it changed while it was read, but not for ever."""
    for _ in range(_ATTEMPTS - 1):
        try:
            file.hash(observe)
        except ReflowError as err:
            if err.kind is not Kind.TEMPORARY:
                raise
        else:
            return
    file.hash(observe)
