"""Mounting for sandboxes. The launcher uses it, so it imports next to nothing."""

from __future__ import annotations

import contextlib
import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SLAVE = 1 << 19
MS_RELATIME = 1 << 21
MNT_DETACH = 2

Way = tuple[str, bool, str]
"""A way to mount overlays: its name, whether it takes a user namespace, and options."""

Overlay = tuple[bytes, bytes, list[bytes]]
"""An overlay to be mounted: the mount point, a directory with ``upper`` and ``work``, lower layers."""

_UNSEEN_KINDS = (b"nsfs", b"devpts", b"mqueue", b"hugetlbfs", b"binfmt_misc", b"rpc_pipefs")
_UNSEEN_PLACES = (
    b"/var/lib/docker/",
    b"/var/lib/containers/",
    b"/run/docker/",
    b"/run/containerd/",
    b"/snap/",
)
_NODES = (b"null", b"zero", b"full", b"random", b"urandom", b"tty")
_LINKS = (
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
    (b"core", b"/proc/kcore"),
    (b"ptmx", b"pts/ptmx"),
)
_KEPT_FLAGS = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Get namespaces of our own."""
    if _libc.unshare(flags):
        _fail("unshare")


def enter_mounts(namespace_fd: int) -> None:
    """Go to another mount namespace; the working directory becomes its root."""
    if _libc.setns(namespace_fd, CLONE_NEWNS):
        _fail("setns")


def mount(source: bytes, target: bytes, kind: bytes | None, flags: int, options: bytes | None) -> None:
    """Mount something."""
    if _libc.mount(source, target, kind, ctypes.c_ulong(flags), options):
        _fail(f"mount {(kind or target).decode(errors='replace')}")


def unmount(point: bytes) -> None:
    """Unmount something, at once or when nobody uses it any more."""
    if _libc.umount2(point, 0):
        _libc.umount2(point, MNT_DETACH)


def _fail(what: str) -> None:
    code = ctypes.get_errno()
    raise OSError(code, f"{what}: {os.strerror(code).lower()}")


def mount_overlay(overlay: Overlay, options: str, flags: int = 0) -> None:
    """Mount an overlay."""
    point, directory, lowers = overlay
    # Paths are given by descriptor or relative to the working directory: they may hold any character.
    os.chdir(directory)
    descriptors = [os.open(lower, os.O_PATH | os.O_DIRECTORY) for lower in lowers]
    layers = ":".join([f"/proc/self/fd/{fd}" for fd in descriptors])
    text = f"lowerdir={layers},upperdir=upper,workdir=work,{options}"
    try:
        mount(b"overlay", point, b"overlay", flags, text.encode())
    finally:
        os.chdir("/")
        for fd in descriptors:
            os.close(fd)


def mount_devices(directory: bytes) -> None:
    """Make a ``/dev`` as bubblewrap would: the few devices of this machine that do no harm, and terminals."""
    mount(b"tmpfs", directory, b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=0755")
    for name in _NODES:
        path = directory + b"/" + name
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o444))
        mount(b"/dev/" + name, path, None, MS_BIND, None)
        # What is locked stays as it is, or this is refused in a user namespace.
        flags = os.statvfs(path).f_flag & _KEPT_FLAGS
        mount(b"none", path, None, MS_REMOUNT | MS_BIND | MS_RELATIME | MS_NOSUID | flags, None)
    for name, target in _LINKS:
        os.symlink(target, directory + b"/" + name)
    for name in (b"pts", b"shm", b"mqueue"):
        os.mkdir(directory + b"/" + name, 0o755)
    options = b"newinstance,ptmxmode=0666,mode=620"
    mount(b"devpts", directory + b"/pts", b"devpts", MS_NOSUID | MS_NOEXEC, options)


def enter(needs_user_namespace: bool) -> None:
    """Get a mount namespace, and the right to mount in it."""
    if needs_user_namespace:
        uid, gid = os.getuid(), os.getgid()
        unshare(CLONE_NEWUSER | CLONE_NEWNS)
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    else:
        unshare(CLONE_NEWNS)
    # What is mounted elsewhere later is seen here too, and nothing that is mounted here is seen elsewhere.
    mount(b"none", b"/", None, MS_REC | MS_SLAVE, None)
    _trim()


def _trim() -> None:
    """Unmount, for us only, what no sandbox shows: bubblewrap reads the list of all mounts many times."""
    with open("/proc/self/mountinfo", "rb") as file:
        rows = file.read().splitlines()
    for row in reversed(rows):
        fields = row.split(b" ")
        kind = fields[fields.index(b"-") + 1]
        if kind in _UNSEEN_KINDS or fields[4].startswith(_UNSEEN_PLACES):
            _libc.umount2(fields[4], MNT_DETACH)  # in a user namespace it may not be allowed


def try_way(way: Way, directory: bytes) -> tuple[str, bool]:
    """Try, in a child, whether overlays can be mounted in a way: the reason why not; and devices in them."""
    _, needs_user_namespace, options = way
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        has_devices = False
        try:
            enter(needs_user_namespace)
            unshare(CLONE_NEWNS)
            mount_overlay((directory + b"/point", directory, [directory + b"/lower"]), options)
            os.mkdir(directory + b"/point/dev")
            with contextlib.suppress(OSError):
                mount_devices(directory + b"/point/dev")
                has_devices = True
        except OSError as err:
            os.write(writer, str(err.strerror).encode("utf-8", "surrogateescape"))
        finally:
            os._exit(0 if has_devices else 1)
    os.close(writer)
    reason = os.read(reader, 4096).decode("utf-8", "replace")
    os.close(reader)
    return reason, os.waitpid(pid, 0)[1] == 0
