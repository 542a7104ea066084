"""The command line of bubblewrap: what a sandbox looks like from inside.

It is what a container of the Docker daemon shows: the same user, the host's network, ``/arg``, ``/return``
and ``/tmp``, a ``/dev`` and ``/proc`` of its own, a bash that is process 1 and has the same capabilities.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

SHM_BYTES = 64 << 20

# What the Docker daemon leaves to root.
_CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "SETFCAP"),
    *("NET_BIND_SERVICE", "NET_RAW", "SYS_CHROOT", "MKNOD", "AUDIT_WRITE"),
)
_ISOLATION = (*("--die-with-parent", "--new-session", "--unshare-pid", "--as-pid-1", "--unshare-ipc"),)
# What root could change of this machine.
_PROTECTED = tuple(
    [path for path in ("/proc/sys", "/proc/fs", "/proc/sysrq-trigger") if os.path.exists(path)]
)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Bound(NamedTuple):
    """A file or directory of this machine and where the command sees it."""

    source: str
    target: str
    is_read_only: bool = False


class Program(NamedTuple):
    """Bubblewrap. An old one (before 0.7) cannot give a new file system a size, nor, at times, a mode."""

    path: str
    is_old: bool = False


class User(NamedTuple):
    """Who a command runs as, and whether that takes a user namespace."""

    uid: int
    gid: int
    needs_namespace: bool


def sandbox_words(
    program: Program,
    root: Sequence[str],
    user: User,
    bounds: Iterable[Bound],
    working_dir: str,
    command: Sequence[str],
    *,
    status_fd: int,
    hold_fd: int = -1,
    has_devices: bool = False,
) -> list[str]:
    """The words of a command line; ``root`` has those that make the root file system.

    The command waits until something can be read from ``hold_fd``. ``has_devices``: there is a ``/dev``
    already.
    """
    words = [program.path, "--json-status-fd", str(status_fd), *_ISOLATION]
    if hold_fd >= 0:
        words += ["--block-fd", str(hold_fd)]
    if user.needs_namespace:
        words += ["--unshare-user", "--uid", str(user.uid), "--gid", str(user.gid)]
    # Those first: bubblewrap reads the list of all mounts for each of them, and /sys adds many.
    words += root
    for bound in bounds:
        words += ["--ro-bind" if bound.is_read_only else "--bind", bound.source, bound.target]
    words += ["--proc", "/proc"]
    if user.uid == 0:
        for path in _PROTECTED:
            words += ["--ro-bind", path, path]
    if not has_devices:
        words += ["--dev", "/dev"]
    words += [
        "--mqueue",
        "/dev/mqueue",
        *_tmpfs(program, "/dev/shm", SHM_BYTES),
        "--ro-bind-try",
        "/sys",
        "/sys",
    ]
    # Others than root reach only files of their own: inputs are read-only, and may be changed.
    words += ["--cap-drop", "ALL"]
    for name in _CAPABILITIES if user.uid == 0 else ("DAC_OVERRIDE",):
        words += ["--cap-add", f"CAP_{name}"]
    return [*words, "--chdir", working_dir, "--", *command]


def writable_root(point: str, *, has_devices: bool = False) -> list[str]:
    """A root file system that is mounted at ``point``, maybe with devices; elsewhere in it there are none."""
    return ["--dev-bind" if has_devices else "--bind", point, "/"]


def _tmpfs(program: Program, path: str, size_bytes: int = 0) -> list[str]:
    """A new file system that everybody may write to."""
    if program.is_old:
        return ["--tmpfs", path]
    size = ["--size", str(size_bytes)] if size_bytes else []
    return ["--perms", "1777", *size, "--tmpfs", path]


def read_only_root(program: Program, root: str, etc: str) -> list[str]:
    """A root file system of directories that cannot be written to, but for /var/tmp and /run.

    ``root`` is the image's, ``etc`` stands for its /etc.
    """
    words: list[str] = []
    with os.scandir(root) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            target = f"/{entry.name}"
            if target in ("/arg", "/dev", "/etc", "/proc", "/return", "/run", "/sys", "/tmp"):
                continue
            if entry.is_symlink():
                words += ["--symlink", os.readlink(entry.path), target]
            else:
                words += ["--ro-bind", entry.path, target]
    words += ["--ro-bind", etc, "/etc", "--tmpfs", "/run"]
    if os.path.isdir(f"{root}/var/tmp"):
        words += _tmpfs(program, "/var/tmp")
    return words


def environment(image: Iterable[str], ours: Iterable[tuple[str, str]]) -> dict[bytes, bytes]:
    """What the daemon would set, what the image sets (``NAME=value``), and what we set."""
    values = {"PATH": _PATH, "HOSTNAME": os.uname().nodename}
    for text in image:
        name, _, value = text.partition("=")
        values[name] = value
    values.update(ours)
    return {os.fsencode(name): os.fsencode(value) for name, value in values.items()}
