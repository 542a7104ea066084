"""Messages: to people on stderr at the level they asked for, and all of them to the log of a run.

Levels are ``off``, ``error``, ``info`` and ``debug``. A message may have several lines.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import TextIO

LEVELS = {"off": 0, "error": 1, "info": 2, "debug": 3}
ERROR, INFO, DEBUG = 1, 2, 3
_NAMES = {ERROR: "ERROR", INFO: "INFO", DEBUG: "DEBUG"}


class Clock:
    """The local time as the logs print it; formatted once a second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def stamp(self) -> str:
        """``2006/01/02 15:04:05``."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(second))
        return self._text


class RunLog:
    """The log file of a run: every message of every level, with date and level.

    ``trouble`` is what kept a message from being written; nothing is written afterwards.
    """

    def __init__(self, path: str, mode: int = 0o666) -> None:
        self.path = path
        self.trouble: OSError | None = None
        self._clock = Clock()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, mode)
        self._begin = os.fstat(descriptor).st_size
        self._stream: TextIO | None = open(descriptor, "a", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115

    def content(self) -> bytes:
        """What was written since it was opened; nothing when that cannot be read."""
        with contextlib.suppress(OSError):
            if self._stream is not None:
                self._stream.flush()
            with open(self.path, "rb") as stream:
                stream.seek(self._begin)
                return stream.read()
        return b""

    def write(self, level: int, text: str) -> None:
        """Append a message; messages of interest are on disk at once."""
        if self._stream is None:
            return
        try:
            self._stream.write(f"{self._clock.stamp()} [{_NAMES[level]}] {text}\n")
            if level < DEBUG:
                self._stream.flush()
        except OSError as err:
            self.trouble = err
            self.close()

    def close(self) -> None:
        """Write what is buffered and close the file. Messages that come later are lost."""
        stream, self._stream = self._stream, None
        if stream is not None:
            try:
                stream.close()
            except OSError as err:
                self.trouble = self.trouble or err


class Log:
    """Where messages go. ``write`` is given whole lines for the console."""

    def __init__(self, level: int, write: Callable[[str], None]) -> None:
        self.level = level
        self.run_log: RunLog | None = None
        self._write = write
        self._clock = Clock() if level >= DEBUG else None

    def error(self, text: str) -> None:
        """Say that something went wrong."""
        self.message(ERROR, text)

    def info(self, text: str) -> None:
        """Say what happens."""
        self.message(INFO, text)

    def debug(self, text: str) -> None:
        """Say what only those want to know who look for a fault."""
        self.message(DEBUG, text)

    def message(self, level: int, text: str) -> None:
        """Send a message where its level lets it go."""
        if self.run_log is not None:
            self.run_log.write(level, text)
        if level <= self.level:
            self.console(text)

    def to_run_log(self, level: int, text: str) -> None:
        """Write a message to the log of the run only."""
        if self.run_log is not None:
            self.run_log.write(level, text)

    def console(self, text: str) -> None:
        """Write a message to the console whatever its level, and not to the log of the run."""
        lead = "reflow: " if self._clock is None else f"{self._clock.stamp()} "
        self._write(f"{lead}{text}\n")


def parse_level(text: str) -> int:
    """Read a level, in any case. Raises ValueError."""
    level = LEVELS.get(text.lower())
    if level is None:
        raise ValueError(f"unknown log level {text!r}: want off, error, info or debug")
    return level
