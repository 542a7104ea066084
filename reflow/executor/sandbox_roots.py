"""Root file systems for execs: overlays over images, used again as long as nobody has written to them.

Mounting an overlay makes and deletes several files on the disk below, which can cost a millisecond. Most
commands write to /return and /tmp only, so their root file system is as good as new when they have ended.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from reflow.executor.layout import Layout, os_error
from reflow.executor.sandbox_image import SandboxImage
from reflow.executor.sandbox_mounts import Overlay

_MODE = 0o755
_MAX_SPARE = 64


class Root(NamedTuple):
    """One of them: ``directory`` has its ``upper`` and ``work``, and ``root``, where it is mounted."""

    directory: str
    image: SandboxImage

    @property
    def point(self) -> str:
        """Where it is mounted (seen by the launcher only)."""
        return f"{self.directory}/root"

    @property
    def overlay(self) -> Overlay:
        """What is mounted there."""
        lowers = [os.fsencode(self.image.layer), os.fsencode(self.image.root)]
        return os.fsencode(self.point), os.fsencode(self.directory), lowers

    @property
    def is_pristine(self) -> bool:
        """Whether nothing was written to it."""
        upper = f"{self.directory}/upper"
        try:
            info = os.stat(upper)
            with os.scandir(upper) as entries:
                is_empty = next(entries, None) is None
            names = [name for name in os.listxattr(upper) if ".overlay." not in name]
        except OSError:
            return False
        is_ours = (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (os.geteuid(), os.getegid(), _MODE)
        return is_empty and is_ours and not names


class Roots:
    """Root file systems that one launcher has mounted and nobody uses now."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._spare: dict[SandboxImage, list[Root]] = {}

    def take(self, image: SandboxImage) -> Root | None:
        """One that is mounted already."""
        spare = self._spare.get(image)
        return spare.pop() if spare else None

    def make(self, image: SandboxImage) -> Root:
        """A new one, to be mounted. Raises ReflowError."""
        root = Root(self._layout.new_path("root"), image)
        try:
            os.mkdir(root.directory)
            for name in ("upper", "work", "root"):
                os.mkdir(f"{root.directory}/{name}")
            os.chmod(f"{root.directory}/upper", _MODE)
        except OSError as err:
            raise os_error("sandbox", root.directory, err) from err
        return root

    def give_back(self, root: Root) -> bool:
        """Keep one for the next exec if it is as good as new; else it is to be unmounted."""
        spare = self._spare.setdefault(root.image, [])
        if len(spare) >= _MAX_SPARE or not root.is_pristine:
            return False
        spare.append(root)
        return True

    def forget(self) -> None:
        """The launcher has ended: nothing is mounted any more."""
        self._spare.clear()
