"""The images that are here: used by many, made by one, removed when nobody uses them. All of it blocks."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from reflow.imagestore import Image, Kept, lock
from reflow.imagestore.failure import ImageError
from reflow.imagestore.index import Index
from reflow.imagestore.job import Job
from reflow.imagestore.lock import Lock
from reflow.imagestore.manifest import digest_of, parse_config

ROOT = "root"
"""Name of the root file system in an image's directory, and in the directory of work that makes one."""

_POLL_S = 0.1
_CONFIG = "config.json"
_ABOUT = "about.json"


class Made(NamedTuple):
    """What was made in a directory of work, beside its ``root``: the configuration and a few facts."""

    config: bytes
    digest: str
    source: str
    size_bytes: int
    files: int


class Shelf:
    """The store's directory. An image that was used once is in use until `release`."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.index = Index(root)
        self._held: dict[str, Lock] = {}
        self._guard = threading.Lock()

    def use(self, id: str, job: Job) -> Image | None:
        """The image, which is now in use; None when it is not here. Waits while it is made or removed."""
        image = self._read(id)
        if image is None or id in self._held:
            return image
        held = lock.wait(self._lock_path(id), job, "waiting for another run", shared=True)
        image = self._read(id)
        with self._guard:
            if image is None or id in self._held:
                held.release()
            else:
                held.touch()
                self._held[id] = held
        return image

    def unpack_once(self, claim: str, job: Job, what: str, make: Callable[[str], Made]) -> Image:
        """Use the image that ``claim`` stands for; if it is not here, one of all that want it makes it.

        ``claim`` is its id, or another digest of it as long as the id is unknown. ``make`` gets a directory
        of work and leaves ``root`` there; what it raises leaves nothing behind.
        """
        while True:
            image = self.use(self._id(claim), job)
            if image is not None:
                return image
            self._once(claim, lambda: self._id(claim), job, what, lambda: self._make(claim, job, what, make))

    @contextmanager
    def working(self) -> Iterator[str]:
        """A directory of work, on the same disk."""
        lock.sweep(f"{self.root}/tmp")
        with lock.work_directory(f"{self.root}/tmp") as work:
            yield work

    def release(self) -> None:
        """Use no image any more."""
        with self._guard:
            while self._held:
                self._held.popitem()[1].release()

    def kept(self) -> list[Kept]:
        """All images, those used last first."""
        names = self.index.names()
        with contextlib.suppress(FileNotFoundError):
            ids = [f"sha256:{name}" for name in sorted(os.listdir(f"{self.root}/sha256"))]
            rows = [row for id in ids if (row := self._kept(id, names.get(id, []))) is not None]
            return sorted(rows, key=lambda row: -row.used_s)
        return []

    def remove(self, id: str, job: Job) -> bool:
        """Remove an image; False when somebody uses it, or may (there are no locks), or it is not here."""
        held = lock.take(self._lock_path(id))
        if held is None:
            return False
        if not held.is_real:
            held.release()
            return False
        try:
            with self.working() as work:
                try:
                    os.rename(self._path(id), f"{work}/removed")
                except FileNotFoundError:
                    return False
                self.index.forget(job, id)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(held.path)
            held.release()
        return True

    def _id(self, claim: str) -> str:
        return self.index.id_of_digest(claim) or claim

    def _once(self, name: str, id: Callable[[], str], job: Job, what: str, make: Callable[[], None]) -> None:
        """Make an image under the lock of a name, unless it is here or comes while we wait for the lock.

        Whoever made it goes on with the lock shared: it is not to be had as long as that run lives.
        """
        while self._read(id()) is None:
            self._let_go(name)
            held = lock.take(self._lock_path(name))
            if held is None:
                job.tell(f"{what}: waiting for another run that does it")
                job.pause(_POLL_S)
                continue
            try:
                if self._read(id()) is None:
                    make()
            finally:
                held.release()

    def _make(self, claim: str, job: Job, what: str, make: Callable[[str], Made]) -> None:
        with self.working() as work:
            made = make(work)
            id = digest_of(made.config)
            if id == claim:
                self._install(id, made, work)
                return
            self._once(id, lambda: id, job, what, lambda: self._install(id, made, work))
            self.index.record(job, id, (), (claim,))

    def _install(self, id: str, made: Made, work: str) -> None:
        """Let the image appear, whole."""
        image = f"{work}/image"
        os.mkdir(image)
        os.rename(f"{work}/{ROOT}", f"{image}/{ROOT}")
        with open(f"{image}/{_CONFIG}", "wb") as file:
            file.write(made.config)
        about = {name: value for name, value in made._asdict().items() if name != "config"}
        with open(f"{image}/{_ABOUT}", "w", encoding="utf-8", errors="surrogateescape") as text:
            json.dump({**about, "unpacked_s": time.time()}, text)
        _write_out(image)
        path = self._path(id)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, f"{work}/damaged")  # it could not be read
        os.rename(image, path)

    def _read(self, id: str) -> Image | None:
        """An image as it is on disk; None when it is not there, or not whole."""
        path = self._path(id)
        try:
            with open(f"{path}/{_CONFIG}", "rb") as file:
                body = file.read()
            with open(f"{path}/{_ABOUT}", encoding="utf-8", errors="surrogateescape") as text:
                about = json.load(text)
            config = parse_config(body)
            if config.id != id or not os.path.isdir(f"{path}/{ROOT}"):
                return None
            return Image(
                id=id,
                digest=str(about["digest"]),
                root=f"{path}/{ROOT}",
                env=config.env,
                working_dir=config.working_dir,
                entrypoint=config.entrypoint,
                cmd=config.cmd,
                user=config.user,
                os=config.platform.os,
                architecture=config.platform.architecture,
                source=str(about["source"]),
                size_bytes=int(about["size_bytes"]),
            )
        except (OSError, ValueError, KeyError, TypeError, ImageError):
            return None

    def _kept(self, id: str, names: list[str]) -> Kept | None:
        try:
            with open(f"{self._path(id)}/{_ABOUT}", encoding="utf-8", errors="surrogateescape") as text:
                about = json.load(text)
            return Kept(
                id,
                tuple(names),
                int(about["size_bytes"]),
                int(about["files"]),
                str(about["source"]),
                float(about["unpacked_s"]),
                self._used_s(id, float(about["unpacked_s"])),
                self._is_used(id),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _used_s(self, id: str, otherwise_s: float) -> float:
        try:
            return max(os.stat(self._lock_path(id)).st_mtime, otherwise_s)
        except OSError:
            return otherwise_s

    def _is_used(self, id: str) -> bool:
        path = self._lock_path(id)
        if not os.path.exists(path):
            return False
        held = lock.take(path)
        if held is not None:
            held.release()
        return held is None

    def _let_go(self, id: str) -> None:
        """Give up an image that we used and that has gone: somebody deleted it by hand."""
        with self._guard:
            held = self._held.pop(id, None)
        if held is not None:
            held.release()

    def _path(self, id: str) -> str:
        return f"{self.root}/{id.replace(':', '/')}"

    def _lock_path(self, id: str) -> str:
        os.makedirs(f"{self.root}/locks", exist_ok=True)
        return f"{self.root}/locks/{id.partition(':')[2]}"


def _write_out(path: str) -> None:
    """Have all of the disk of ``path`` written, so that a power failure leaves no empty files behind."""
    if sys.platform != "linux":
        os.sync()
        return
    import ctypes

    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
    finally:
        os.close(fd)
