"""Where execs keep their files, and who may touch them.

An exec's directory is named by its command and inputs, so that a command sees the same paths every time it
runs, in any run. It is locked as long as its exec lives (`execdir`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import stat
import time
from collections import deque
from collections.abc import Iterator

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, InputArg, OutputArg
from reflow.disk.filesystem import translate_error
from reflow.executor import execdir
from reflow.executor.execdir import FAILED, ExecDir, remove_tree

KEEP_FAILED_S = 14 * 86400
"""A failed exec's directory goes when it is older than this, and an executor starts."""

STREAMS = ("stdout", "stderr")

_MAX_SPARE = 64
_PAUSE_S = 0.01
_PLAIN = re.compile(r"[A-Za-z0-9_./@%+-]+")


def log_path(localdir: str, id: Digest, stream: str) -> str:
    """Where the output of the exec ``id`` goes (``stream`` is stdout or stderr).

    It stays there when the exec has ended, unless it is empty.
    """
    name = id.hex()
    return f"{localdir}/logs/{name[0]}/{name}.{stream}"


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


class Layout:
    """The directories below one localdir.

    ``root`` is a path to it that is free of blanks and shell characters: localdir itself, or a link to it.
    ``real_root`` is the path without links.
    """

    def __init__(self, localdir: str) -> None:
        self.localdir = os.path.abspath(localdir)
        self.root = self.localdir
        self.real_root = self.root
        self._own: ExecDir | None = None
        self._spare: list[ExecDir] = []
        self._trash: deque[str] = deque()
        self._numbers = itertools.count()

    def prepare(self) -> None:
        """Make the directories. Raises when they cannot be made."""
        try:
            os.makedirs(f"{self.localdir}/execs", exist_ok=True)
            os.makedirs(f"{self.localdir}/logs", exist_ok=True)
            os.makedirs(f"{self.localdir}/spare", exist_ok=True)
            if not _PLAIN.fullmatch(self.localdir):
                self.root = _plain_link(self.localdir)
            self.real_root = os.path.realpath(self.root)
            if self._own is None:
                self._own = execdir.acquire(f"{self.root}/spare/{os.getpid()}-{os.urandom(4).hex()}")
        except OSError as err:
            raise os_error("executor", self.localdir, err) from err

    @property
    def own_lock_fd(self) -> int:
        """The lock of what `new_path` gives paths in: whoever has it open keeps that from being removed."""
        assert self._own is not None, "not prepared"
        return self._own.lock_fd

    def path(self, config: ExecConfig) -> str:
        """The directory of a command."""
        return f"{self.root}/execs/{work_digest(config).hex()}"

    def try_acquire(self, path: str) -> ExecDir | None:
        """Make and lock a command's directory; None when somebody has it now.

        It may have what an earlier exec left (``is_used``).
        """
        if self._spare:
            directory = self._spare.pop()
            if directory.move(path):
                return directory
            self._spare.append(directory)
        return execdir.acquire(path)

    def leave(self, directory: ExecDir) -> None:
        """Give back the directory of an exec that has ended: nothing is left at its path.

        It is emptied and set aside for the next exec, and what was in it is deleted by `sweep`: making and
        deleting directories can take milliseconds each.
        """
        directory.forget_ending()
        directory.is_used = False
        has_room = len(self._spare) < _MAX_SPARE
        if has_room and directory.empty(self.discard) and directory.move(self.new_path("spare")):
            self._spare.append(directory)
        elif self.discard(directory.path):
            directory.release()
        else:
            directory.remove()

    @property
    def has_trash(self) -> bool:
        """Whether there is something for `sweep` to do."""
        return bool(self._trash)

    def sweep(self) -> None:
        """Delete what was moved out of the way. Blocks; may be called from a thread."""
        while self._trash:
            remove_tree(self._trash.popleft())

    def close(self) -> None:
        """Delete what was set aside. Blocks."""
        for directory in self._spare:
            directory.release()
        self._spare.clear()
        self._trash.clear()
        if self._own is not None:
            self._own.remove()
            self._own = None

    def discard(self, path: str) -> bool:
        """Move a directory out of the way, to be deleted by `sweep`; False when that cannot be done."""
        trash = self.new_path("trash")
        try:
            os.rename(path, trash)
        except OSError:
            return False
        self._trash.append(trash)
        return True

    def new_path(self, sort: str) -> str:
        """A path that nobody has had, for something that goes when this is closed."""
        assert self._own is not None, "not prepared"
        return f"{self._own.path}/{sort}-{next(self._numbers)}"

    def leftovers(self) -> Iterator[ExecDir]:
        """Lock and yield each directory whose owner is dead; those of failed execs only when they are old."""
        for place in ("execs", "spare"):
            for entry in list(os.scandir(f"{self.root}/{place}")):
                if not _is_kept(entry.path) and (directory := execdir.adopt(entry.path)) is not None:
                    yield directory

    def remove_spares(self, patience_s: float) -> None:
        """Remove what dead executors have set aside. Blocks.

        What sees the end of their execs may have it for a moment yet.
        """
        deadline_s = time.monotonic() + patience_s
        others = [entry.path for entry in os.scandir(f"{self.root}/spare")]
        others = [path for path in others if self._own is None or path != self._own.path]
        while others:
            for path in others:
                directory = execdir.adopt(path)
                if directory is not None:
                    directory.remove()
            others = [path for path in others if os.path.exists(path)]
            if not others or time.monotonic() > deadline_s:
                return
            time.sleep(_PAUSE_S)

    def locked(self) -> list[str]:
        """The directories of execs that somebody has."""
        return [path for path in self.exec_paths() if execdir.is_locked(path)]

    def exec_paths(self) -> list[str]:
        """The directories of execs."""
        return [entry.path for entry in os.scandir(f"{self.root}/execs")]


def os_error(op: str, subject: object, err: OSError) -> ReflowError:
    """The operational error that stands for an error of the operating system."""
    where = os.fsdecode(err.filename) if isinstance(err.filename, str | bytes) else str(subject)
    return translate_error(err, op, where)


def _is_kept(path: str) -> bool:
    try:
        return time.time() - os.stat(f"{path}/{FAILED}").st_mtime < KEEP_FAILED_S
    except OSError:
        return False


def _plain_link(localdir: str) -> str:
    """A link to ``localdir`` whose own path is plain, the same every time, in a directory of this user."""
    # Not $TMPDIR: the path is seen by commands, and has to be the same in every run.
    base = "/tmp" if os.access("/tmp", os.W_OK) else "/var/tmp"
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
