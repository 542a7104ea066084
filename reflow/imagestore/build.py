"""An image's root file system, made in a directory of work from its layers. It blocks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from reflow.core.errors import Kind
from reflow.core.units import format_size
from reflow.disk.filesystem import disk_space
from reflow.imagestore.archive import Archive, ArchivedImage
from reflow.imagestore.download import Downloads
from reflow.imagestore.failure import ImageError
from reflow.imagestore.job import Job
from reflow.imagestore.manifest import ImageConfig, Manifest, check_platform, parse_config
from reflow.imagestore.platform import Platform
from reflow.imagestore.shelf import ROOT, Made
from reflow.imagestore.stream import Reader
from reflow.imagestore.unpack import RootWriter

MAX_CONFIG_BYTES = 16 << 20


class Builder:
    """Makes one image in ``work``; ``shown`` is its name, ``source`` where its layers come from."""

    def __init__(
        self,
        work: str,
        source: str,
        shown: str,
        platform: Platform,
        job: Job,
        inform: Callable[[str], None],
    ) -> None:
        self._work = work
        self._source = source
        self._platform = platform
        self._job = job
        self._inform = inform
        self._shown = shown
        self._what = f"unpacking image {shown}"
        self._passed = 0

    def from_archived(self, archive: Archive, image: ArchivedImage) -> Made:
        """Unpack an image of an archive. Raises ImageError, OSError."""
        config = self._checked(image.config, len(image.layers))
        sizes = [archive.layer_size(name) for name in image.layers]
        self._check_space(sum(sizes))
        with self._root() as root:
            for number, name in enumerate(image.layers):
                layer = _Observed(archive.layer(name), lambda count: self._tell(count, sum(sizes)))
                self._apply(root, layer, number, config)
            return self._made(root, image.config, image.digest)

    def from_downloads(self, manifest: Manifest, body: bytes, downloads: Downloads) -> Made:
        """Unpack layers in their order, each as soon as it is here. Raises ImageError, OSError."""
        config = self._checked(body, len(manifest.layers))
        self._check_space(downloads.total_bytes)
        with self._root() as root:
            for number, layer in enumerate(manifest.layers):
                path = downloads.wait(layer, self._job, f"pulling image {self._shown}")
                with open(path, "rb") as file:
                    reader = _Observed(file, lambda count: self._tell(count, downloads.total_bytes))
                    self._apply(root, reader, number, config)
                if layer not in manifest.layers[number + 1 :]:
                    downloads.discard(layer)
            return self._made(root, body, manifest.digest)

    def _checked(self, body: bytes, layers: int) -> ImageConfig:
        try:
            config = parse_config(body)
            check_platform(config, self._platform)
        except ImageError as err:
            raise ImageError(err.kind, f"{self._source}: {err}") from err
        if len(config.diff_ids) != layers:
            detail = f"{layers} layers, and a configuration for {len(config.diff_ids)}"
            raise ImageError(Kind.INVALID, f"{self._source}: malformed: {detail}")
        return config

    def _check_space(self, least_bytes: int) -> None:
        free, total = disk_space(self._work)
        if free < least_bytes:
            detail = (
                f"needs more than {format_size(least_bytes)}: {format_size(free)} of {format_size(total)}"
            )
            raise ImageError(Kind.RESOURCES_EXHAUSTED, f"{self._source}: the image {detail} are free")

    @contextmanager
    def _root(self) -> Iterator[RootWriter]:
        path = f"{self._work}/{ROOT}"
        os.mkdir(path)
        os.chmod(path, 0o755)
        root = RootWriter(path, self._job.check)
        try:
            yield root
        finally:
            root.close()

    def _apply(self, root: RootWriter, layer: Reader, number: int, config: ImageConfig) -> None:
        try:
            root.apply(layer, config.diff_ids[number])
        except ImageError as err:
            where = f"layer {number + 1} of {len(config.diff_ids)}"
            raise ImageError(err.kind, f"{self._source}: {where}: {err}") from err

    def _made(self, root: RootWriter, config: bytes, digest: str) -> Made:
        root.finish()
        if root.left_out:
            self._inform(f"image {self._shown}: left out {_devices(root.left_out)}")
        return Made(config, digest, self._source, root.size_bytes, root.files)

    def _tell(self, count: int, total: int) -> None:
        self._passed += count
        self._job.tell(self._what, min(self._passed, total), total)


class _Observed:
    """Tells how much of a stream was read."""

    def __init__(self, source: Reader, observe: Callable[[int], None]) -> None:
        self._source = source
        self._observe = observe

    def read(self, size: int, /) -> bytes:
        chunk = self._source.read(size)
        self._observe(len(chunk))
        return chunk


def _devices(paths: Sequence[str]) -> str:
    shown = ", ".join(paths[:3]) + (", …" if len(paths) > 3 else "")
    return f"1 device ({shown})" if len(paths) == 1 else f"{len(paths)} devices ({shown})"
