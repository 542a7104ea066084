"""The launcher of sandboxes (`sandbox_launcher`) as their executor sees it."""

from __future__ import annotations

import asyncio
import marshal
import os
from collections.abc import Sequence
from typing import NamedTuple

from reflow.core.errors import Kind, ReflowError
from reflow.executor.sandbox_launcher import RAN, Job
from reflow.executor.sandbox_mounts import Way
from reflow.executor.spawn import Child
from reflow.executor.spawn import Launcher as AnyLauncher

_START_S = 30.0


class OverlayError(Exception):
    """An overlay cannot be mounted; the text says why."""


class Exit(NamedTuple):
    """How a process ended, and whether it was the command that did (and not bubblewrap that failed)."""

    code: int
    has_run: bool


class Launcher(AnyLauncher[Job]):
    """One launcher process. ``way`` is how it mounts overlays (empty: not at all), ``reasons`` why not.

    ``has_devices``: root file systems that it mounts have a ``/dev``.
    """

    module = "reflow.executor.sandbox_launcher"

    def __init__(self, program: str, trial: str, ways: Sequence[Way], keep_fds: Sequence[int] = ()) -> None:
        super().__init__([trial, program, marshal.dumps(list(ways)).hex()], keep_fds)
        self.way = ""
        self.reasons: list[str] = []
        self.has_devices = False

    async def start(self) -> None:
        """Start it, and find out how it mounts. Raises UNAVAILABLE."""
        ours = self._spawned()
        loop = asyncio.get_running_loop()
        try:
            message = await asyncio.wait_for(loop.sock_recv(ours, 1 << 16), _START_S)
            if not message:
                cause = f"its launcher ended: {self._last_words()}"
                raise ReflowError(Kind.UNAVAILABLE, "sandbox", cause=cause)
        except BaseException:
            ours.close()
            self._end_process()
            raise
        self.way, self.reasons, self.has_devices = marshal.loads(message)
        self._listen(ours)

    def _start(self) -> None:
        raise ReflowError(Kind.UNAVAILABLE, "sandbox", cause="its launcher has ended")

    async def exit(self, child: Child) -> Exit:
        """How a command ended. Raises OverlayError, or UNAVAILABLE when the launcher is gone."""
        status = os.waitstatus_to_exitcode(await child.status())
        return Exit(128 - status if status < 0 else status, child.note == RAN)

    async def drop(self, cell: str) -> None:
        """Unmount a root file system; fine when the launcher is gone, and that with it."""
        try:
            await self.launch((os.fsencode(cell), None, [], [], {}, False, [], []), []).status()
        except ReflowError:
            return

    def _error(self, code: int, text: str) -> Exception:
        if text.startswith("mount overlay"):
            return OverlayError(text)
        return ReflowError(Kind.UNAVAILABLE, "sandbox", cause=text)
