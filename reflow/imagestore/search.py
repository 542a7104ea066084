"""Where an image may be had: the store, the Docker daemon, the registry; asked in this order. It blocks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

from reflow.core.errors import Kind, ReflowError
from reflow.imagestore import Image
from reflow.imagestore.archive import Archive
from reflow.imagestore.build import MAX_CONFIG_BYTES, Builder
from reflow.imagestore.daemon import Daemon, Found
from reflow.imagestore.download import Downloads, fetch_blob
from reflow.imagestore.failure import ImageError
from reflow.imagestore.job import Job, Limits
from reflow.imagestore.manifest import Manifest
from reflow.imagestore.name import ImageName, parse_image
from reflow.imagestore.platform import Platform
from reflow.imagestore.registry import Registry
from reflow.imagestore.shelf import Made, Shelf
from reflow.imagestore.transport import Transport

LOADED = "file "
"""What the source of an image begins with that somebody loaded."""

_NOT_HERE = "not in the image store"
_HELPED_BY_A_COPY = frozenset({Kind.NOT_EXIST, Kind.NOT_ALLOWED, Kind.TOO_MANY_TRIES})
_HINT = (
    "check the name, or save the image where it is (docker save -o FILE.tar NAME) and load it here:"
    " reflow images -load FILE.tar"
)


class Wanted(NamedTuple):
    """An image that is asked for: the complete name, the name in the program, and its id if that is known.

    ``shown`` is what people know it by.
    """

    shown: str
    name: ImageName
    original: ImageName | None
    id: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """The names with a tag under which the image will be remembered."""
        both = (self.name, self.original) if self.original is not None else (self.name,)
        return tuple([str(each) for each in both if not each.digest])


class Surroundings(NamedTuple):
    """What searches share: ``hub`` stands for Docker Hub when it is not empty."""

    shelf: Shelf
    limits: Limits
    platform: Platform
    hub: str
    inform: Callable[[str], None]


def wanted_image(reference: str, original: str, id: str | None) -> Wanted:
    """Take the names of an image apart. Raises ReflowError INVALID."""
    try:
        name = parse_image(reference)
    except ValueError as err:
        raise ReflowError(Kind.INVALID, "image", cause=str(err)) from err
    try:
        other = parse_image(original.partition("$")[0]) if original else None
    except ValueError:
        other = None
    return Wanted(original if other is not None else reference, name, other, id)


class Search:
    """One search for one image."""

    def __init__(self, surroundings: Surroundings, wanted: Wanted, job: Job) -> None:
        self._around = surroundings
        self._shelf = surroundings.shelf
        self._wanted = wanted
        self._shown = wanted.shown
        self._job = job
        self._tried: list[tuple[Kind, str]] = []

    def run(self) -> Image:
        """Find the image and unpack it if need be. Raises ReflowError, OSError, StoppedError."""
        for step in (self.kept, self._from_daemon, self._remembered, self._from_registry):
            try:
                image = step()
            except ImageError as err:
                if err.kind is Kind.RESOURCES_EXHAUSTED:
                    raise
                self._tried.append((err.kind, str(err)))
            else:
                if image is not None:
                    self._remember(image, self._wanted.names, self._wanted.name.digest)
                    return image
        raise self._failure()

    def kept(self) -> Image | None:
        """The image if it is in the store, by digest; by name only if somebody loaded it there."""
        wanted, index = self._wanted, self._shelf.index
        digest = wanted.name.digest
        for id in (index.id_of_digest(digest) or digest if digest else None, wanted.id):
            image = self._shelf.use(id, self._job) if id else None
            if image is not None:
                return image
        image = self._remembered()
        return image if image is not None and image.source.startswith(LOADED) else None

    def _remembered(self) -> Image | None:
        """The image that a name with a tag stood for the last time: the daemon does not know better."""
        if self._wanted.name.digest:
            return None
        id = self._shelf.index.id_of_name(str(self._wanted.name))
        return None if id is None else self._shelf.use(id, self._job)

    def _remember(self, image: Image, names: Sequence[str], digest: str) -> None:
        with contextlib.suppress(OSError):  # a store that we may only read costs time, nothing else
            self._shelf.index.record(self._job, image.id, names, (digest,))

    def _failure(self) -> ReflowError:
        first = f"{_NOT_HERE} ({self._shelf.root})"
        text = "; ".join([first, *[text for _, text in self._tried]])
        kinds = [kind for kind, _ in self._tried if kind is not Kind.NOT_EXIST]
        kind = kinds[-1] if kinds else Kind.NOT_EXIST
        if kind in _HELPED_BY_A_COPY:
            text = f"{text}; {_HINT}"
        return ReflowError(kind, "image", self._shown, cause=text)

    # The daemon.

    @cached_property
    def _daemon(self) -> Daemon:
        return Daemon(self._job, self._around.limits)

    def _from_daemon(self) -> Image | None:
        if self._daemon.trouble:
            self._tried.append((Kind.NOT_EXIST, f"docker daemon: {self._daemon.trouble}"))
            return None
        found = self._find_in_daemon()
        if found is None:
            self._tried.append((Kind.NOT_EXIST, "docker daemon: no such image"))
            return None
        return self._take(found)

    def _find_in_daemon(self) -> Found | None:
        """The image by id, by name, or by the program's name if it is the very same."""
        wanted = self._wanted
        for name in (wanted.id, str(wanted.name)):
            found = self._daemon.find(name) if name else None
            if found is not None:
                return found
        if wanted.original is None or not wanted.name.digest:
            return None
        found = self._daemon.find(str(wanted.original))
        if found is None:
            return None
        digests = [each.partition("@")[2] for each in found.repo_digests]
        return found if wanted.name.digest in digests or found.id == wanted.id else None

    def _take(self, found: Found) -> Image:
        """Copy an image out of the daemon, unless it is here."""
        platform = self._around.platform
        if not platform.runs(found.platform):
            detail = f"its image is made for {found.platform}, and this machine is {platform}"
            raise ImageError(Kind.NOT_SUPPORTED, f"docker daemon: {detail}")
        what = f"copying image {self._shown} from the docker daemon"

        def make(work: str) -> Made:
            file = os.open(f"{work}/archive", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                self._daemon.export(found, file, what)
                archive = Archive(file)
                images = archive.images(platform)
                if not images:
                    raise ImageError(Kind.NOT_EXIST, "it sends an archive without an image")
                return self._builder(work, "docker daemon").from_archived(archive, images[0])
            except ImageError as err:
                text = str(err)
                prefix = "" if text.startswith("docker daemon") else "docker daemon: "
                raise ImageError(err.kind, prefix + text) from err
            finally:
                os.close(file)

        return self._shelf.unpack_once(found.id, self._job, what, make)

    # The registry.

    def _from_registry(self) -> Image:
        name, limits, job = self._wanted.name, self._around.limits, self._job
        registry = Registry(name, self._around.hub, Transport(job, limits))
        job.tell(f"asking {name.registry} for image {self._shown}")
        body = job.persist(limits, lambda: registry.manifest(name.digest or name.tag))
        manifest, _ = job.persist(limits, lambda: registry.settle(body, self._around.platform))
        id = manifest.config.digest
        image = self._shelf.use(id, job) or self._taken_by_id(id)
        if image is None:
            what = f"pulling image {self._shown}"
            image = self._shelf.unpack_once(id, job, what, lambda work: self._pull(registry, manifest, work))
        self._remember(image, (), manifest.digest)
        return image

    def _taken_by_id(self, id: str) -> Image | None:
        """The image from the daemon, if it is there under another name."""
        if self._daemon.trouble:
            return None
        try:
            found = self._daemon.find(id)
            return None if found is None else self._take(found)
        except ImageError as err:
            self._tried.append((Kind.NOT_EXIST, str(err)))
            return None

    def _pull(self, registry: Registry, manifest: Manifest, work: str) -> Made:
        limits, job = self._around.limits, self._job
        source = f"registry {self._wanted.name.registry}"
        builder = self._builder(work, source)
        fetching = Job()
        parallel = Registry(self._wanted.name, self._around.hub, Transport(fetching, limits))
        config = job.persist(limits, lambda: fetch_blob(registry, manifest.config, MAX_CONFIG_BYTES))
        with Downloads(parallel, manifest.layers, work, fetching, limits) as downloads:
            return builder.from_downloads(manifest, config, downloads)

    def _builder(self, work: str, source: str) -> Builder:
        around = self._around
        return Builder(work, source, self._shown, around.platform, self._job, around.inform)
