"""Where execs keep their files, and who may touch them.

An exec's directory is named by its command and inputs, so that a command sees the same paths every time it
runs, in any run. It is locked (``lock``, by flock) as long as its exec lives; whoever gets the lock of a
directory that is there already knows that its owner is dead or has kept it after a failure.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterator

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, InputArg, OutputArg
from reflow.disk.filesystem import translate_error

KEEP_FAILED_S = 14 * 86400
"""A failed exec's directory goes when it is older than this, and an executor starts."""

STREAMS = ("stdout", "stderr")

_LOCK = "lock"
_FAILED = "failed"
_PLAIN = re.compile(r"[A-Za-z0-9_./@%+-]+")


def log_path(localdir: str, id: Digest, stream: str) -> str:
    """Where the output of the exec ``id`` goes (``stream`` is stdout or stderr).

    It stays there when the exec has ended, unless it is empty.
    """
    name = id.hex()
    return f"{localdir}/logs/{name[:2]}/{name}.{stream}"


def work_digest(config: ExecConfig) -> Digest:
    """What a command's directory is called: the same whenever the same command has the same inputs."""
    shape = "".join(["d" if is_dir else "f" for is_dir in config.output_is_dir])
    words = "\0".join([config.type, config.url, config.image, shape, config.cmd])
    material = [words.encode("utf-8", "surrogateescape")]
    for arg in config.args:
        match arg:
            case OutputArg(index):
                material.append(b"out %d" % index)
            case InputArg(fileset):
                material.append(b"in %d" % len(fileset.flatten()))
                material += [member.digest for member in fileset.flatten()]
    return Digest.of(b"\0".join(material))


class ExecDir:
    """The locked directory of one exec; ``path`` has no characters that a shell would read."""

    __slots__ = ("_lock_fd", "path")

    def __init__(self, path: str, lock_fd: int) -> None:
        self.path = path
        self._lock_fd = lock_fd

    def remove(self, limit: int = 0) -> bool:
        """Delete the directory and let go of the lock.

        With ``limit``, False when it has more entries than that: then call again, from a thread.
        """
        remover = _Remover(limit)
        if not remover.contents(self.path, keep=_LOCK):
            return False
        with contextlib.suppress(OSError):
            os.unlink(f"{self.path}/{_LOCK}")
            os.rmdir(self.path)
        self.release()
        return True

    def keep(self, reason: str, command: str) -> None:
        """Leave the directory (without its inputs) for people to look at, and let go of the lock."""
        for name in ("arg", "upper", "work", "take"):
            remove_tree(f"{self.path}/{name}")
        _write_text(f"{self.path}/command", command)
        _write_text(f"{self.path}/{_FAILED}", reason + "\n")
        self.release()

    def release(self) -> None:
        """Let go of the lock."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


class Layout:
    """The directories below one localdir.

    ``root`` is a path to it that is free of blanks and shell characters: localdir itself, or a link to it.
    """

    def __init__(self, localdir: str) -> None:
        self.localdir = os.path.abspath(localdir)
        self.root = self.localdir

    def prepare(self) -> None:
        """Make the directories. Raises when they cannot be made."""
        try:
            os.makedirs(f"{self.localdir}/execs", exist_ok=True)
            os.makedirs(f"{self.localdir}/logs", exist_ok=True)
            if not _PLAIN.fullmatch(self.localdir):
                self.root = _plain_link(self.localdir)
        except OSError as err:
            raise os_error("executor", self.localdir, err) from err

    def path(self, config: ExecConfig) -> str:
        """The directory of a command."""
        return f"{self.root}/execs/{work_digest(config).hex()}"

    def try_acquire(self, path: str) -> ExecDir | None:
        """Make and lock a command's directory, empty; None when somebody has it now."""
        while True:
            fresh = _make_directory(path)
            lock_fd = _try_lock(f"{path}/{_LOCK}")
            if lock_fd is None:
                return None
            if lock_fd < 0:
                continue  # its owner removed it meanwhile
            if not fresh:
                _Remover(0).contents(path, keep=_LOCK)
            return ExecDir(path, lock_fd)

    def is_locked(self, path: str) -> bool:
        """Tell whether an exec of some live process has this directory."""
        if not os.path.isdir(path):
            return False
        lock_fd = _try_lock(f"{path}/{_LOCK}")
        if lock_fd is not None and lock_fd >= 0:
            os.close(lock_fd)
        return lock_fd is None

    def leftovers(self) -> Iterator[ExecDir]:
        """Lock and yield each directory whose owner is dead; those of failed execs only when they are old."""
        for entry in list(os.scandir(f"{self.root}/execs")):
            if not entry.is_dir(follow_symlinks=False) or _is_kept(entry.path):
                continue
            lock_fd = _try_lock(f"{entry.path}/{_LOCK}")
            if lock_fd is not None and lock_fd >= 0:
                yield ExecDir(entry.path, lock_fd)

    def open_log(self, id: Digest, stream: str) -> int:
        """Begin the file of an exec's output; its descriptor."""
        path = log_path(self.localdir, id, stream)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o644)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            return os.open(path, flags, 0o644)

    def logs(self, id: Digest) -> dict[str, str]:
        """Stream -> file of an exec's output, which need not exist."""
        return {stream: log_path(self.localdir, id, stream) for stream in STREAMS}

    def end_logs(self, id: Digest, keep_in: str = "") -> None:
        """Delete an exec's output where there was none; link it into ``keep_in``, when that is given."""
        for stream, path in self.logs(id).items():
            try:
                if os.stat(path).st_size == 0:
                    os.unlink(path)
                elif keep_in:
                    os.link(path, f"{keep_in}/{stream}")
            except OSError:
                continue


def os_error(op: str, subject: object, err: OSError) -> ReflowError:
    """The operational error that stands for an error of the operating system."""
    where = os.fsdecode(err.filename) if isinstance(err.filename, str | bytes) else str(subject)
    return translate_error(err, op, where)


def remove_tree(path: str) -> None:
    """Delete a directory with all that is in it.

    What cannot be deleted stays, and is tried again when an executor starts.
    """
    _Remover(0).tree(path)


class _Remover:
    """Deletes trees; with ``limit``, stops when it has met more entries than that."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._met = 0

    def tree(self, path: str) -> bool:
        """Delete a directory; False when there was too much."""
        if not self.contents(path):
            return False
        _remove(os.rmdir, path)
        return True

    def contents(self, path: str, keep: str = "") -> bool:
        """Delete what is in a directory, but for the name ``keep``; False when there was too much."""
        for entry in _entries(path):
            if keep and entry.name == keep:
                continue
            self._met += 1
            if self._limit and self._met > self._limit:
                return False
            if not entry.is_dir(follow_symlinks=False):
                _remove(os.unlink, entry.path)
            elif not self.tree(entry.path):
                return False
        return True


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


def _remove(how: Callable[[str], None], path: str) -> None:
    try:
        how(path)
    except PermissionError:
        if _open_up(os.path.dirname(path)):
            with contextlib.suppress(OSError):
                how(path)
    except OSError:
        pass


def _open_up(directory: str) -> bool:
    """Make a directory that a command protected writable again; tell whether that worked."""
    try:
        os.chmod(directory, stat.S_IRWXU)
    except OSError:
        return False
    return True


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


def _is_kept(path: str) -> bool:
    try:
        return time.time() - os.stat(f"{path}/{_FAILED}").st_mtime < KEEP_FAILED_S
    except OSError:
        return False


def _write_text(path: str, text: str) -> None:
    with contextlib.suppress(OSError), open(path, "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))


def _plain_link(localdir: str) -> str:
    """A link to ``localdir`` whose own path is plain, the same every time, in a directory of this user."""
    # Not $TMPDIR: the path is seen by commands, and has to be the same in every run.
    base = "/tmp" if os.access("/tmp", os.W_OK) else tempfile.gettempdir()
    directory = f"{base}/reflow-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    info = os.lstat(directory)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        detail = f"{directory} belongs to somebody else"
        raise ReflowError(Kind.NOT_ALLOWED, "executor", localdir, cause=detail)
    link = f"{directory}/{Digest.of_text(localdir).short}"
    with contextlib.suppress(FileExistsError):
        os.symlink(localdir, link)
    if os.readlink(link) != localdir:
        raise ReflowError(Kind.PRECONDITION, "executor", localdir, cause=f"{link} leads elsewhere: remove it")
    return link
