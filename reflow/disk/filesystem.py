"""File systems: their kind, their free space, copies that share blocks, and renames that exchange.

Everything here blocks. Linux has it all; elsewhere the plain way is taken.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from functools import cache

from reflow.core.errors import Kind, ReflowError
from reflow.core.units import format_size

# fmt: off
_NETWORK = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fhgfs", "gfs2", "glusterfs", "gpfs", "lustre",
    "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb2", "smb3", "smbfs", "virtiofs",
    "wekafs",
})
# fmt: on
_FICLONE = 0x40049409
_COPY_BYTES = 1 << 20
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
_AT_FDCWD = -100
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_KINDS: dict[int, Kind] = {
    errno.ENOENT: Kind.NOT_EXIST,
    errno.EACCES: Kind.NOT_ALLOWED,
    errno.EPERM: Kind.NOT_ALLOWED,
    errno.EROFS: Kind.NOT_ALLOWED,
    errno.ENOSPC: Kind.RESOURCES_EXHAUSTED,
    errno.EDQUOT: Kind.RESOURCES_EXHAUSTED,
    errno.EMFILE: Kind.TEMPORARY,
    errno.ENFILE: Kind.TEMPORARY,
    errno.ESTALE: Kind.TEMPORARY,
    errno.ETIMEDOUT: Kind.TEMPORARY,
    errno.EINTR: Kind.TEMPORARY,
}
# What a kernel answers when it cannot clone, or cannot copy inside the file system, these two files.
_UNSUPPORTED = frozenset(
    {
        errno.EXDEV,
        errno.ENOSYS,
        errno.ENOTTY,
        errno.EINVAL,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.ETXTBSY,
        errno.EBADF,
    }
)


def translate_error(err: OSError, op: str, path: str) -> ReflowError:
    """The operational error that stands for a system's error about ``path``; a full disk says how full."""
    cause = err.strerror or str(err)
    if err.errno in _FULL:
        with contextlib.suppress(OSError):
            free, total = disk_space(path)
            cause = f"{cause}: {format_size(free)} of {format_size(total)} are free"
    return ReflowError(_KINDS.get(err.errno or 0, Kind.INVALID), op, path, cause=cause)


def disk_space(path: str) -> tuple[int, int]:
    """Bytes free for this user, and bytes in all, where ``path`` is or would be. Raises OSError."""
    status = os.statvfs(existing_ancestor(path))
    return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize


def existing_ancestor(path: str) -> str:
    """The path itself, or its nearest directory that exists."""
    path = os.path.abspath(path)
    while not os.path.exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def file_system_type(path: str) -> str:
    """The kernel's name of the file system at ``path`` (which may not exist yet); empty if unknown."""
    real = os.path.realpath(existing_ancestor(path))
    best, kind = "", ""
    for mount, mounted in _mounts():
        inside = real == mount or real.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, mounted
    return kind


@cache
def is_network(path: str) -> bool:
    """Tell whether other machines may use the same file system: no shared memory, and other clocks.

    Remembered for the life of the process. FUSE counts unless it is known to be local.
    """
    kind = file_system_type(path)
    if kind.startswith("fuse."):
        return kind not in ("fuse.fuse-overlayfs", "fuse.lxcfs", "fuse.mergerfs")
    return kind in _NETWORK


def _mounts() -> list[tuple[str, str]]:
    """Mount point and type of every mount; later ones hide earlier ones."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
            lines = stream.read().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        head, _, tail = line.partition(" - ")
        words, types = head.split(" "), tail.split(" ")
        if len(words) > 4:
            found.append((_unescape(words[4]), types[0]))
    return found


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    for code in ("\\040", "\\011", "\\012", "\\134"):
        text = text.replace(code, chr(int(code[1:], 8)))
    return text


def copy_contents(source: int, target: int, size: int, observe: Callable[[int], None] | None = None) -> None:
    """Copy ``size`` bytes between open files: share blocks, or let the kernel copy, or read and write.

    Never links. ``observe`` is told the bytes of each piece; what it raises ends the copy. Raises OSError;
    EIO when the source ends early.
    """
    if size and _clone(source, target):
        done = size
        if observe is not None:
            observe(size)
    else:
        done = _copy_in_kernel(source, target, size, observe)
    while done < size:
        chunk = os.pread(source, min(_COPY_BYTES, size - done), done)
        if not chunk:
            raise OSError(errno.EIO, f"ended after {done} of {size} bytes")
        _write_all(target, chunk, done)
        done += len(chunk)
        if observe is not None:
            observe(len(chunk))


def _write_all(target: int, chunk: bytes, offset: int) -> None:
    view = memoryview(chunk)
    while view:
        count = os.pwrite(target, view, offset)
        view, offset = view[count:], offset + count


def _clone(source: int, target: int) -> bool:
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as err:
        if err.errno in _UNSUPPORTED:
            return False
        raise
    return True


def _copy_in_kernel(source: int, target: int, size: int, observe: Callable[[int], None] | None) -> int:
    """Copy as much as the kernel will; the bytes done."""
    done = 0
    if sys.platform != "linux":
        return done
    while done < size:
        try:
            count = os.copy_file_range(source, target, min(size - done, 64 * _COPY_BYTES), done, done)
        except OSError as err:
            if err.errno in _UNSUPPORTED:
                return done
            raise
        if not count:
            return done
        done += count
        if observe is not None:
            observe(count)
    return done


def copy_file(source: str, target: str, *, mode: int = 0o644) -> int:
    """Copy a file to a new path (an error if it exists); the bytes copied. Raises OSError."""
    reader = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(reader).st_size
        writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            copy_contents(reader, writer, size)
        finally:
            os.close(writer)
    finally:
        os.close(reader)
    return size


def exchange(left: str, right: str) -> None:
    """Let two existing paths change places; at once where the kernel can. Raises OSError."""
    code = _renameat2(left, right, _RENAME_EXCHANGE)
    if code == 0:
        return
    if code not in _UNSUPPORTED:
        raise OSError(code, os.strerror(code), right)
    # Not at once: for a moment nothing is at ``right``. Whatever fails, both stay somewhere beside it.
    aside = f"{left}.aside"
    os.rename(right, aside)
    try:
        os.rename(left, right)
    except OSError:
        os.rename(aside, right)
        raise
    os.rename(aside, left)


def rename_new(source: str, target: str) -> None:
    """Rename to a path that must not exist. Raises OSError, EEXIST too."""
    code = _renameat2(source, target, _RENAME_NOREPLACE)
    if code == 0:
        return
    if code not in _UNSUPPORTED:
        raise OSError(code, os.strerror(code), target)
    if os.path.lexists(target):
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    os.rename(source, target)


def _renameat2(left: str, right: str, flags: int) -> int:
    """0, or the error number; ENOSYS where there is no such call."""
    if sys.platform != "linux":
        return errno.ENOSYS
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    call = getattr(library, "renameat2", None)
    if call is None:
        return errno.ENOSYS
    done: int = call(_AT_FDCWD, os.fsencode(left), _AT_FDCWD, os.fsencode(right), flags)
    return 0 if done == 0 else ctypes.get_errno()
