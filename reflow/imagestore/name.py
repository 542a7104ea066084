"""Names of images, taken apart and made complete."""

from __future__ import annotations

import re
from typing import NamedTuple

HUB = "index.docker.io"
"""What the resolved names of Docker Hub's images begin with."""

_REPOSITORY = re.compile(r"[a-z0-9]([a-z0-9._/-]*[a-z0-9])?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ImageName(NamedTuple):
    """A complete name: ``tag`` is empty when there is a digest."""

    registry: str
    repository: str
    tag: str
    digest: str

    def resolved(self, digest: str) -> str:
        """The name with a digest, as it enters cache keys."""
        return f"{self.registry}/{self.repository}@{digest}"

    @property
    def familiar(self) -> str:
        """The name without what is understood of itself: Docker Hub, and ``library/``."""
        return str(self).removeprefix(f"{HUB}/").removeprefix("library/")

    def __str__(self) -> str:
        return self.resolved(self.digest) if self.digest else f"{self.registry}/{self.repository}:{self.tag}"


def parse_image(text: str) -> ImageName:
    """Take a name apart and fill in registry, ``library/`` and tag. Raises ValueError when it is no name.

    The first component is a registry when it has a dot or a colon (or is ``localhost``).
    """
    base, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise ValueError(f"image {text!r}: digest {digest!r} is not sha256: and 64 hexadecimal digits")
    first, slash, rest = base.partition("/")
    registry, path = (first, rest) if slash and _is_registry(first) else (HUB, base)
    path, colon, tag = path.rpartition(":") if ":" in path else (path, "", "")
    if colon and not _TAG.fullmatch(tag):
        raise ValueError(f"image {text!r}: {tag!r} is no tag")
    if registry in ("docker.io", "registry-1.docker.io"):
        registry = HUB
    if registry == HUB and "/" not in path:
        path = f"library/{path}"
    if not _REPOSITORY.fullmatch(path):
        raise ValueError(f"image {text!r}: {path!r} is no repository (lower case letters, digits, . _ - /)")
    return ImageName(registry, path, "" if digest else tag or "latest", digest)


def _is_registry(component: str) -> bool:
    return "." in component or ":" in component or component == "localhost"
