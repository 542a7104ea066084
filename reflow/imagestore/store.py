"""The image store: what executors and commands call."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from reflow.core.errors import Kind, ReflowError
from reflow.disk.filesystem import translate_error
from reflow.imagestore import Image, Kept
from reflow.imagestore.failure import ImageError
from reflow.imagestore.job import Job, Limits, run_in_thread
from reflow.imagestore.platform import Platform, local_platform
from reflow.imagestore.search import Search, Surroundings, wanted_image
from reflow.imagestore.shelf import Shelf
from reflow.pool import Progress

AT_ONCE = 2
"""Images that are made available at the same time; each fetches several layers at once."""

GRACE_S = 86400.0
"""What was used within this time is not collected."""


def _say_nothing(text: str) -> None:
    """Nobody listens."""


@contextmanager
def _translated(op: str, subject: str, root: str) -> Iterator[None]:
    try:
        yield
    except ImageError as err:
        raise ReflowError(err.kind, op, subject, cause=str(err)) from err
    except OSError as err:
        found = translate_error(err, op, root)
        where = "" if err.filename == subject else f" (in {root})"
        raise ReflowError(found.kind, op, subject, cause=f"{found.cause}{where}") from err


class ImageStore:
    """The images below one directory, which is made when it is needed.

    ``inform`` is told what a user may want to know, from any thread. ``config_digest`` tells the id of the
    image that a resolved name stands for, when that was learnt. ``REFLOW_REGISTRY=host:port`` stands for
    Docker Hub, by plain HTTP.
    """

    def __init__(
        self,
        root: str,
        *,
        inform: Callable[[str], None] | None = None,
        config_digest: Callable[[str], str | None] | None = None,
        limits: Limits | None = None,
        platform: Platform | None = None,
    ) -> None:
        self._shelf = Shelf(os.path.abspath(root))
        self._config_digest = config_digest
        self._around = Surroundings(
            self._shelf,
            limits or Limits(),
            platform or local_platform(),
            os.environ.get("REFLOW_REGISTRY", ""),
            inform or _say_nothing,
        )
        self._images: dict[tuple[str, str], Image] = {}
        self._failures: dict[tuple[str, str], tuple[float, ReflowError]] = {}
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}
        self._room = asyncio.Semaphore(AT_ONCE)

    async def ensure(self, reference: str, original: str = "", *, progress: Progress | None = None) -> Image:
        """Make an image available: find it, and unpack it if need be; it is then in use until `close`.

        ``reference`` is the name that entered cache keys, ``original`` the one in the program: an image that
        the daemon knows by that name only is taken if it is the very same. Idempotent, and safe to cancel:
        nothing half-made stays. Raises ReflowError as the package's text says.
        """
        key = (reference, original)
        if key in self._images:
            return self._images[key]
        if not reference:
            raise ReflowError(Kind.INVALID, "image", cause="the exec names no image")
        asked_s = time.monotonic()
        async with self._locks.setdefault(key, asyncio.Lock()):
            if key in self._images:
                return self._images[key]
            failed_s, error = self._failures.get(key, (0.0, None))
            if error is not None and failed_s >= asked_s:
                raise error  # all its tries were made while we waited
            try:
                async with self._room:
                    self._images[key] = await self._ensure(reference, original, progress)
            except ReflowError as err:
                self._failures[key] = (time.monotonic(), err)
                raise
            return self._images[key]

    def find(self, reference: str, original: str = "") -> Image | None:
        """The image if it can be had without asking anybody: unpacked here, by digest or as it was loaded.

        It is then in use. Quick, but for a moment when another run is just removing it.
        """
        job = Job()
        try:
            wanted = wanted_image(reference, original, self._id(reference))
        except ReflowError:
            return None
        try:
            return Search(self._around, wanted, job).kept()
        except OSError:
            return None

    def forget(self, reference: str, original: str = "") -> None:
        """Look again the next time: the image turned out to be gone."""
        self._images.pop((reference, original), None)

    async def load(self, path: str, name: str = "", *, progress: Progress | None = None) -> list[Kept]:
        """Take the images of an archive (``docker save``, OCI layout) into the store; ``-`` is stdin.

        ``name`` names the image of an archive with one; else the names are those in the archive. Raises
        ReflowError: INVALID for what is no such archive, NOT_SUPPORTED for images of other machines, and
        whatever `ensure` raises for a bad layer or a full disk.
        """
        from reflow.imagestore.load import Loader

        def work(job: Job) -> list[Kept]:
            with _translated("load images", path, self._shelf.root):
                ids = Loader(self._around, path, name, job).run()
            return [row for row in self._shelf.kept() if row.id in ids]

        return await run_in_thread(work, progress)

    def kept(self) -> list[Kept]:
        """All images of the store, those used last first. Blocks."""
        return self._shelf.kept()

    def collect(self, unused_since_s: float, *, dry_run: bool = False) -> list[Kept]:
        """Remove images that nobody uses, and has not since a time (seconds since 1970); which they are.

        What was used within the last day stays. Blocks. Raises ReflowError.
        """
        with _translated("collect images", self._shelf.root, self._shelf.root):
            return self._collect(unused_since_s, dry_run)

    async def close(self) -> None:
        """Let go of all images."""
        self._images.clear()
        self._shelf.release()

    def _collect(self, unused_since_s: float, dry_run: bool) -> list[Kept]:
        limit_s = min(unused_since_s, time.time() - GRACE_S)
        old = [row for row in self._shelf.kept() if row.used_s < limit_s and not row.is_used]
        return [row for row in old if dry_run or self._shelf.remove(row.id, Job())]

    async def _ensure(self, reference: str, original: str, progress: Progress | None) -> Image:
        wanted = wanted_image(reference, original, self._id(reference))

        def work(job: Job) -> Image:
            with _translated("image", reference, self._shelf.root):
                os.makedirs(self._shelf.root, exist_ok=True)
                return Search(self._around, wanted, job).run()

        return await run_in_thread(work, progress)

    def _id(self, reference: str) -> str | None:
        return self._config_digest(reference) if self._config_digest is not None else None
