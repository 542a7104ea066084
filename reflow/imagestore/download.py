"""Layers fetched from a registry: several at a time, each checked while it comes."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from types import TracebackType

from reflow.core.errors import Kind
from reflow.imagestore.failure import ImageError, StoppedError
from reflow.imagestore.job import Job, Limits
from reflow.imagestore.manifest import Descriptor
from reflow.imagestore.registry import Registry
from reflow.imagestore.stream import CHUNK_BYTES, DigestReader

AT_ONCE = 4

_POLL_S = 0.1
_JOIN_S = 5.0
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


def fetch_blob(registry: Registry, blob: Descriptor, limit: int) -> bytes:
    """A configuration, checked. Raises ImageError."""
    with registry.blob(blob.digest) as reply:
        reader = DigestReader(reply)
        parts = []
        while chunk := reader.read(CHUNK_BYTES):
            parts.append(chunk)
            if reader.count > limit:
                raise ImageError(Kind.INVALID, f"{registry.shown}: {blob.digest} has more than {limit} bytes")
    _check(registry, blob, reader)
    return b"".join(parts)


class Downloads:
    """The layers of one image, being fetched into a directory as long as the block lasts.

    Each is tried several times, from its beginning; whatever happens, no thread is left at the end.
    """

    def __init__(
        self, registry: Registry, layers: Sequence[Descriptor], directory: str, job: Job, limits: Limits
    ) -> None:
        unique = {each.digest: each for each in layers}
        self.total_bytes = sum([max(each.size, 0) for each in unique.values()])
        self._registry = registry
        self._directory = directory
        self._job = job
        self._limits = limits
        self._left = list(unique.values())
        self._done: set[str] = set()
        self._counts: dict[str, int] = {}
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name=f"layer-{number}", daemon=True)
            for number in range(min(AT_ONCE, len(self._left)))
        ]

    def __enter__(self) -> Downloads:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._job.stop()
        for thread in self._threads:
            thread.join(_JOIN_S)

    def wait(self, layer: Descriptor, outer: Job, what: str) -> str:
        """The file with a layer, once it is here; tells how much of all of them is. Raises ImageError."""
        while True:
            with self._changed:
                if layer.digest not in self._done and self._error is None:
                    self._changed.wait(_POLL_S)
                is_here, error = layer.digest in self._done, self._error
                count = sum(self._counts.values())
            outer.check()
            if is_here:
                return self._path(layer)
            outer.tell(what, min(count, self.total_bytes), self.total_bytes)
            if error is not None:
                raise error

    def discard(self, layer: Descriptor) -> None:
        """Delete a layer that is not needed again."""
        with contextlib.suppress(OSError):
            os.unlink(self._path(layer))

    def _path(self, layer: Descriptor) -> str:
        return f"{self._directory}/{layer.digest.partition(':')[2]}"

    def _work(self) -> None:
        try:
            while (layer := self._next()) is not None:
                self._fetch(layer)
        except StoppedError:
            pass
        except BaseException as err:  # noqa: BLE001  (it is raised where the layer is waited for)
            with self._changed:
                self._error = self._error or err
                self._changed.notify_all()

    def _next(self) -> Descriptor | None:
        with self._changed:
            return self._left.pop(0) if self._left and self._error is None else None

    def _fetch(self, layer: Descriptor) -> None:
        self._job.persist(self._limits, lambda: self._fetch_once(layer))
        with self._changed:
            self._done.add(layer.digest)
            self._changed.notify_all()

    def _fetch_once(self, layer: Descriptor) -> None:
        with self._changed:
            self._counts[layer.digest] = 0
        file = os.open(self._path(layer), _NEW_FILE, 0o600)
        try:
            with self._registry.blob(layer.digest) as reply:
                reader = DigestReader(reply, lambda count: self._count(layer, count))
                while chunk := reader.read(CHUNK_BYTES):
                    _write(file, chunk)
                    if reader.count > layer.size >= 0:
                        break
        finally:
            os.close(file)
        _check(self._registry, layer, reader)

    def _count(self, layer: Descriptor, count: int) -> None:
        self._job.check()
        with self._changed:
            self._counts[layer.digest] += count


def _write(file: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(file, view) :]


def _check(registry: Registry, blob: Descriptor, reader: DigestReader) -> None:
    if reader.count != blob.size >= 0:
        more = "more than" if reader.count > blob.size else "only"
        got = blob.size if reader.count > blob.size else reader.count
        detail = f"{blob.digest} has {more} {got} bytes, want {blob.size}"
        raise ImageError(Kind.INTEGRITY, f"{registry.shown}: {detail}")
    if reader.digest != blob.digest:
        detail = f"what it sends as {blob.digest} is {reader.digest}"
        raise ImageError(Kind.INTEGRITY, f"{registry.shown}: {detail}")
