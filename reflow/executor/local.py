"""What the executors of this machine share: the life of an exec, from its directory to its outputs."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import os
import time
from functools import partial
from pathlib import Path

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, ExecResult
from reflow.core.resources import Resources
from reflow.disk.blocking import to_the_end
from reflow.executor import manifest, staging, transfer
from reflow.executor.conclusion import SMALL_COUNT, Conclusion
from reflow.executor.execdir import ExecDir
from reflow.executor.layout import os_error
from reflow.executor.localexec import LocalExec
from reflow.executor.outcome import Ending
from reflow.executor.output import is_plainly_wrong
from reflow.executor.survival import Survival
from reflow.executor.view import View
from reflow.pool import FreeRoom, InputLocator, Progress, Room
from reflow.repository import LocalFiles

_MAX_FINISHED = 1024
_SAMPLE_S = 1.0


class LocalExecutor(Survival):
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
        super().__init__(localdir, repository, locator)
        self.hard_memory = hard_memory
        self._repository = repository
        self._conclusion = Conclusion(repository, locator, self._files, self.name)
        self._execs: dict[Digest, LocalExec] = {}
        self._finished: dict[Digest, None] = {}
        self._ticker: asyncio.TimerHandle | None = None
        self._same_device = True
        self._is_open = False
        self._is_killed = False
        self._removals = 0
        self.keeps_results = False
        """Whether `settle` will be called when all results are in the cache; if not, they are at `close`."""

    @property
    @abc.abstractmethod
    def resources(self) -> Resources:
        """All that this machine has to give; known once `start` has returned."""

    @property
    def id(self) -> str:
        """16 hexadecimal digits that tell this localdir from others; the first part of an exec's URI."""
        return Digest.of_text(self.layout.localdir).hex()[:16]

    @property
    def is_ending(self) -> bool:
        """Whether all that was begun is being ended before its time."""
        if self._is_killed or not self._removals:
            return self._is_killed
        return all(each.task is None or each.task.done() for each in self._execs.values())

    async def start(self) -> None:
        """Get ready, and remove what dead runs left behind. Raises when execs cannot run here.

        What may still be of use stays until it is asked for, or `close`.
        """
        await self._files(self.layout.prepare)
        await self._files(self.recovery.journal.open)
        self._same_device = await self._files(self._is_same_device)
        await self._open()
        self._is_open = True
        await self._remove_leftovers(self.recovery.is_worth_keeping)

    async def put(
        self, id: Digest, config: ExecConfig, progress: Progress | None = None, room: Room | None = None
    ) -> LocalExec:
        """Start an exec, or return the one with this id that runs or has succeeded.

        Waits for ``room`` when all is ready, and while the same command with the same inputs runs elsewhere
        in this localdir.
        """
        existing = self._execs.get(id)
        if existing is None or existing.has_failed:
            existing = LocalExec(id, f"{self.id}/{id.hex()}", config, self, room or FreeRoom())
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
            self._removals += 1
            try:
                await asyncio.wait([found.task])
            finally:
                self._removals -= 1
        if found.kept:
            directory = await self._files(self.layout.try_acquire, found.kept)
            found.kept = ""
            if directory is not None:
                await self._files(directory.remove)

    async def close(self, *, kill: bool = False) -> None:
        """Wait for what runs, or with ``kill`` end it; nothing of it is left when this returns."""
        if kill:
            self._is_killed = True
            for task in self._tasks:
                task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._ticker is not None:
            self._ticker.cancel()
        # From now on others do not take us into account: the last one removes what is left.
        self.recovery.journal.close()
        if self._is_open and self.recovery.is_alone():
            with contextlib.suppress(ReflowError, OSError):  # the next one will try again
                await self._remove_unwanted()
        self._is_open = False
        await self._close()
        await self._files(self.trees.close)
        await self._files(self.layout.close)
        if not self.keeps_results:
            self.settle()
        self._files.close()

    def settle(self) -> None:
        """Take note that all results are in the cache, or are to be forgotten."""
        self.recovery.settle()

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
    async def _prepare(self, running: LocalExec, progress: Progress | None) -> None:
        """Get what the exec needs besides its files."""

    @abc.abstractmethod
    def _staging(self, config: ExecConfig, directory: str) -> staging.Staging:
        """What stages inputs in this executor's way."""

    @abc.abstractmethod
    async def _execute(self, running: LocalExec, directory: ExecDir, staged: staging.Staged) -> Ending:
        """Enter the exec's room, and run the command to its end.

        When cancelled, end it, and return when nothing of it is left.
        """

    @abc.abstractmethod
    def _view(self, directory: str, staged: staging.Staged) -> tuple[View, str]:
        """The files as the command saw them, and what ``return`` was called there."""

    @abc.abstractmethod
    async def _sample(self, running: list[LocalExec]) -> None:
        """Note what these execs use now."""

    @abc.abstractmethod
    async def command_lines(self, running: LocalExec) -> list[str]:
        """The processes of an exec."""

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
        directory = await self._acquire(running, progress)
        result: ExecResult | None = None
        command = ""
        try:
            known = self.recovery.recorded(directory)
            if known is not None:
                running.was_noted = True
                return ExecResult(fileset=known)
            staged, ending = await self._resumed(running, directory) or await self._performed(
                running, directory, progress
            )
            command = staged.command
            if ending.code and directory.is_killed:
                ending = ending._replace(is_wanted=True)
            running.ended_s = running.ended_s or time.time()
            # A failure may mean that nothing else is to start.
            if not ending.code and not is_plainly_wrong(running.config, f"{directory.path}/return"):
                running.room.leave()
                await asyncio.sleep(0)  # who is let in starts now, before we look at the outputs
            view = partial(self._view, directory.path, staged)
            result = await self._conclusion.result(running, directory.path, staged, ending, view)
            if result.error is None:
                self.recovery.record(directory, result.fileset)
            return result
        finally:
            self.trees.give_back(running.trees)
            running.trees = []
            await self._leave(running, directory, command, result)

    async def _performed(
        self, running: LocalExec, directory: ExecDir, progress: Progress | None
    ) -> tuple[staging.Staged, Ending]:
        """Run a command from its beginning to its end."""
        if directory.is_used:
            await self._end_leftovers([directory])
            await self._files(directory.clear)
        running.move_in(directory, self.name)
        await self._prepare(running, progress)
        staged = await self._staged(running, directory.path, progress)
        running.state = "created"
        found = manifest.manifest_of(
            running.id,
            directory.name,
            self.name,
            running.config,
            staged.command,
            staged.foreign,
            staged.lowers,
        )
        manifest.write(directory.path, found, running.config)
        return staged, await self._execute(running, directory, staged)

    async def _transfer(self, running: LocalExec, progress: Progress | None) -> ExecResult:
        await running.room.enter()
        directory = await self._acquire(running, progress)
        await self._files(directory.clear)
        running.launched()
        work = transfer.Transfer(running.config, self._repository, self._locator, directory.path)
        try:
            return ExecResult(fileset=await to_the_end(self._files(work.perform), work.stop))
        finally:
            await self._files(directory.remove)

    async def _staged(self, running: LocalExec, directory: str, progress: Progress | None) -> staging.Staged:
        for name in ("tmp", "return"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(f"{directory}/{name}")
        for index, is_dir in enumerate(running.config.output_is_dir):
            if is_dir:
                os.mkdir(f"{directory}/return/{index}")
        is_small = self._same_device and staging.input_count(running.config) <= SMALL_COUNT
        work = self._staging(running.config, directory)
        running.trees = work.taken
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
            running.kept = directory.path
            await self._files(directory.keep, str(error), command)
            return
        self.logs.end(running.id, directory.path, is_kept=False)
        self.layout.leave(directory)
        self._start_sweep()

    # Small things.

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
        if self._ticker is None and not self._is_killed:
            self._ticker = asyncio.get_running_loop().call_later(_SAMPLE_S, self._tick)

    def _tick(self) -> None:
        self._ticker = None
        if self._is_killed:
            return
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
