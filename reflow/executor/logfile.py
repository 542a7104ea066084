"""Where the output of execs goes.

Processes write to ``stdout`` and ``stderr`` of their exec's directory, where empty files are used again and
again: most commands say nothing. What is not empty is moved to `log_path` when the exec ends, or linked there
when others want to follow it. What containers print is written to `log_path` at once.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable

from reflow.core.digest import Digest
from reflow.executor.layout import STREAMS, log_path

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
_MODE = 0o644


class LogFiles:
    """The files with the output of execs, below one localdir."""

    def __init__(self, localdir: str) -> None:
        self._localdir = localdir

    def final(self, id: Digest) -> dict[str, str]:
        """Stream -> the file that stays, which need not exist."""
        return {stream: log_path(self._localdir, id, stream) for stream in STREAMS}

    def within(self, directory: str) -> dict[str, str]:
        """Stream -> the file in an exec's directory."""
        return {stream: f"{directory}/{stream}" for stream in STREAMS}

    def open(self, path: str) -> int:
        """Begin a file; its descriptor."""
        try:
            return os.open(path, _FLAGS, _MODE)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            return os.open(path, _FLAGS, _MODE)

    def show(self, id: Digest, directory: str) -> None:
        """Let the output of a process that still runs be followed at its final place."""
        for stream, source in self.within(directory).items():
            with contextlib.suppress(OSError):
                if os.stat(source).st_nlink == 1:
                    _replace(os.link, source, log_path(self._localdir, id, stream))

    def hand_over(self, old: Digest, new: Digest, *, is_final: bool) -> None:
        """Let what an exec prints be found under the id that this run gave it, too.

        ``is_final``: it is written at its final place, where there may be nothing yet.
        """
        for stream in STREAMS:
            with contextlib.suppress(OSError):
                source = log_path(self._localdir, old, stream)
                if is_final and not os.path.exists(source):
                    os.close(self.open(source))
                if old != new and os.path.exists(source):
                    _replace(os.link, source, log_path(self._localdir, new, stream))

    def end(self, id: Digest, directory: str, *, is_kept: bool) -> None:
        """Put an exec's output where it stays; in its directory as well, when that is kept."""
        for stream, source in self.within(directory).items():
            target = log_path(self._localdir, id, stream)
            with contextlib.suppress(OSError):
                _end(source, target, is_kept=is_kept)


def _end(source: str, target: str, *, is_kept: bool) -> None:
    try:
        info = os.lstat(source)
    except FileNotFoundError:
        _end_final(source, target, is_kept=is_kept)
        return
    is_shown = info.st_nlink > 1
    if info.st_size == 0 or not stat.S_ISREG(info.st_mode):
        if is_shown:
            os.unlink(target)
    elif not is_shown:
        _replace(os.link if is_kept else os.rename, source, target)


def _end_final(source: str, target: str, *, is_kept: bool) -> None:
    """End a file that was written at its final place."""
    if os.stat(target).st_size == 0:
        os.unlink(target)
    elif is_kept:
        os.link(target, source)


def _replace(how: Callable[[str, str], None], source: str, target: str) -> None:
    """Link or rename to a path, in the place of what an earlier try left there."""
    try:
        how(source, target)
    except FileExistsError:
        os.unlink(target)
        how(source, target)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        how(source, target)
