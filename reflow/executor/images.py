"""Digests of images, as they enter cache keys: asked of their registry, and remembered for ten minutes.

The digest is that of the amd64 schema-2 manifest, whatever the daemon may know an image by. Where the
registry cannot be asked, an image enters keys as it is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reflow.disk.blocking import Blocking
from reflow.imagestore.failure import ImageError
from reflow.imagestore.name import ImageName, parse_image

if TYPE_CHECKING:
    from reflow.imagestore.manifest import Manifest

TIMEOUT_S = 3.0
REMEMBERED_S = 600.0

_FILE = "image-digests.json"
_KEPT_S = 30 * 86400


class ImageDigests:
    """Resolves images to names with digests.

    ``home`` is the directory of the file that remembers (None: nothing is remembered); ``inform`` is told,
    once, when a registry cannot be asked. ``REFLOW_REGISTRY=host:port`` stands for Docker Hub, by plain HTTP.
    """

    def __init__(self, home: Path | None, inform: Callable[[str], None] | None = None) -> None:
        self._path = None if home is None else home / _FILE
        self._inform = inform
        self._hub = os.environ.get("REFLOW_REGISTRY", "")
        self._answers: dict[str, str | None] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._call = Blocking("registry", 8)

    async def resolve(self, image: str) -> str | None:
        """Return ``registry/repository@sha256:…``, or None when the registry cannot say. Never raises."""
        if image in self._answers:
            return self._answers[image]
        async with self._locks.setdefault(image, asyncio.Lock()):
            if image not in self._answers:
                self._answers[image] = await self._resolve(image)
            return self._answers[image]

    def config_digest(self, resolved: str) -> str | None:
        """The id of the image that a resolved name stands for, when it was learnt in the last month."""
        row = self._rows().get(resolved)
        return None if row is None else row.get("config")

    async def _resolve(self, image: str) -> str | None:
        try:
            name = parse_image(image)
        except ValueError:
            return None  # whoever runs it will say so
        if name.digest:
            return name.resolved(name.digest)
        key = f"{self._hub}|{name.registry}/{name.repository}:{name.tag}"
        row = self._rows().get(key)
        if row is not None and 0 <= time.time() - row["time"] < REMEMBERED_S:
            return str(row["resolved"])
        try:
            async with asyncio.timeout(TIMEOUT_S):
                manifest = await self._call(_fetch_manifest, name, self._hub)
        except (ImageError, TimeoutError) as err:
            self._tell(image, str(err) or f"no answer within {TIMEOUT_S:g} s")
            return None
        resolved = name.resolved(manifest.digest)
        with contextlib.suppress(OSError):  # a read-only home costs time, nothing else
            await self._call(self._remember, key, resolved, manifest)
        return resolved

    def _tell(self, image: str, why: str) -> None:
        if self._inform is not None:
            self._inform(f"image {image}: its digest is unknown ({why}); cache keys use the name as written")
            self._inform = None

    def _rows(self) -> dict[str, dict[str, Any]]:
        if self._path is None:
            return {}
        try:
            rows: Any = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        if not isinstance(rows, dict):
            return {}
        return {name: row for name, row in rows.items() if isinstance(row, dict)}

    def _remember(self, key: str, resolved: str, manifest: Manifest) -> None:
        """Add two rows to the file: name -> digest, and digest -> id of the image."""
        if self._path is None:
            return
        now = time.time()
        rows = {each: row for each, row in self._rows().items() if now - row.get("time", 0) < _KEPT_S}
        rows[key] = {"time": now, "resolved": resolved}
        rows[resolved] = {"time": now, "config": manifest.config.digest}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(rows))
        part.replace(self._path)


def _fetch_manifest(name: ImageName, hub: str) -> Manifest:
    from reflow.imagestore.registry import fetch_manifest  # a fully cached run does without HTTP and TLS

    return fetch_manifest(name, hub, TIMEOUT_S)
