"""What the executors of this machine share: the life of an exec, from its directory to its outputs."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, ExecResult
from reflow.core.fileset import File
from reflow.core.resources import Resources
from reflow.executor import machine, output, staging, transfer
from reflow.executor.blocking import Blocking, to_the_end
from reflow.executor.execdir import ExecDir
from reflow.executor.layout import Layout, os_error
from reflow.executor.localexec import LocalExec
from reflow.executor.oom import was_killed
from reflow.executor.outcome import Ending, failure
from reflow.executor.profile import tree_size
from reflow.executor.view import View
from reflow.pool import InputLocator, Progress
from reflow.repository import LocalFiles

P = ParamSpec("P")
T = TypeVar("T")

_SMALL_COUNT = 64
_SMALL_BYTES = 1 << 20
"""Work on more files or bytes than this is done in threads; less costs more to hand over than to do."""

_CHUNK_COUNT = 64
_CHUNK_BYTES = 32 << 20
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
        self.hard_memory = hard_memory
        self._repository = repository
        self._locator = locator
        self._files = Blocking("files", max(2, machine.usable_cpus()))
        self._execs: dict[Digest, LocalExec] = {}
        self._finished: dict[Digest, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticker: asyncio.TimerHandle | None = None
        self._same_device = True
        self._is_sweeping = False

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """docker or process."""

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
                await self._files(directory.remove)

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
    def _staging(self, directory: str) -> staging.Staging:
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
        result: ExecResult | None = None
        command = ""
        try:
            staged = await self._staged(running, directory.path)
            command = staged.command
            running.state = "created"
            ending = await self._execute(running, directory.path, staged)
            running.ended_s = running.ended_s or time.time()
            result = await self._conclude(running, directory.path, staged, ending)
            return result
        finally:
            await self._leave(running, directory, command, result)

    async def _transfer(self, running: LocalExec, progress: Progress | None) -> ExecResult:
        directory = await self._acquire(running.config, progress)
        running.launched()
        work = transfer.Transfer(running.config, self._repository, self._locator, directory.path)
        try:
            return ExecResult(fileset=await self._files(work.perform))
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

    async def _staged(self, running: LocalExec, directory: str) -> staging.Staged:
        os.mkdir(f"{directory}/tmp")
        with contextlib.suppress(FileExistsError):
            os.mkdir(f"{directory}/return")
        for index, is_dir in enumerate(running.config.output_is_dir):
            if is_dir:
                os.mkdir(f"{directory}/return/{index}")
        is_small = self._same_device and staging.input_count(running.config) <= _SMALL_COUNT
        work = self._staging(directory)
        if is_small:
            return work.perform(running.config)
        return await to_the_end(self._files(work.perform, running.config), work.stop)

    async def _conclude(
        self, running: LocalExec, directory: str, staged: staging.Staged, ending: Ending
    ) -> ExecResult:
        altered = await self._altered(staged.sources)
        now_s = time.time()
        tmp_bytes = tree_size(f"{directory}/tmp", _SMALL_COUNT)
        if tmp_bytes < 0:
            tmp_bytes = await self._files(tree_size, f"{directory}/tmp")
        running.stats.observe("tmp", tmp_bytes, now_s)
        if ending.code != 0:
            disk_bytes = await self._files(tree_size, f"{directory}/return")
            running.stats.observe("disk", disk_bytes, now_s)
            return ExecResult(error=await self._files(self._failure, running, ending))
        if altered is not None:
            return ExecResult(error=ReflowError(Kind.OTHER, "exec", running.id, cause=altered))
        return await self._take_outputs(running, directory, staged)

    def _failure(self, running: LocalExec, ending: Ending) -> ReflowError | None:
        if not ending.oom:
            killer = was_killed(running.pids, running.started_s, time.time())
            ending = ending._replace(oom=killer)
        return failure(running.id, ending, self.layout.logs(running.id), self.name)

    async def _altered(self, sources: Mapping[Digest, str]) -> ReflowError | None:
        """Check each input; the error of the first that is no longer what it was."""
        if not sources:
            return None
        return await self._maybe(len(sources) <= _SMALL_COUNT, self._check_inputs, sources)

    def _check_inputs(self, sources: Mapping[Digest, str]) -> ReflowError | None:
        first: ReflowError | None = None
        for digest, path in sources.items():
            try:
                self._locator.check_unchanged(digest)
                if not os.path.exists(path):  # another exec altered it, and it was set aside then
                    raise ReflowError(Kind.INTEGRITY, "inputs", path, cause="altered while it was an input")
            except ReflowError as err:
                first = first or err
        return first

    async def _take_outputs(self, running: LocalExec, directory: str, staged: staging.Staged) -> ExecResult:
        view, root = self._view(directory, staged)
        config = running.config
        try:
            try:
                outputs = output.find_outputs(config, view, root, _SMALL_COUNT)
            except output.TooManyFiles:
                outputs = await self._files(output.find_outputs, config, view, root)
        except output.OutputError as err:
            return ExecResult(error=ReflowError(Kind.INVALID, "exec", running.id, cause=str(err)))
        found = [each for files in outputs for each in files]
        running.stats.observe("disk", sum(each.info.st_size for each in found), time.time())
        installed = await self._install(found, directory, staged)
        values = [{each.rel: installed[each.host] for each in files} for files in outputs]
        return ExecResult(fileset=output.outputs_fileset(config, values))

    async def _install(
        self, found: list[output.Found], directory: str, staged: staging.Staged
    ) -> dict[str, File]:
        if len(found) <= _SMALL_COUNT and sum(each.info.st_size for each in found) <= _SMALL_BYTES:
            return output.install_files(found, self._repository, staged.sources, directory)
        distinct = list({each.host: each for each in found}.values())
        calls = [
            self._files(output.install_files, chunk, self._repository, staged.sources, directory)
            for chunk in _chunks(distinct)
        ]
        installed: dict[str, File] = {}
        # All are waited for: a thread must not work in a directory that is being deleted.
        for done in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(done, BaseException):
                raise done
            installed.update(done)
        return installed

    async def _leave(
        self, running: LocalExec, directory: ExecDir, command: str, result: ExecResult | None
    ) -> None:
        """Put the output away, and delete the directory, or keep it when the command failed."""
        error = None if result is None else result.error
        if error is not None:
            self.layout.end_logs(running.id, directory.path)
            running.kept = directory.path
            await self._files(directory.keep, str(error), command)
            return
        self.layout.end_logs(running.id)
        self.layout.leave(directory)
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

    async def _maybe(self, is_small: bool, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function here when its work is small, in a thread when it is not."""
        if is_small:
            return function(*args, **kwargs)
        return await self._files(function, *args, **kwargs)

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


def _chunks(found: list[output.Found]) -> list[list[output.Found]]:
    """Cut a list into parts that are worth a thread each."""
    chunks: list[list[output.Found]] = []
    size_bytes = _CHUNK_BYTES
    for each in found:
        if size_bytes >= _CHUNK_BYTES or len(chunks[-1]) >= _CHUNK_COUNT:
            chunks.append([])
            size_bytes = 0
        chunks[-1].append(each)
        size_bytes += each.info.st_size
    return chunks
