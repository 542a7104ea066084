"""What executors of this machine do about execs that outlived their run (`recovery`)."""

from __future__ import annotations

import abc
import asyncio
import os
from collections.abc import Callable, Collection, Coroutine, Sequence
from pathlib import Path
from typing import Any

from reflow.core.digest import Digest
from reflow.disk.blocking import Blocking, to_the_end
from reflow.disk.controlgroup import usable_cpus
from reflow.executor import execdir, staging
from reflow.executor.execdir import ExecDir
from reflow.executor.layout import Layout
from reflow.executor.linktree import Trees, remove_abandoned
from reflow.executor.localexec import LocalExec
from reflow.executor.logfile import LogFiles
from reflow.executor.manifest import Manifest
from reflow.executor.outcome import Ending
from reflow.executor.recovery import Recovery, end_survivors, kill_in, staged_again
from reflow.pool import InputLocator, Progress
from reflow.repository import LocalFiles

_WAIT_S = 0.2
_LAUNCHER_END_S = 2.0


def _say_nothing(text: str) -> None:
    """Nobody wants to know."""


class Survival(abc.ABC):
    """Finds, goes on with, and removes what dead runs have left, and waits for what live ones have."""

    prints_to_final = False
    """Whether what commands print is written at its final place at once."""

    def __init__(self, localdir: Path, repository: LocalFiles, locator: InputLocator) -> None:
        self.layout = Layout(os.fspath(localdir))
        self.logs = LogFiles(self.layout.localdir)
        self.recovery = Recovery(self.layout, self.name, repository.path)
        self._locator = locator
        self.trees = Trees(self.layout, locator)
        self._files = Blocking("files", max(2, usable_cpus()))
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_sweeping = False
        self.inform: Callable[[str], None] = _say_nothing
        """Told what a user should know."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """docker, sandbox or process."""

    @abc.abstractmethod
    def tap(self, running: LocalExec) -> None:
        """See to it that what a running exec prints goes to its log files at once."""

    @abc.abstractmethod
    async def _end_leftovers(self, leftovers: list[ExecDir]) -> None:
        """End what still runs in directories whose owner is dead."""

    async def _running_in(self, paths: Sequence[str]) -> Collection[str]:
        """Those of these directories (whose locks are free) where a command runs all the same."""
        return ()

    async def _resume(self, running: LocalExec, directory: ExecDir, found: Manifest) -> Ending | None:
        """Await the end of a command that a dead run has started; None when it did not finish.

        When cancelled, end it, as `_execute`.
        """
        code = execdir.ending_of(directory.path)
        if code is None:
            return None
        if not running.is_adopted:
            self._adopt(running, directory.path, found)
        return Ending(code)

    # Leftovers.

    async def _remove_leftovers(self, is_kept: Callable[[ExecDir, Collection[str]], bool]) -> None:
        leftovers = await self._files(lambda: list(self.layout.leftovers()))
        if not leftovers:
            return
        running = await self._running_in([directory.path for directory in leftovers])
        unwanted = []
        for directory in leftovers:
            if is_kept(directory, running):
                directory.release()
            else:
                unwanted.append(directory)
        await self._end_leftovers(unwanted)
        for directory in unwanted:
            await self._files(self.layout.leave, directory)
        self._start_sweep()

    async def _remove_unwanted(self) -> None:
        """Remove what dead runs have left and nobody has asked for."""
        await self._remove_leftovers(lambda directory, running: False)
        await end_survivors(await self._files(self.layout.locked), self._files)
        await self._files(self.layout.remove_spares, _LAUNCHER_END_S)
        await self._files(remove_abandoned, self.layout.root)
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start_sweep(self) -> None:
        if self.layout.has_trash and not self._is_sweeping:
            self._is_sweeping = True
            self._own(self._sweep())

    async def _sweep(self) -> None:
        """Delete, off the way of execs, what they left behind."""
        try:
            await self._files(self.layout.sweep)
        finally:
            self._is_sweeping = False

    def _own(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that `close` waits for."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Directories and what is in them.

    async def _acquire(self, running: LocalExec, progress: Progress | None) -> ExecDir:
        """Lock an exec's directory; wait while another run has it, or a command that outlived its run."""
        path = self.layout.path(running.config)
        delay_s = 0.02
        try:
            while (directory := self.layout.try_acquire(path)) is None:
                if not running.is_adopted:
                    await self._attend(running, path, progress)
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, _WAIT_S)
        except asyncio.CancelledError:
            if running.is_adopted:
                await to_the_end(end_survivors([path], self._files))
            raise
        if directory.is_used:
            directory.take_over(running.tenant(self.name))
        return directory

    async def _attend(self, running: LocalExec, path: str, progress: Progress | None) -> None:
        """See what there is to wait for in a directory that somebody has.

        Whoever has it may be waiting for room itself; what a dead run has left has been using it already.
        """
        if not self.recovery.is_orphaned(path):
            running.room.leave()
            if progress is not None:
                progress("waiting for another run of this exec", 0, 0)
            return
        await running.room.enter()
        orphan = self.recovery.orphan(path)
        if orphan is not None:
            self._adopt(running, path, orphan)
        else:
            await self._files(kill_in, [path])

    async def _resumed(self, running: LocalExec, directory: ExecDir) -> tuple[staging.Staged, Ending] | None:
        """Go on with a command that a dead run has started; None when there is none."""
        found = self.recovery.survivor(directory)
        if found is None:
            return None
        await running.room.enter()
        ending = await self._resume(running, directory, found)
        if ending is None:
            return None
        path = directory.path
        return await self._files(staged_again, found, running.config, path, self._locator), ending

    def _adopt(self, running: LocalExec, directory: str, found: Manifest) -> None:
        """Take an exec for ours that a dead run has started."""
        tenant = execdir.tenant_of(directory)
        self.logs.hand_over(Digest.parse(found.id), running.id, is_final=self.prints_to_final)
        running.adopt(0 if tenant is None else tenant.pid, found.created_s)
        execdir.sign(directory, running.tenant(self.name))
        self.tap(running)
