"""One attempt at a task on an alloc: its inputs loaded, its exec run, its results brought home.

Source: sched/scheduler.go, (*Scheduler).run and unload.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from reflow.core.backoff import Backoff
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError, kind_of
from reflow.core.execconfig import ExecConfig, ExecInspect, ExecResult, InputArg
from reflow.core.fileset import File, Fileset
from reflow.pool import Alloc, AllocExec
from reflow.repository import Repository
from reflow.sched import Task, TaskOutcome
from reflow.sched.step import MAX_TRIES, Step, judge, next_step

_PAUSES = Backoff(0.2, 5.0, 3.0, MAX_TRIES)

CLEANUP_TIMEOUT_S = 10.0
"""How long the cleaning up of an attempt that failed may take, for each call."""

Copy = Callable[[Iterable[File], Repository, Repository], Awaitable[object]]
"""Copies those files, from the first repository to the second, that the second has not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all attempts of a scheduler share.

    Inputs come from, and results go to, ``repository``. ``inspect_url`` is the repository that allocs store
    inspections and logs in; "" when they are not stored. ``verifies``: inputs are checked after use.
    """

    repository: Repository
    copy: Copy
    inspect_url: str = ""
    verifies: bool = False
    pauses: Backoff = _PAUSES
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnd:
    """How an attempt ended. ``outcome`` is what it came to, if the task is done."""

    outcome: TaskOutcome
    is_done: bool
    is_alloc_usable: bool


class Attempt:
    """Runs a task once. ``run`` may be cancelled; ``clean_up`` is to follow then.

    ``staged`` is called with the exec when it has been put for the first time.
    """

    def __init__(
        self,
        task: Task,
        id: Digest,
        alloc: Alloc,
        surroundings: Surroundings,
        *,
        staged: Callable[[AllocExec], None],
        is_alloc_lost: Callable[[], bool],
    ) -> None:
        self._task = task
        self._id = id
        self._alloc = alloc
        self._around = surroundings
        self._staged = staged
        self._is_alloc_lost = is_alloc_lost
        self._loaded: dict[int, Fileset] = {}
        self._exec: AllocExec | None = None
        self._may_run = False
        self._has_started = False
        self._result: ExecResult | None = None
        self._is_result_unloaded = False
        self._is_home = False
        self._inspect: ExecInspect | None = None

    async def run(self) -> AttemptEnd:
        """Take all steps, some of them repeatedly. Never raises an error of the world."""
        step, failures = Step.LOAD, 0
        error: ReflowError | None = None
        while step is not Step.DONE and failures < MAX_TRIES:
            error = await self._try(step)
            if step is Step.UNLOAD:
                # The result is home: what is left on the alloc costs it some disk, that is all.
                break
            following = next_step(step, error, is_over=self._is_alloc_lost(), verifies=self._around.verifies)
            step = following.step
            if following.is_retry:
                failures += 1
                if failures < MAX_TRIES:
                    await self._around.sleep(self._around.pauses.wait_s(failures - 1))
        if error is None and not self._is_home:
            # The steps were cut short, by no fault of the one that was taken last.
            error = ReflowError(Kind.CANCELED, "alloc", self._alloc.id)
        is_clean = error is None or await self.clean_up()
        return self._end(error, is_clean=is_clean)

    def _end(self, error: ReflowError | None, *, is_clean: bool) -> AttemptEnd:
        verdict = judge(error, is_alloc_lost=self._is_alloc_lost())
        if self._is_home:
            outcome = TaskOutcome(result=self._result, inspect=self._inspect)
        else:
            outcome = TaskOutcome(inspect=self._inspect, error=error)
        return AttemptEnd(
            outcome=outcome,
            is_done=verdict.is_done or self._is_home,
            is_alloc_usable=verdict.is_alloc_usable and is_clean,
        )

    async def _try(self, step: Step) -> ReflowError | None:
        try:
            await self._take(step)
        except ReflowError as err:
            return err
        return None

    async def _take(self, step: Step) -> None:
        match step:
            case Step.LOAD:
                await self._load()
            case Step.PUT:
                self._may_run = True
                self._exec = await self._alloc.put(self._id, self._config())
            case Step.WAIT:
                await self._wait()
            case Step.VERIFY:
                await _all([self._alloc.verify(fileset) for fileset in self._loaded.values()])
            case Step.PROMOTE:
                await self._running.promote()
            case Step.INSPECT:
                self._inspect = await self._look()
            case Step.RESULT:
                self._result = self._with_assertions(await self._running.result())
            case Step.TRANSFER_OUT:
                await self._bring_home()
            case Step.UNLOAD:
                await self._unload()
            case Step.DONE:
                raise AssertionError("nothing is left to be done")

    @property
    def _running(self) -> AllocExec:
        assert self._exec is not None, "nothing was put"
        return self._exec

    def _config(self) -> ExecConfig:
        """The task's configuration with its inputs as they were loaded."""
        args = [
            InputArg(self._loaded[index]) if index in self._loaded else arg
            for index, arg in enumerate(self._task.config.args)
        ]
        return dataclasses.replace(self._task.config, args=tuple(args))

    async def _load(self) -> None:
        """Load every input that was not loaded yet."""
        inputs = {
            index: arg.fileset
            for index, arg in enumerate(self._task.config.args)
            if isinstance(arg, InputArg)
        }

        async def load(index: int, fileset: Fileset) -> None:
            self._loaded[index] = await self._alloc.load(self._around.repository.url, fileset)
            self._tell_loaded(inputs)

        missing = [load(index, inputs[index]) for index in inputs if index not in self._loaded]
        if missing:
            self._tell_loaded(inputs)
        await _all(missing)

    def _tell_loaded(self, inputs: Mapping[int, Fileset]) -> None:
        if self._task.on_progress is not None:
            done = sum(inputs[index].size() for index in self._loaded)
            self._task.on_progress("loading", done, sum(fileset.size() for fileset in inputs.values()))

    async def _wait(self) -> None:
        if not self._has_started:
            self._has_started = True
            self._staged(self._running)
        await self._running.wait()
        self._may_run = False

    async def _look(self) -> ExecInspect:
        """What the exec leaves; stored elsewhere if it is to be."""
        if not self._around.inspect_url:
            return await self._running.inspect()
        info = await self._running.save(self._around.inspect_url)
        return ExecInspect(
            config=self._task.config,
            created=datetime.now(UTC),
            state="complete",
            profile=info.profile,
            runtime_s=info.runtime_s,
            stdout=info.stdout,
            stderr=info.stderr,
        )

    def _with_assertions(self, result: ExecResult) -> ExecResult:
        """An extern's result has the files of its input, with what is asserted of them."""
        if self._task.config.type != "extern":
            return result
        (argument,) = [arg for arg in self._task.config.args if isinstance(arg, InputArg)]
        known = argument.fileset.distinct_files()
        asserted = {
            digest: file.with_assertions(known[digest].assertions)
            for digest, file in result.fileset.distinct_files().items()
            if digest in known
        }
        return ExecResult(result.fileset.map_files(asserted), result.error)

    async def _bring_home(self) -> None:
        assert self._result is not None
        files = list(self._result.fileset.distinct_files().values())
        if files:
            await self._around.copy(files, self._alloc.repository, self._around.repository)
        self._is_home = True

    async def _unload(self) -> None:
        """Give up inputs and result; each once at most, even if that fails.

        What is given up twice may be taken from another task of the alloc; what is not costs some disk.
        """
        filesets = list(self._loaded.values())
        self._loaded.clear()
        # An extern has no files of its own.
        if self._result is not None and self._task.config.type != "extern" and not self._is_result_unloaded:
            self._is_result_unloaded = True
            filesets.append(self._result.fileset)
        await _all([self._alloc.unload(fileset) for fileset in filesets])

    async def clean_up(self) -> bool:
        """Leave nothing behind on the alloc; whether nothing runs there for sure."""
        if self._is_alloc_lost():
            return not self._may_run
        is_clean = await self._end_exec()
        try:
            async with asyncio.timeout(CLEANUP_TIMEOUT_S):
                await self._unload()
        except (ReflowError, TimeoutError):
            # It costs the alloc some disk, that is all.
            pass
        return is_clean

    async def _end_exec(self) -> bool:
        """End the exec if it may be running; false when that could not be made sure of."""
        if not self._may_run:
            return True
        try:
            async with asyncio.timeout(CLEANUP_TIMEOUT_S):
                await self._alloc.remove(self._id)
        except TimeoutError:
            return False
        except ReflowError as err:
            return kind_of(err) is Kind.NOT_EXIST
        self._may_run = False
        return True


async def _all(work: Iterable[Awaitable[None]]) -> None:
    """Do all of it at the same time, to the end; raise the first error, if any.

    One that fails does not stop the others: what they did on the other side would not be known.
    """
    errors: list[ReflowError] = []

    async def guarded(piece: Awaitable[None]) -> None:
        try:
            await piece
        except ReflowError as err:
            errors.append(err)

    async with asyncio.TaskGroup() as group:
        for piece in work:
            group.create_task(guarded(piece))
    if errors:
        raise errors[0]
