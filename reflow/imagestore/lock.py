"""Locks between processes, and directories of work that do not outlive their owner."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator

from reflow.imagestore.job import Job

_POLL_S = 0.1
_OLD_S = 3 * 86400.0
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF})
_SUFFIX = ".lock"


class Lock:
    """A locked file; `release` lets go of it. Made by `take` and `wait`.

    One that is not ``is_real`` says nothing of others: the file system has no locks.
    """

    __slots__ = ("_fd", "is_real", "path")

    def __init__(self, path: str, fd: int, is_real: bool) -> None:
        self.path = path
        self.is_real = is_real
        self._fd = fd

    def touch(self) -> None:
        """Set the file's time to now, where that is allowed."""
        with contextlib.suppress(OSError):
            os.utime(self._fd)

    def release(self) -> None:
        """Let go of it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def take(path: str, *, shared: bool = False) -> Lock | None:
    """Lock a file, which is made if need be; None when somebody has it. Raises OSError.

    On a file system that has no locks everybody gets them: what appears by a rename is safe even so.
    """
    fd = _open(path)
    is_real = True
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        is_there = _is_same(fd, path)
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError as err:
        if err.errno not in _NO_LOCKS:
            os.close(fd)
            raise
        is_there, is_real = True, False
    if is_there:
        return Lock(path, fd, is_real)
    os.close(fd)  # somebody removed it meanwhile
    return take(path, shared=shared)


def wait(path: str, job: Job, what: str, *, shared: bool = False) -> Lock:
    """Lock a file when it can be had, telling what is waited for."""
    while (lock := take(path, shared=shared)) is None:
        job.tell(what)
        job.pause(_POLL_S)
    return lock


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as err:
        if err.errno not in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # another user's store: reading is enough


def _is_same(fd: int, path: str) -> bool:
    try:
        return os.fstat(fd).st_ino == os.stat(path).st_ino
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def work_directory(parent: str) -> Iterator[str]:
    """A new directory that is removed at the end of the block, or by `sweep` when its owner has died."""
    os.makedirs(parent, exist_ok=True)
    path = f"{parent}/{os.getpid()}-{os.urandom(4).hex()}"
    lock = take(path + _SUFFIX)
    assert lock is not None, "nobody else knows the name"
    try:
        os.mkdir(path, 0o700)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.unlink(path + _SUFFIX)
        lock.release()


def sweep(parent: str) -> None:
    """Remove the directories of owners that have died; where there are no locks, those that are days old."""
    with contextlib.suppress(OSError):
        for name in os.listdir(parent):
            if name.endswith(_SUFFIX) and (lock := take(f"{parent}/{name}")) is not None:
                if lock.is_real or time.time() - os.stat(lock.path).st_mtime > _OLD_S:
                    shutil.rmtree(f"{parent}/{name.removesuffix(_SUFFIX)}", ignore_errors=True)
                    os.unlink(lock.path)
                lock.release()
