"""What the sandbox adds to an image: a thin layer, and the answer to whether bash is there.

The layer has what a container's root file system has besides its image: the host's name and name servers, and
directories to mount on. As a lower layer of its own it costs execs nothing.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading

from reflow.core.errors import Kind, ReflowError
from reflow.executor.layout import os_error
from reflow.imagestore import Image

BASH = "/bin/bash"

_MOUNTED = ("arg", "return", "tmp", "dev", "proc", "sys")
_HOST_FILES = ("hosts", "resolv.conf")
_MAX_LINKS = 40


class SandboxImage:
    """An image as sandboxes use it. ``layer`` is the directory with the layer; `full_etc` makes another."""

    def __init__(self, image: Image, layer: str) -> None:
        self.root = image.root
        self.env = image.env
        self.layer = layer
        self.working_dir = os.path.normpath(f"/{image.working_dir}").replace("//", "/")
        self._etc = ""
        self._guard = threading.Lock()

    def prepare(self, shown: str) -> None:
        """Make the layer. Raises INVALID for an image (``shown`` to people so) without bash. Blocks."""
        if not _is_program(self.root, BASH):
            detail = f"the image has no {BASH}, which runs the commands of execs: use an image that has it"
            raise ReflowError(Kind.INVALID, "exec", f"image {shown}", cause=detail)
        try:
            os.makedirs(f"{self.layer}/etc", mode=0o755)
            for name in _MOUNTED:
                os.mkdir(f"{self.layer}/{name}", 0o755)
            # As in a container: some tools look for them.
            _write(f"{self.layer}/.dockerenv", b"")
            os.symlink("/proc/mounts", f"{self.layer}/etc/mtab")
            _add_host_files(f"{self.layer}/etc")
            self._add_working_dir()
        except OSError as err:
            raise os_error("sandbox", self.layer, err) from err

    def full_etc(self) -> str:
        """A copy of the image's /etc with the host's files, for where there are no layers. Blocks."""
        with self._guard:
            if not self._etc:
                self._etc = self._copied_etc()
            return self._etc

    def _copied_etc(self) -> str:
        etc = f"{self.layer}-etc"
        try:
            if os.path.isdir(f"{self.root}/etc"):
                shutil.copytree(f"{self.root}/etc", etc, symlinks=True)
            _add_host_files(etc)
        except (OSError, shutil.Error) as err:
            raise ReflowError(Kind.OTHER, "sandbox", etc, cause=str(err)) from err
        return etc

    def _add_working_dir(self) -> None:
        """Let the working directory be there, as the daemon does."""
        if self.working_dir == "/" or _inside(self.root, self.working_dir) is not None:
            return
        os.makedirs(f"{self.layer}{self.working_dir}", exist_ok=True)


def _add_host_files(etc: str) -> None:
    os.makedirs(etc, exist_ok=True)
    for name in _HOST_FILES:
        try:
            with open(f"/etc/{name}", "rb") as file:
                text = file.read()
        except OSError:
            continue
        _write(f"{etc}/{name}", text)
    _write(f"{etc}/hostname", f"{os.uname().nodename}\n".encode())


def _write(path: str, text: bytes) -> None:
    if os.path.lexists(path):
        os.unlink(path)  # it may be a link to somewhere else
    with open(path, "xb") as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o644)


def _is_program(root: str, path: str) -> bool:
    found = _inside(root, path)
    if found is None:
        return False
    mode = os.stat(found).st_mode
    return stat.S_ISREG(mode) and bool(mode & stat.S_IXUSR)


def _inside(root: str, path: str) -> str | None:
    """Where a path of an image is here, its links followed as in the image; None when it is not there."""
    pending = [part for part in reversed(path.split("/")) if part]
    done: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part in (".", ".."):
            done = done[:-1] if part == ".." else done
            continue
        here = "/".join([root, *done, part])
        try:
            mode = os.lstat(here).st_mode
        except OSError:
            return None
        if not stat.S_ISLNK(mode):
            done.append(part)
            continue
        links += 1
        if links > _MAX_LINKS:
            return None
        target = os.readlink(here)
        done = [] if target.startswith("/") else done
        pending += [word for word in reversed(target.split("/")) if word]
    return "/".join([root, *done])
