"""The output of a command, from a pipe to its log file. The launcher uses it, so it imports next to nothing.

(A command that has its log file itself as stderr truncates it when it writes to ``/dev/stderr``.)
"""

from __future__ import annotations

import os

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
_MODE = 0o644
_CHUNK_BYTES = 1 << 16
# As much as may be in a pipe: what has escaped its exec may write to it for ever.
_MAX_REST_BYTES = 1 << 20


def open_log(path: str | bytes, flags: int = 0) -> int:
    """Open a log file to append to, with its directory if need be; its descriptor. Raises OSError."""
    try:
        return os.open(path, _FLAGS | flags, _MODE)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return os.open(path, _FLAGS | flags, _MODE)


class LogStream:
    """One stream of one command. The file is made when there is something to put into it.

    ``reader_fd`` and ``writer_fd`` are the ends of the pipe, -1 when they are closed; ``error`` is why output
    was lost. Nothing here waits for the command.
    """

    __slots__ = ("_file_fd", "_path", "error", "reader_fd", "writer_fd")

    def __init__(self, path: bytes) -> None:
        self._path = path
        self._file_fd = -1
        self.error: OSError | None = None
        self.reader_fd, self.writer_fd = os.pipe()
        os.set_blocking(self.reader_fd, False)

    def handed_over(self) -> None:
        """The writer's end is the command's now."""
        if self.writer_fd >= 0:
            os.close(self.writer_fd)
            self.writer_fd = -1

    def take(self) -> int:
        """Take over what was printed, a chunk at most; the number of bytes, 0 for none yet, -1 at the end."""
        try:
            chunk = os.read(self.reader_fd, _CHUNK_BYTES)
        except BlockingIOError:
            return 0
        if chunk and self.error is None:
            try:
                self._write(chunk)
            except OSError as err:
                self.error = err  # and what follows is dropped: the command must not wait for ever
        return len(chunk) or -1

    def end(self) -> None:
        """Take over the rest: the command has ended."""
        rest_bytes = _MAX_REST_BYTES
        while rest_bytes > 0 and (count := self.take()) > 0:
            rest_bytes -= count
        self.close()

    def close(self) -> None:
        """Take over no more."""
        self.handed_over()
        for fd in (self.reader_fd, self._file_fd):
            if fd >= 0:
                os.close(fd)
        self.reader_fd = self._file_fd = -1

    def _write(self, chunk: bytes) -> None:
        if self._file_fd < 0:
            self._file_fd = open_log(self._path)
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self._file_fd, rest) :]
