"""What the executors of this machine share: the life of an exec, from its directory to its outputs."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import os
import time
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, ExecResult
from reflow.core.resources import Resources
from reflow.disk.blocking import Blocking, to_the_end
from reflow.executor import machine, staging, transfer
from reflow.executor.conclusion import SMALL_COUNT, Conclusion
from reflow.executor.execdir import ExecDir
from reflow.executor.layout import Layout, os_error
from reflow.executor.localexec import LocalExec
from reflow.executor.logfile import LogFiles
from reflow.executor.outcome import Ending
from reflow.executor.view import View
from reflow.pool import InputLocator, Progress
from reflow.repository import LocalFiles

_MAX_FINISHED = 1024
_SAMPLE_S = 1.0


class LocalExecutor(abc.ABC):
    """An executor of this machine.

    ``localdir`` holds the directories of execs; ``repository`` takes their outputs, ``locator`` finds their
    inputs. With ``hard_memory`` an exec that uses more memory than it asked for is killed.
    """

    def __init__(
        self,
        localdir: Path,
        repository: LocalFiles,
        locator: InputLocator,
        *,
        hard_memory: bool = False,
    ) -> None:
        self.layout = Layout(os.fspath(localdir))
        self.logs = LogFiles(self.layout.localdir)
        self.hard_memory = hard_memory
        self._repository = repository
        self._locator = locator
        self._files = Blocking("files", max(2, machine.usable_cpus()))
        self._conclusion = Conclusion(repository, locator, self._files, self.name)
        self._execs: dict[Digest, LocalExec] = {}
        self._finished: dict[Digest, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticker: asyncio.TimerHandle | None = None
        self._same_device = True
        self._is_sweeping = False

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """docker, sandbox or process."""

    @property
    @abc.abstractmethod
    def resources(self) -> Resources:
        """All that this machine has to give; known once `start` has returned."""

    @property
    def id(self) -> str:
        """16 hexadecimal digits that tell this localdir from others; the first part of an exec's URI."""
        return Digest.of_text(self.layout.localdir).hex()[:16]

    async def start(self) -> None:
        """Get ready, and remove what dead runs left behind. Raises when execs cannot run here."""
        await self._files(self.layout.prepare)
        self._same_device = await self._files(self._is_same_device)
        await self._open()
        leftovers = await self._files(lambda: list(self.layout.leftovers()))
        if leftovers:
            await self._end_leftovers(leftovers)
            for directory in leftovers:
                await self._files(self.layout.leave, directory)
            self._start_sweep()

    async def put(self, id: Digest, config: ExecConfig, progress: Progress | None = None) -> LocalExec:
        """Start an exec, or return the one with this id that runs or has succeeded.

        Waits while the same command with the same inputs runs elsewhere in this localdir.
        """
        existing = self._execs.get(id)
        if existing is None or existing.has_failed:
            existing = LocalExec(id, f"{self.id}/{id.hex()}", config, self)
            self._execs[id] = existing
            self._finished.pop(id, None)
            existing.attach(self._own(self._run(existing, progress)))
        await existing.launch()
        return existing

    async def get(self, id: Digest) -> LocalExec:
        """An exec that was put. Raises NOT_EXIST."""
        found = self._execs.get(id)
        if found is None:
            raise ReflowError(Kind.NOT_EXIST, "exec", id)
        return found

    async def remove(self, id: Digest) -> None:
        """Kill it if it runs and delete its directory; its output stays in the logs."""
        found = self._execs.pop(id, None)
        self._finished.pop(id, None)
        if found is None:
            raise ReflowError(Kind.NOT_EXIST, "exec", id)
        if found.task is not None and not found.task.done():
            found.task.cancel()
            await asyncio.wait([found.task])
        if found.kept:
            directory = await self._files(self.layout.try_acquire, found.kept)
            found.kept = ""
            if directory is not None:
                await self._files(directory.remove)

    async def close(self, *, kill: bool = False) -> None:
        """Wait for what runs, or with ``kill`` end it; nothing of it is left when this returns."""
        if kill:
            for task in self._tasks:
                task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._ticker is not None:
            self._ticker.cancel()
        await self._close()
        await self._files(self.layout.close)
        self._files.close()

    @abc.abstractmethod
    def kill_now(self) -> None:
        """Kill all that runs, at once and without waiting for it: for the second Ctrl-C."""

    # What an executor adds.

    @abc.abstractmethod
    async def _open(self) -> None:
        """Find out that execs can run, and what there is."""

    @abc.abstractmethod
    async def _close(self) -> None:
        """Let go of everything."""

    @abc.abstractmethod
    async def _end_leftovers(self, leftovers: list[ExecDir]) -> None:
        """End what still runs in directories whose owner is dead."""

    @abc.abstractmethod
    async def _prepare(self, running: LocalExec, progress: Progress | None) -> None:
        """Get what the exec needs besides its files."""

    @abc.abstractmethod
    def _staging(self, config: ExecConfig, directory: str) -> staging.Staging:
        """What stages inputs in this executor's way."""

    @abc.abstractmethod
    async def _execute(self, running: LocalExec, directory: str, staged: staging.Staged) -> Ending:
        """Run the command to its end. When cancelled, end it, and return when nothing of it is left."""

    @abc.abstractmethod
    def _view(self, directory: str, staged: staging.Staged) -> tuple[View, str]:
        """The files as the command saw them, and what ``return`` was called there."""

    @abc.abstractmethod
    async def _sample(self, running: list[LocalExec]) -> None:
        """Note what these execs use now."""

    @abc.abstractmethod
    async def command_lines(self, running: LocalExec) -> list[str]:
        """The processes of an exec."""

    @abc.abstractmethod
    def tap(self, running: LocalExec) -> None:
        """See to it that what a running exec prints goes to its log files at once."""

    # The life of an exec.

    async def _run(self, running: LocalExec, progress: Progress | None) -> None:
        try:
            if running.config.type == "exec":
                result = await self._perform(running, progress)
            else:
                result = await self._transfer(running, progress)
            running.finish(result)
        except asyncio.CancelledError:
            running.fail(ReflowError(Kind.CANCELED, "exec", running.id))
        except ReflowError as err:
            running.fail(err)
        except OSError as err:
            running.fail(os_error("exec", running.id, err))
        except BaseException as err:
            running.fail(ReflowError(Kind.OTHER, "exec", running.id, cause=err))
            raise
        finally:
            self._note_finished(running)

    async def _perform(self, running: LocalExec, progress: Progress | None) -> ExecResult:
        await self._prepare(running, progress)
        directory = await self._acquire(running.config, progress)
        running.move_in(directory, self.name)
        result: ExecResult | None = None
        command = ""
        try:
            staged = await self._staged(running, directory.path, progress)
            command = staged.command
            running.state = "created"
            ending = await self._execute(running, directory.path, staged)
            if ending.code and directory.is_killed:
                ending = ending._replace(is_wanted=True)
            running.ended_s = running.ended_s or time.time()
            view = partial(self._view, directory.path, staged)
            result = await self._conclusion.result(running, directory.path, staged, ending, view)
            return result
        finally:
            await self._leave(running, directory, command, result)

    async def _transfer(self, running: LocalExec, progress: Progress | None) -> ExecResult:
        directory = await self._acquire(running.config, progress)
        running.launched()
        work = transfer.Transfer(running.config, self._repository, self._locator, directory.path)
        try:
            return ExecResult(fileset=await to_the_end(self._files(work.perform), work.stop))
        finally:
            await self._files(directory.remove)

    async def _acquire(self, config: ExecConfig, progress: Progress | None) -> ExecDir:
        path = self.layout.path(config)
        delay_s = 0.02
        while (directory := self.layout.try_acquire(path)) is None:
            if progress is not None:
                progress("waiting for another run of this exec", 0, 0)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, 0.5)
        return directory

    async def _staged(self, running: LocalExec, directory: str, progress: Progress | None) -> staging.Staged:
        for name in ("tmp", "return"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(f"{directory}/{name}")
        for index, is_dir in enumerate(running.config.output_is_dir):
            if is_dir:
                os.mkdir(f"{directory}/return/{index}")
        is_small = self._same_device and staging.input_count(running.config) <= SMALL_COUNT
        work = self._staging(running.config, directory)
        if is_small:
            return work.perform(running.config)
        if progress is not None:
            loop = asyncio.get_running_loop()

            def report(copied_bytes: int) -> None:
                loop.call_soon_threadsafe(progress, "copying inputs", copied_bytes, 0)

            work.report = report
        return await to_the_end(self._files(work.perform, running.config), work.stop)

    async def _leave(
        self, running: LocalExec, directory: ExecDir, command: str, result: ExecResult | None
    ) -> None:
        """Put the output away, and delete the directory, or keep it when the command failed."""
        error = None if result is None else result.error
        if error is not None:
            self.logs.end(running.id, directory.path, is_kept=True)
            running.log_files = self.logs.final(running.id)
            running.kept = directory.path
            await self._files(directory.keep, str(error), command)
            return
        self.logs.end(running.id, directory.path, is_kept=False)
        running.log_files = self.logs.final(running.id)
        self.layout.leave(directory)
        self._start_sweep()

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

    # Small things.

    def _own(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that `close` waits for."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _note_finished(self, running: LocalExec) -> None:
        """Forget the oldest finished execs when there are many."""
        if self._execs.get(running.id) is not running:
            return
        self._finished[running.id] = None
        while len(self._finished) > _MAX_FINISHED:
            oldest = next(iter(self._finished))
            del self._finished[oldest]
            self._execs.pop(oldest, None)

    def watch(self) -> None:
        """See to it that execs are sampled while some run."""
        if self._ticker is None:
            self._ticker = asyncio.get_running_loop().call_later(_SAMPLE_S, self._tick)

    def _tick(self) -> None:
        self._ticker = None
        now_s = time.time()
        running = [each for each in self._execs.values() if each.is_running_command]
        mature = running if self.hard_memory else [each for each in running if now_s - each.started_s >= 1]
        if mature:
            self._own(self._sample_quietly(mature))
        elif running:
            self.watch()

    async def _sample_quietly(self, running: list[LocalExec]) -> None:
        with contextlib.suppress(OSError, ReflowError):
            await self._sample(running)
        self.watch()

    def _is_same_device(self) -> bool:
        """Tell whether objects can be linked into the directories of execs."""
        path = os.path.dirname(self._repository.path(Digest(bytes(32))))
        while not os.path.exists(path):
            path = os.path.dirname(path)
        return os.stat(path).st_dev == os.stat(self.layout.localdir).st_dev
