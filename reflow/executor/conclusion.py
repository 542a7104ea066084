"""What becomes of an exec whose command has ended: its failure, or its outputs in the repository."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecResult
from reflow.core.fileset import File
from reflow.core.units import format_size
from reflow.disk.blocking import Blocking
from reflow.disk.filesystem import disk_space
from reflow.executor import output
from reflow.executor.localexec import LocalExec
from reflow.executor.oom import was_killed
from reflow.executor.outcome import Ending, failure
from reflow.executor.profile import tree_size
from reflow.executor.staging import Staged
from reflow.executor.view import View
from reflow.pool import InputLocator
from reflow.repository import LocalFiles
from reflow.repository.inputs import VERIFY

P = ParamSpec("P")
T = TypeVar("T")

SMALL_COUNT = 64
"""Work on more files than this is done in threads; less costs more to hand over than to do."""

_SMALL_BYTES = 1 << 20
_CHUNK_COUNT = 64
_CHUNK_BYTES = 32 << 20

_FULL_BYTES = 1 << 16
"""A disk with less room counts as full."""

SeenFiles = tuple[View, str]


class Conclusion:
    """Concludes execs of one executor. ``machinery`` is what ran them (docker, sandbox, process)."""

    def __init__(
        self,
        repository: LocalFiles,
        locator: InputLocator,
        files: Blocking,
        machinery: str,
    ) -> None:
        self._repository = repository
        self._locator = locator
        self._files = files
        self._machinery = machinery

    async def result(
        self,
        running: LocalExec,
        directory: str,
        staged: Staged,
        ending: Ending,
        view: Callable[[], SeenFiles],
    ) -> ExecResult:
        """The outcome of an exec. Raises RESOURCES_EXHAUSTED when the disk is full: nothing is half-written.

        ``view`` tells what the command saw, and what ``return`` was called there.
        """
        altered = await self._altered(staged)
        now_s = time.time()
        tmp_bytes = tree_size(f"{directory}/tmp", SMALL_COUNT)
        if tmp_bytes < 0:
            tmp_bytes = await self._files(tree_size, f"{directory}/tmp")
        running.stats.observe("tmp", tmp_bytes, now_s)
        if ending.code != 0 and not _is_corrupt(altered):
            disk_bytes = await self._files(tree_size, f"{directory}/return")
            running.stats.observe("disk", disk_bytes, now_s)
            return ExecResult(error=await self._files(self._failure, running, ending, directory))
        if altered is not None:
            return ExecResult(error=ReflowError(Kind.OTHER, "exec", running.id, cause=altered))
        return await self._take_outputs(running, directory, staged, *view())

    def _failure(self, running: LocalExec, ending: Ending, directory: str) -> ReflowError | None:
        if not ending.oom:
            killer = was_killed(running.pids, running.started_s, time.time())
            ending = ending._replace(oom=killer)
        error = failure(running.id, ending, running.log_files, self._machinery)
        return None if error is None else _with_full_disk(error, directory)

    async def _altered(self, staged: Staged) -> ReflowError | None:
        """Check each input; the error of the first that is no longer what it was.

        Not the objects in trees: the command could not reach them.
        """
        sources = dict(staged.sources)
        for tree in staged.trees:
            sources.update(tree.foreign.values())
        if not sources:
            return None
        return await self._maybe(len(sources) <= SMALL_COUNT, self._check_inputs, sources)

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

    async def _take_outputs(
        self, running: LocalExec, directory: str, staged: Staged, view: View, root: str
    ) -> ExecResult:
        config = running.config
        try:
            try:
                outputs = output.find_outputs(config, view, root, SMALL_COUNT)
            except output.TooManyFiles:
                outputs = await self._files(output.find_outputs, config, view, root)
        except output.OutputError as err:
            return ExecResult(error=ReflowError(Kind.INVALID, "exec", running.id, cause=str(err)))
        found = [each for files in outputs for each in files]
        running.stats.observe("disk", sum(each.info.st_size for each in found), time.time())
        installed = await self._install(found, directory, staged)
        values = [{each.rel: installed[each.host] for each in files} for files in outputs]
        return ExecResult(fileset=output.outputs_fileset(config, values))

    async def _install(self, found: list[output.Found], directory: str, staged: Staged) -> dict[str, File]:
        if len(found) <= SMALL_COUNT and sum(each.info.st_size for each in found) <= _SMALL_BYTES:
            return output.install_files(found, self._repository, staged.all_sources(), directory)
        distinct = list({each.host: each for each in found}.values())
        sources = staged.all_sources()
        calls = [
            self._files(output.install_files, chunk, self._repository, sources, directory)
            for chunk in _chunks(distinct)
        ]
        installed: dict[str, File] = {}
        # All are waited for: a thread must not work in a directory that is being deleted.
        for done in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(done, BaseException):
                raise done
            installed.update(done)
        return installed

    async def _maybe(self, is_small: bool, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function here when its work is small, in a thread when it is not."""
        if is_small:
            return function(*args, **kwargs)
        return await self._files(function, *args, **kwargs)


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


def _is_corrupt(altered: ReflowError | None) -> bool:
    """Whether an input was corrupt before the command had it: what the command says then is no answer."""
    return altered is not None and altered.op == VERIFY


def _with_full_disk(error: ReflowError, directory: str) -> ReflowError:
    """The failure of a command, which may have had no room to say that the disk is full."""
    if error.kind is not Kind.DOCKER_EXEC:
        return error
    free, total = disk_space(directory)
    if free >= _FULL_BYTES:
        return error
    room = f"{format_size(free)} of {format_size(total)} are free"
    cause = f"{error.cause}; no space left on device: {directory}: {room}"
    return ReflowError(error.kind, error.op, *error.subjects, cause=cause)
