"""The output of a command, from a pipe to its log file.

(A command that has its log file itself as stderr truncates it when it writes to ``/dev/stderr``.)
"""

from __future__ import annotations

import asyncio
import contextlib
import os

from reflow.executor.logfile import LogFiles

_CHUNK_BYTES = 1 << 16
_PATIENCE_S = 0.05


class LogPipe:
    """One stream of one command. The file is made when there is something to put into it.

    Nobody reads for the first moment: what a short command prints stays in the pipe until `wait`.
    """

    def __init__(self, logs: LogFiles, path: str) -> None:
        self._logs = logs
        self._path = path
        self._file_fd = -1
        self._error: OSError | None = None
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # of an earlier try
        self._reader_fd, self.writer_fd = os.pipe()
        os.set_blocking(self._reader_fd, False)
        self._is_listening = False
        self._timer = self._loop.call_later(_PATIENCE_S, self._listen)

    @property
    def reader_fd(self) -> int:
        """What has been written and not been read."""
        return self._reader_fd

    def handed_over(self) -> None:
        """The writer's end is the command's now."""
        if self.writer_fd >= 0:
            os.close(self.writer_fd)
            self.writer_fd = -1

    async def wait(self) -> None:
        """Return when all has been written: nobody has the writer's end any more. Raises OSError."""
        while not self._ended.done() and not self._is_listening:
            if not self._read():
                self._listen()
        await self._ended
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Read no more."""
        self.handed_over()
        self._timer.cancel()
        if self._reader_fd >= 0:
            if self._is_listening:
                self._loop.remove_reader(self._reader_fd)
            os.close(self._reader_fd)
            self._reader_fd = -1
        if self._file_fd >= 0:
            os.close(self._file_fd)
            self._file_fd = -1
        if not self._ended.done():
            self._ended.set_result(None)

    def _listen(self) -> None:
        if self._reader_fd >= 0 and not self._is_listening:
            self._is_listening = True
            self._loop.add_reader(self._reader_fd, self._read)

    def _read(self) -> bool:
        """Read what is there; False when there is nothing yet."""
        try:
            chunk = os.read(self._reader_fd, _CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            self.close()
        elif self._error is None:
            try:
                self._write(chunk)
            except OSError as err:
                self._error = err  # and what follows is dropped: the command must not wait for ever
        return True

    def _write(self, chunk: bytes) -> None:
        if self._file_fd < 0:
            self._file_fd = self._logs.open(self._path)
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self._file_fd, rest) :]
