"""The directory of one exec: locking, emptying, keeping, deleting.

Whoever has the lock (``lock``, by flock) of a directory owns it; whoever gets the lock of one that is there
already knows that its owner is dead or has left it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable, Collection
from typing import NamedTuple

from reflow.executor.launcher import ENDING_OFFSET, PID_OFFSET, record

FAILED = "failed"
"""The file that says why a directory is kept."""

MANIFEST = "manifest.json"
"""The file that says what runs here (`manifest`)."""

KILLED = "killed"
"""The file that says that somebody wanted an exec to end before its time."""

_LOCK = "lock"
_MAX_LOCK_BYTES = 4096
_FEW_FILES = 64
_SKELETON = ("arg", "return", "tmp")
"""What a recycled directory keeps, empty; ``arg/0`` as well. Making files is dear on some disks."""


class Tenant(NamedTuple):
    """Whose directory it is: the exec, the process that drives it, the executor, the exec's first process.

    ``id`` are the 64 digits of the exec's id; ``pid`` is 0 before there is a process of this machine, and
    where there is none that we know (docker).
    """

    id: str
    owner: int
    executor: str
    pid: int


class ExecDir:
    """A locked directory; ``path`` has no characters that a shell would read.

    ``is_used``: it has what an earlier exec left. ``lock_fd`` is for those who are to hold the lock as well.
    """

    __slots__ = ("is_used", "lock_fd", "path")

    def __init__(self, path: str, lock_fd: int, *, is_used: bool = False) -> None:
        self.path = path
        self.lock_fd = lock_fd
        self.is_used = is_used

    @property
    def name(self) -> str:
        """The last part of its path: the digest of its exec's work."""
        return os.path.basename(self.path)

    def note(self, tenant: Tenant) -> None:
        """Write down, in the lock's file, whose it is and that it has not ended."""
        with contextlib.suppress(OSError):
            os.pwrite(self.lock_fd, _tenant_text(tenant) + b"-".ljust(10) + b"\n", 0)

    def take_over(self, tenant: Tenant) -> None:
        """Write down whose it is now; how its exec ended, if it has, stays."""
        with contextlib.suppress(OSError):
            os.pwrite(self.lock_fd, _tenant_text(tenant), 0)

    def note_pid(self, pid: int) -> None:
        """Write down the exec's first process."""
        record(self.lock_fd, PID_OFFSET, b"%d" % pid)

    def note_ending(self, code: int) -> None:
        """Write down that the command has finished, with this exit status."""
        record(self.lock_fd, ENDING_OFFSET, b"exit %d" % code)

    def forget_ending(self) -> None:
        """Write down that what is here is of no use any more: its files are about to be taken away."""
        record(self.lock_fd, ENDING_OFFSET, b"-")

    @property
    def is_killed(self) -> bool:
        """Whether somebody wanted its exec to end."""
        return os.path.exists(f"{self.path}/{KILLED}")

    def clear(self) -> None:
        """Delete what an earlier exec left. Blocks."""
        if self.is_used:
            self.forget_ending()
            _Remover().contents(self.path, keep=(_LOCK,))
            self.is_used = False

    def remove(self) -> None:
        """Delete the directory and let go of the lock. Blocks."""
        _Remover().contents(self.path, keep=(_LOCK,))
        with contextlib.suppress(OSError):
            os.unlink(f"{self.path}/{_LOCK}")
            os.rmdir(self.path)
        self.release()

    def empty(self, discard: Callable[[str], bool]) -> bool:
        """Take out what is in the directory, but for the skeleton that every exec needs.

        ``discard`` moves a directory out of the way, to be deleted later. False when there is much to delete,
        or when the skeleton is damaged: then the directory is no good for another exec.
        """
        remover = _Remover(discard, _FEW_FILES)
        try:
            if os.stat(f"{self.path}/{_LOCK}").st_ino != os.fstat(self.lock_fd).st_ino:
                return False
            if not remover.contents(self.path, keep=(_LOCK, MANIFEST, *_SKELETON)):
                return False
            for name, inner in (("arg", ("0",)), ("arg/0", ()), ("return", ()), ("tmp", ())):
                path = f"{self.path}/{name}"
                if os.path.lexists(path) and not (_is_ours(path) and remover.contents(path, keep=inner)):
                    return False
            _drop_damaged(f"{self.path}/{MANIFEST}")
        except OSError:
            return False
        return not remover.has_failed

    def move(self, path: str) -> bool:
        """Give the directory another name; False when something is there."""
        try:
            os.rename(self.path, path)
        except OSError:
            return False
        self.path = path
        return True

    def keep(self, reason: str, command: str) -> None:
        """Leave the directory (without its inputs) for people to look at, and let go of the lock."""
        _write_text(f"{self.path}/{FAILED}", reason + "\n")
        for name in ("arg", "upper", "work", "merged", "take"):
            remove_tree(f"{self.path}/{name}")
        _write_text(f"{self.path}/command", command)
        self.release()

    def release(self) -> None:
        """Let go of the lock."""
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1


def acquire(path: str) -> ExecDir | None:
    """Make and lock a directory; None when somebody has it now. What is in it stays (`ExecDir.clear`)."""
    while True:
        is_fresh = _make_directory(path)
        lock_fd = _try_lock(f"{path}/{_LOCK}")
        if lock_fd is None:
            return None
        if lock_fd < 0:
            continue  # its owner removed it meanwhile
        return ExecDir(path, lock_fd, is_used=not is_fresh)


def adopt(path: str) -> ExecDir | None:
    """Lock a directory that is there, with what is in it; None when somebody has it, or it is gone."""
    if not os.path.isdir(path):
        return None
    lock_fd = _try_lock(f"{path}/{_LOCK}")
    return None if lock_fd is None or lock_fd < 0 else ExecDir(path, lock_fd, is_used=True)


def is_locked(path: str) -> bool:
    """Tell whether an exec of some live process has a directory."""
    directory = adopt(path)
    if directory is not None:
        directory.release()
    return directory is None and os.path.isdir(path)


def tenant_of(path: str) -> Tenant | None:
    """Whose directory it is, or was last; None when nobody has written that down."""
    try:
        id, owner, executor, pid = _lock_text(path)[:ENDING_OFFSET].split()
        return Tenant(id, int(owner), executor, int(pid))
    except (OSError, ValueError):
        return None


def ending_of(path: str) -> int | None:
    """The exit status that was recorded for the exec of a directory; None when there is none."""
    try:
        word, code = _lock_text(path)[ENDING_OFFSET:].split()
        return int(code) if word == "exit" else None
    except (OSError, ValueError):
        return None


def sign(path: str, tenant: Tenant) -> None:
    """Write down whose a directory is while somebody else has its lock: a launcher whose run is dead."""
    with contextlib.suppress(OSError):
        fd = os.open(f"{path}/{_LOCK}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(fd, _tenant_text(tenant), 0)
        finally:
            os.close(fd)


def _tenant_text(tenant: Tenant) -> bytes:
    # Always of the same length: it is written in the place of the one before.
    return f"{tenant.id} {tenant.owner:<10} {tenant.executor:<10} {tenant.pid:<10} ".encode()


def _lock_text(path: str) -> str:
    with open(f"{path}/{_LOCK}", encoding="ascii") as file:
        return file.read(_MAX_LOCK_BYTES)


def remove_tree(path: str) -> None:
    """Delete a directory with all that is in it.

    What cannot be deleted stays, and is tried again when an executor starts.
    """
    _Remover().tree(path)


class _Remover:
    """Deletes trees; with ``limit``, stops when it has met more entries than that.

    ``discard`` is asked to move directories out of the way, and what it cannot move is deleted here.
    """

    def __init__(self, discard: Callable[[str], bool] | None = None, limit: int = 0) -> None:
        self.has_failed = False
        self._discard = discard
        self._limit = limit
        self._met = 0

    def tree(self, path: str) -> bool:
        """Delete a directory; False when there was too much."""
        if not self.contents(path):
            return False
        self._remove(os.rmdir, path)
        return True

    def contents(self, path: str, keep: Collection[str] = ()) -> bool:
        """Delete what is in a directory, but for the names ``keep``; False when there was too much."""
        for entry in _entries(path):
            if entry.name in keep:
                continue
            self._met += 1
            if self._limit and self._met > self._limit:
                return False
            if not entry.is_dir(follow_symlinks=False):
                self._remove(os.unlink, entry.path)
            elif self._discard is not None and self._discard(entry.path):
                continue
            elif not self.tree(entry.path):
                return False
        return True

    def _remove(self, how: Callable[[str], None], path: str) -> None:
        try:
            how(path)
        except PermissionError:
            if not _open_up(os.path.dirname(path)) or not _try(how, path):
                self.has_failed = True
        except OSError:
            self.has_failed = True


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except PermissionError:
        if not _open_up(path):
            return []
    except OSError:
        return []
    with os.scandir(path) as entries:
        return list(entries)


def _try(how: Callable[[str], None], path: str) -> bool:
    try:
        how(path)
    except OSError:
        return False
    return True


def _open_up(directory: str) -> bool:
    """Make a directory that a command protected writable again; tell whether that worked."""
    try:
        os.chmod(directory, stat.S_IRWXU)
    except OSError:
        return False
    return True


def _drop_damaged(path: str) -> None:
    """Delete what is no plain file with one name any more."""
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(info.st_mode) or info.st_nlink > 1:
        os.unlink(path)


def _is_ours(path: str) -> bool:
    """Tell whether a directory of the skeleton is still one, and one that we can use."""
    info = os.lstat(path)
    return stat.S_ISDIR(info.st_mode) and info.st_mode & stat.S_IRWXU == stat.S_IRWXU


def _make_directory(path: str) -> bool:
    """Make the directory; tell whether it was not there."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return False
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return _make_directory(path)
    return True


def _try_lock(path: str) -> int | None:
    """Lock a file, made if need be: its descriptor; None when somebody has it; -1 when it has gone."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_ino == os.stat(path).st_ino:
            return fd
    except BlockingIOError:
        os.close(fd)
        return None
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return -1


def _write_text(path: str, text: str) -> None:
    with contextlib.suppress(OSError), open(path, "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))
