"""Rows of the task database for one run and its tasks, kept alive while the process lives.

Trouble with the database is said once and never ends a run.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.core.execconfig import ExecConfig, ExecInspect
from reflow.core.fileset import EMPTY_FILESET
from reflow.core.wire import exec_inspect_to_json
from reflow.executor.layout import log_path
from reflow.flow.digest import digest, image_command_id
from reflow.flow.node import External
from reflow.pool import Exec as RunningExec
from reflow.runtime.log import Log
from reflow.taskdb import ObjectKeeper, Run, Task, TaskDB

LIFE = timedelta(minutes=2)
MOST_OUTPUT_BYTES = 16 << 20
"""What is stored of an exec's output for others: its end."""

KEPT_AT_ONCE = 8
DIRECT_URI = "local"
DIRECT_IDENT = "scheduler.directTransfer"
"""How the original records a transfer that no exec did."""


class Record:
    """The rows of one run. Without a database every method does nothing.

    ``taskdb`` is settled when the executor is chosen, before `begin`.
    """

    def __init__(self, taskdb: TaskDB | None, log: Log, run: Run, local_dir: str) -> None:
        self.taskdb = taskdb
        self._log = log
        self._run = run
        self._local_dir = local_dir
        self._open: dict[Digest, Task] = {}
        self._has_failed = False
        self._keeping: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(KEPT_AT_ONCE)

    def begin(self, executor: str, bundle: Callable[[], bytes] | None = None) -> None:
        """Write the run's row, and behind it what ``bundle`` makes, where the database has a place for it."""
        self._run = dataclasses.replace(self._run, executor=executor)
        self._put_run(self._run)
        if bundle is not None and isinstance(self.taskdb, ObjectKeeper):
            self._keep(self._keep_bundle(self.taskdb, bundle))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Store objects in the background; `end` waits for it."""
        self._keeping.add(asyncio.ensure_future(work))

    async def _keep_bundle(self, keeper: ObjectKeeper, bundle: Callable[[], bytes]) -> None:
        try:
            (digest,) = await keeper.put_objects([await asyncio.to_thread(bundle)])
        except ReflowError as err:
            self._log.debug(f"the program of this run is not stored: {err}")
            return
        self._run = dataclasses.replace(self._run, bundle=digest)
        self._put_run(self._run)

    def task_started(
        self,
        flow: External,
        config: ExecConfig,
        attempt: int,
        task_id: Digest,
        running: RunningExec,
    ) -> None:
        """Write the row of a task that begins."""
        if self.taskdb is None:
            return
        now = datetime.now(UTC)
        is_direct = running.uri == DIRECT_URI
        task = Task(
            id=task_id,
            run_id=self._run.id,
            flow_id=digest(flow),
            image_cmd_id=None if is_direct else image_command_id(config.image, config.cmd),
            ident=DIRECT_IDENT if is_direct else flow.ident or "?",
            attempt=attempt,
            resources=config.resources,
            uri=running.uri,
            result_id=running.id,
            start=now,
            keepalive=now + LIFE,
            labels=self._run.labels,
            stdout="" if is_direct else log_path(self._local_dir, running.id, "stdout"),
            stderr="" if is_direct else log_path(self._local_dir, running.id, "stderr"),
        )
        self._open[task_id] = task
        self._put_task(task)

    def task_finished(
        self, task_id: Digest, inspect: ExecInspect | None, error: ReflowError | None
    ) -> Task | None:
        """Write the row of a task that has ended, and return it."""
        task = self._open.pop(task_id, None)
        if task is None or self.taskdb is None:
            return None
        has_no_result = error is not None and task.ident == DIRECT_IDENT
        task = dataclasses.replace(
            task,
            result_id=EMPTY_FILESET.digest if has_no_result else task.result_id,
            end=datetime.now(UTC),
            keepalive=None,
            error="" if error is None else error.text(": "),
            failure=None if error is None else error.to_json(),
            stdout=_left(task.stdout) if inspect is None else _place(inspect.stdout, inspect.stdout_path),
            stderr=_left(task.stderr) if inspect is None else _place(inspect.stderr, inspect.stderr_path),
            inspect=None if inspect is None else exec_inspect_to_json(inspect, with_extras=True),
        )
        self._put_task(task)
        if (task.stdout or task.stderr) and isinstance(self.taskdb, ObjectKeeper):
            self._keep(self._keep_logs(self.taskdb, task))
        return task

    async def _keep_logs(self, keeper: ObjectKeeper, task: Task) -> None:
        """Store what an exec has written where others find it."""
        stdout, stderr = task.stdout, task.stderr
        try:
            async with self._slots:
                stdout = await _kept(keeper, stdout)
                stderr = await _kept(keeper, stderr)
        except ReflowError as err:
            self._log.debug(f"the output of {task.ident} is not stored: {err}")
        if (stdout, stderr) != (task.stdout, task.stderr):
            self._put_task(dataclasses.replace(task, stdout=stdout, stderr=stderr))

    @property
    def is_kept(self) -> bool:
        """Whether there is a database at all."""
        return self.taskdb is not None

    def keep_alive(self) -> None:
        """Say that the run lives; to be called every minute or so."""
        self._try(lambda taskdb: taskdb.keepalive(self._run.id, datetime.now(UTC) + LIFE))

    async def end(self, result: str, error: str, runlog: Digest | None, graph: Digest | None) -> None:
        """Write how the run ended, and make everything durable. The database stays open."""
        if self._keeping:
            await asyncio.gather(*self._keeping)
        self._run = dataclasses.replace(
            self._run,
            end=datetime.now(UTC),
            keepalive=None,
            result=result,
            error=error,
            runlog=runlog,
            evalgraph=graph,
        )
        self._put_run(self._run)
        if self.taskdb is not None:
            await self._attempt(self.taskdb.flush())

    def _put_run(self, run: Run) -> None:
        self._try(lambda taskdb: taskdb.put_run(run))

    def _put_task(self, task: Task) -> None:
        self._try(lambda taskdb: taskdb.put_task(task))

    def _try(self, write: Callable[[TaskDB], None]) -> None:
        if self.taskdb is None:
            return
        try:
            write(self.taskdb)
        except ReflowError as err:
            self._complain(err)

    async def _attempt(self, work: Awaitable[None]) -> None:
        try:
            await work
        except ReflowError as err:
            self._complain(err)

    def _complain(self, error: ReflowError) -> None:
        if not self._has_failed:
            self._has_failed = True
            self._log.error(f"this run is not recorded (reflow ps, info and logs will miss it): {error}")


async def _kept(keeper: ObjectKeeper, place: str) -> str:
    """The object with the output that is in a file, or else the same place. Raises ReflowError."""
    data = await asyncio.to_thread(_end_of, place)
    return str((await keeper.put_objects([data]))[0]) if data else place


def _end_of(path: str) -> bytes:
    """The end of a file; nothing when there is none."""
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - MOST_OUTPUT_BYTES))
            return stream.read(MOST_OUTPUT_BYTES)
    except OSError:
        return b""


def _left(path: str) -> str:
    """The output of an exec that did not come to its end, if it left any."""
    return path if os.path.exists(path) else ""


def _place(stored: Digest | None, path: str) -> str:
    """Where the output of a finished exec is: an object, a file, or nowhere."""
    return str(stored) if stored is not None else path
