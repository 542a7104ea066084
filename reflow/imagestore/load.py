"""Archives of images taken into the store. It blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from reflow.core.errors import Kind
from reflow.imagestore.archive import Archive, ArchivedImage, is_plain_tar, spool
from reflow.imagestore.build import Builder
from reflow.imagestore.failure import ImageError
from reflow.imagestore.job import Job
from reflow.imagestore.manifest import digest_of
from reflow.imagestore.name import parse_image
from reflow.imagestore.search import LOADED, Surroundings
from reflow.imagestore.shelf import Made

_STDIN = "-"


class Loader:
    """Loads what one archive has; ``name`` names its only image."""

    def __init__(self, surroundings: Surroundings, path: str, name: str, job: Job) -> None:
        self._around = surroundings
        self._shelf = surroundings.shelf
        self._path = path
        self._name = name
        self._job = job

    def run(self) -> list[str]:
        """Return the ids of the images, which are in use now. Raises ImageError, OSError."""
        os.makedirs(self._shelf.root, exist_ok=True)
        with self._opened() as file:
            archive = Archive(file)
            images = archive.images(self._around.platform)
            if not images:
                raise ImageError(Kind.INVALID, "it has no image")
            if self._name and len(images) > 1:
                raise ImageError(Kind.INVALID, f"it has {len(images)} images, and a name is for one")
            names = [self._names(image) for image in images]
            return [self._load(archive, *each) for each in zip(images, names, strict=True)]

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The archive as a file that can be read in any order; a pipe or compressed one is copied first."""
        source = os.dup(0) if self._path == _STDIN else os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if is_plain_tar(source):
                yield source
                return
            with self._shelf.working() as work:
                target = os.open(f"{work}/archive", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                try:
                    self._job.tell(f"reading {self._path}")
                    spool(source, target, self._job.check)
                    yield target
                finally:
                    os.close(target)
        finally:
            os.close(source)

    def _load(self, archive: Archive, image: ArchivedImage, names: list[str]) -> str:
        id = digest_of(image.config)
        shown = names[0] if names else id
        source = f"{LOADED}{'standard input' if self._path == _STDIN else os.path.abspath(self._path)}"

        def make(work: str) -> Made:
            around = self._around
            builder = Builder(work, self._path, shown, around.platform, self._job, around.inform)
            return builder.from_archived(archive, image)._replace(source=source)

        self._shelf.unpack_once(id, self._job, f"unpacking image {shown}", make)
        self._shelf.index.record(self._job, id, names, (image.digest,))
        return id

    def _names(self, image: ArchivedImage) -> list[str]:
        """Complete names. Raises ImageError INVALID for what is no name."""
        try:
            found = [parse_image(each) for each in ((self._name,) if self._name else image.names)]
        except ValueError as err:
            raise ImageError(Kind.INVALID, str(err)) from err
        if any(each.digest for each in found):
            raise ImageError(Kind.INVALID, f"{self._name or image.names}: want names with tags, not digests")
        return [str(each) for each in found]
