"""Where the output of execs goes: to `log_path`, at once; and to an exec's directory, when that is kept."""

from __future__ import annotations

import contextlib
import os

from reflow.core.digest import Digest
from reflow.executor.layout import STREAMS, log_path
from reflow.executor.logstream import open_log


class LogFiles:
    """The files with the output of execs, below one localdir."""

    def __init__(self, localdir: str) -> None:
        self._localdir = localdir

    def final(self, id: Digest) -> dict[str, str]:
        """Stream -> the file that stays, which need not exist."""
        return {stream: log_path(self._localdir, id, stream) for stream in STREAMS}

    def fresh(self, id: Digest) -> list[bytes]:
        """The files of both streams, which are not there: those of an earlier try are deleted."""
        paths = [os.fsencode(path) for path in self.final(id).values()]
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        return paths

    def open(self, path: str) -> int:
        """Begin a file anew; its descriptor."""
        return open_log(path, os.O_TRUNC)

    def hand_over(self, old: Digest, new: Digest, *, is_final: bool) -> None:
        """Let what an exec prints be found under the id that this run gave it, too.

        ``is_final``: it is written at its final place, where there may be nothing yet.
        """
        for stream in STREAMS:
            with contextlib.suppress(OSError):
                source = log_path(self._localdir, old, stream)
                if is_final and not os.path.exists(source):
                    os.close(open_log(source))
                if old != new and os.path.exists(source):
                    _link(source, log_path(self._localdir, new, stream))

    def end(self, id: Digest, directory: str, *, is_kept: bool) -> None:
        """Leave an exec's output in its directory as well, when that is kept; there are no empty files."""
        for stream in STREAMS:
            path = log_path(self._localdir, id, stream)
            with contextlib.suppress(OSError):
                if os.stat(path).st_size == 0:
                    os.unlink(path)
                elif is_kept:
                    os.link(path, f"{directory}/{stream}")


def _link(source: str, target: str) -> None:
    """Link a file, in the place of what an earlier try left there."""
    try:
        os.link(source, target)
    except FileExistsError:
        os.unlink(target)
        os.link(source, target)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.link(source, target)
