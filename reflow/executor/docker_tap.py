"""What containers print, copied to the log files of their execs: as it comes, or when they have ended."""

from __future__ import annotations

import asyncio
import contextlib

from reflow.core.digest import Digest
from reflow.disk.blocking import Blocking
from reflow.executor import docker_stream
from reflow.executor.docker_pulse import Pulse
from reflow.executor.layout import STREAMS
from reflow.executor.localexec import LocalExec
from reflow.executor.logfile import LogFiles

_READERS = 256


class Taps:
    """The output of the containers of one executor, whose daemon listens at ``socket``."""

    def __init__(self, socket: str, logs: LogFiles, pulse: Pulse) -> None:
        self._socket = socket
        self._logs = logs
        self._pulse = pulse
        self._readers = Blocking("logs", _READERS)
        self._open: dict[Digest, asyncio.Future[bool]] = {}

    def open(self, running: LocalExec, container: str) -> None:
        """See to it that what a container prints is in the log files at once."""
        if running.id not in self._open:
            reading = self._readers(self._save, running, container, True)
            tap = self._open[running.id] = asyncio.ensure_future(reading)
            tap.add_done_callback(_seen)

    async def collect(self, running: LocalExec, container: str) -> None:
        """Have all that a container printed, which has ended, if the daemon hands it over.

        Raises TimeoutError when it hangs.
        """
        tap = self._open.pop(running.id, None)
        if tap is None or not await self._pulse.watched(tap):
            await self._pulse.watched(self._readers(self._save, running, container, False))

    def forget(self, id: Digest) -> None:
        """Nobody wants to know any more."""
        self._open.pop(id, None)

    def close(self) -> None:
        """Let go of the threads."""
        self._readers.close()

    def _save(self, running: LocalExec, container: str, follow: bool) -> bool:
        """Copy what a container prints to its log files; False when the daemon does not hand it over."""
        with contextlib.ExitStack() as stack:
            files = {}
            for stream in STREAMS:
                fd = self._logs.open(running.log_files[stream])
                files[stream] = stack.enter_context(open(fd, "wb", buffering=0))
            try:
                for stream, chunk in docker_stream.logs(self._socket, container, follow=follow):
                    files[stream].write(chunk)
            except ConnectionError:
                return False
        return True


def _seen(tap: asyncio.Future[bool]) -> None:
    """What went wrong matters only to one that waits for it."""
    if not tap.cancelled():
        tap.exception()
