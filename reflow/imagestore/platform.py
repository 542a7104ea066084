"""Machines that images are made for."""

from __future__ import annotations

import os
from typing import NamedTuple

_ARCHITECTURES = {
    "x86_64": "amd64",
    "AMD64": "amd64",
    "aarch64": "arm64",
    "i386": "386",
    "i686": "386",
    "armv6l": "arm",
    "armv7l": "arm",
    "loongarch64": "loong64",
}
_ALSO_RUNS = {"amd64": ("386",), "arm64": ()}


class Platform(NamedTuple):
    """Operating system and architecture, in Go's words."""

    os: str
    architecture: str

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}"

    def runs(self, other: Platform) -> bool:
        """Tell whether an image made for ``other`` runs here. One that does not say what it is for does."""
        is_ours = other.architecture in ("", self.architecture, *_ALSO_RUNS.get(self.architecture, ()))
        return other.os in ("", self.os) and is_ours


AMD64 = Platform("linux", "amd64")
"""What the images in cache keys are for."""


def local_platform() -> Platform:
    """What images must be made for to run here: Linux on this architecture."""
    machine = os.uname().machine
    return Platform("linux", _ARCHITECTURES.get(machine, machine))
