"""Mount namespaces for sandboxes: each root file system has one, where no other is mounted.

Bubblewrap copies all mounts that it finds, and reads the list of them for each that it adds: with as many
roots as a machine has processors that would take longer than all else. The launcher goes to a cell to mount
what an exec needs, and to start bubblewrap, which finds ``/dev`` there, so it has less to mount itself.
"""

from __future__ import annotations

import os

from reflow.executor.sandbox_mounts import (
    CLONE_NEWNS,
    MS_NODEV,
    MS_NOSUID,
    Overlay,
    enter_mounts,
    mount_devices,
    mount_overlay,
    unmount,
    unshare,
)

_OURS = "/proc/self/ns/mnt"

HOME = b""
"""The cell that the launcher began in."""


class Cells:
    """The cells of a launcher; one is named by the mount point of its root file system."""

    def __init__(self, options: str, *, has_devices: bool) -> None:
        self._options = options
        self._has_devices = has_devices
        self._fds = {HOME: os.open(_OURS, os.O_RDONLY | os.O_CLOEXEC)}
        self._devices: dict[bytes, tuple[object, ...]] = {}
        self._current = HOME

    def enter(self, cell: bytes) -> None:
        """Go there. Raises OSError."""
        if cell != self._current:
            enter_mounts(self._fds[cell])
            self._current = cell

    def make(self, root: Overlay) -> None:
        """Make a cell for a root file system, and go there. Raises OSError."""
        point = root[0]
        self.enter(HOME)
        unshare(CLONE_NEWNS)
        self._current = point
        try:
            mount_overlay(root, self._options, MS_NOSUID | MS_NODEV)
            if self._has_devices:
                self._furnish(point)
            self._fds[point] = os.open(_OURS, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self.enter(HOME)
            raise

    def tidy(self) -> None:
        """Make devices anew if an exec has done something to them here."""
        point = self._current
        if point in self._devices and self._devices[point] != _state(point + b"/dev"):
            unmount(point + b"/dev")
            self._furnish(point)

    def drop(self, cell: bytes) -> None:
        """A cell, and all that is mounted there, is of no use any more."""
        self.enter(HOME)
        self._devices.pop(cell, None)
        fd = self._fds.pop(cell, -1)
        if fd >= 0:
            os.close(fd)

    def _furnish(self, point: bytes) -> None:
        mount_devices(point + b"/dev")
        self._devices[point] = _state(point + b"/dev")


def _state(devices: bytes) -> tuple[object, ...]:
    """What changes when a command does something to its ``/dev``."""
    own = os.stat(devices)
    modes = [(each.st_mode, each.st_uid, each.st_gid) for each in map(os.stat, _terminals(devices))]
    return sorted(os.listdir(devices)), own.st_ctime_ns, own.st_mode, modes


def _terminals(devices: bytes) -> tuple[bytes, bytes]:
    return devices + b"/pts", devices + b"/pts/ptmx"
