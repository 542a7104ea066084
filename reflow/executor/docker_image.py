"""Images for containers: found on the daemon, or pulled.

An image is asked for by the name that entered keys (with its digest) and by the name that the program has. It
may be here under the second only; then it is taken if it is the very same image.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

from reflow.core.errors import Kind, ReflowError
from reflow.executor.docker_api import DockerApi
from reflow.imagestore.name import HUB, parse_image
from reflow.pool import Progress

TRIES = 6
"""Tries at a pull that fails for a passing reason, with pauses of 1 s, 1.5 s, 2.25 s, …"""

UNREACHABLE_TRIES = 2
"""Tries when the registry cannot even be reached: a machine without a network stays so for a while."""

_PAUSE_S = 1.0
_PAUSE_GROWTH = 1.5
_REPORT_S = 0.2

_ABSENT = ("not found", "manifest unknown", "does not exist", "no such image")
_REFUSED = ("unauthorized", "denied", "authentication required", "no basic auth")
_MALFORMED = ("invalid reference format",)
_UNREACHABLE = ("no such host", "connection refused", "network is unreachable", "name resolution")


class DockerImages:
    """The images of one daemon, each found or pulled once.

    ``config_digest`` tells the id of the image that a name with a digest stands for, when that is known.
    """

    def __init__(self, api: DockerApi, config_digest: Callable[[str], str | None] | None = None) -> None:
        self._api = api
        self._config_digest = config_digest
        self._names: dict[str, str] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def forget(self, image: str) -> None:
        """Look again the next time: it turned out to be gone."""
        self._names.pop(image, None)

    async def ensure(self, image: str, original: str, progress: Progress | None) -> str:
        """Return the name under which an image is here; pull it if need be.

        Raises NOT_EXIST naming the image, NOT_ALLOWED, or TOO_MANY_TRIES.
        """
        name = self._names.get(image)
        if name is not None:
            return name
        if not image:
            raise ReflowError(Kind.INVALID, "image", cause="the exec names no image, and docker needs one")
        async with self._locks.setdefault(image, asyncio.Lock()):
            if image not in self._names:
                found = await self._find(image, original) or await self._pull_from_stand_in(image, progress)
                self._names[image] = found or await self._pull(image, progress)
            return self._names[image]

    async def _find(self, image: str, original: str) -> str | None:
        if await self._api.image(image) is not None:
            return image
        if original and original != image and "@" in image:
            found = await self._api.image(original)
            if found is not None and self._is_same(image, found):
                return original
        return None

    def _is_same(self, image: str, found: dict[str, Any]) -> bool:
        """Tell whether a local image is the one that a name with a digest stands for."""
        digest = image.partition("@")[2]
        if any(each.partition("@")[2] == digest for each in found.get("RepoDigests") or ()):
            return True
        wanted = self._config_digest(image) if self._config_digest is not None else None
        return wanted is not None and found.get("Id") == wanted

    async def _pull_from_stand_in(self, image: str, progress: Progress | None) -> str | None:
        """Pull from the registry that stands for Docker Hub, when there is one and it has the image."""
        name = _stand_in_name(image)
        if name is None:
            return None
        try:
            await self._api.pull(name, _Report(f"pulling image {name}", progress).row)
        except ReflowError:
            return None
        return name

    async def _pull(self, image: str, progress: Progress | None) -> str:
        pause_s = _PAUSE_S
        for number in range(1, TRIES + 1):
            report = _Report(f"pulling image {image} (try {number}/{TRIES})", progress)
            try:
                await self._api.pull(image, report.row)
                return image
            except ReflowError as err:
                error = _classified(image, err)
                if error.kind is not Kind.UNAVAILABLE:
                    raise error from err
                if number >= UNREACHABLE_TRIES and _is_unreachable(err):
                    detail = f"it is not on this machine, and its registry cannot be reached: {err.cause}"
                    raise ReflowError(Kind.NOT_EXIST, "pull image", image, cause=detail) from err
                if number == TRIES:
                    detail = f"{TRIES} tries, the last one: {err.cause}"
                    raise ReflowError(Kind.TOO_MANY_TRIES, "pull image", image, cause=detail) from err
            await asyncio.sleep(pause_s)
            pause_s *= _PAUSE_GROWTH
        raise AssertionError("the last try returns or raises")


def _stand_in_name(image: str) -> str | None:
    """The name of a Docker Hub image at ``REFLOW_REGISTRY``; None without one, and for other images."""
    hub = os.environ.get("REFLOW_REGISTRY")
    try:
        name = parse_image(image)
    except ValueError:
        return None
    if not hub or name.registry != HUB:
        return None
    return f"{hub}/{name.repository}" + (f"@{name.digest}" if name.digest else f":{name.tag}")


def _classified(image: str, err: ReflowError) -> ReflowError:
    """Say what became of a pull; UNAVAILABLE when trying again may help."""
    text = str(err.cause)
    lower = text.lower()
    for words, kind in ((_ABSENT, Kind.NOT_EXIST), (_REFUSED, Kind.NOT_ALLOWED), (_MALFORMED, Kind.INVALID)):
        if any(word in lower for word in words):
            return ReflowError(kind, "pull image", image, cause=text)
    kind = Kind.UNAVAILABLE if err.kind not in (Kind.NOT_EXIST, Kind.NOT_ALLOWED, Kind.INVALID) else err.kind
    return ReflowError(kind, "pull image", image, cause=text)


def _is_unreachable(err: ReflowError) -> bool:
    text = str(err.cause).lower()
    return any(word in text for word in _UNREACHABLE)


class _Report:
    """Adds the layers of a pull up and tells, now and then, how far it is."""

    def __init__(self, what: str, progress: Progress | None) -> None:
        self._what = what
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._layers: dict[str, tuple[int, int]] = {}
        self._told_s = 0.0
        if progress is not None:
            progress(what, 0, 0)

    def row(self, row: dict[str, Any]) -> None:
        """Take note of a row of the daemon's progress. Called from a thread."""
        detail = row.get("progressDetail") or {}
        if row.get("status") != "Downloading" or not detail.get("total"):
            return
        self._layers[row.get("id", "")] = (int(detail.get("current") or 0), int(detail["total"]))
        now_s = time.monotonic()
        if self._progress is None or now_s - self._told_s < _REPORT_S:
            return
        self._told_s = now_s
        done, total = (sum(each) for each in zip(*self._layers.values(), strict=True))
        self._loop.call_soon_threadsafe(self._progress, self._what, done, total)
