"""One exec of a local executor: what is known of it, and its output."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, ExecInspect, ExecResult
from reflow.executor.execdir import ExecDir, Tenant
from reflow.executor.layout import STREAMS
from reflow.executor.linktree import Tree
from reflow.executor.logfile import LogFiles
from reflow.executor.profile import Stats

if TYPE_CHECKING:
    from reflow.pool import Exec, Room

_CHUNK_BYTES = 1 << 16
_FOLLOW_S = 0.2

_STATUS = {
    "initializing": "waiting for its image and its inputs",
    "created": "ready to start",
    "running": "running",
    "complete": "complete",
}


class _Owner(Protocol):
    """What an exec needs of its executor."""

    logs: LogFiles

    async def command_lines(self, running: LocalExec) -> list[str]: ...

    def watch(self) -> None: ...

    def tap(self, running: LocalExec) -> None: ...


class LocalExec:
    """One exec. Its executor drives it; everybody else awaits and asks.

    ``kept`` is where its files are when it has failed. ``is_adopted``: a run that is dead has started it.
    ``was_noted``: another run had noted its result, and no command ran for it.
    ``pid`` is that of its first process on this machine, ``pids`` are those seen; ``oom`` says who killed it
    for memory. ``log_files`` have its output, by stream, as far as there is any. Times are seconds since the
    epoch.
    """

    def __init__(self, id: Digest, uri: str, config: ExecConfig, owner: _Owner, room: Room) -> None:
        self.id = id
        self.uri = uri
        self.config = config
        self.room = room
        self.state = "initializing"
        self.trees: list[Tree] = []
        self.kept = ""
        self.is_adopted = False
        self.was_noted = False
        self.pid = 0
        self.pids: set[int] = set()
        self.oom = ""
        self.stats = Stats()
        self.log_files = owner.logs.final(id)
        self.created_s = time.time()
        self.started_s = 0.0
        self.ended_s = 0.0
        self.task: asyncio.Task[None] | None = None
        self._owner = owner
        self._directory: ExecDir | None = None
        self._result: ExecResult | None = None
        self._error: ReflowError | None = None
        loop = asyncio.get_running_loop()
        self._launch: asyncio.Future[None] = loop.create_future()
        self._end: asyncio.Future[None] = loop.create_future()

    @property
    def has_failed(self) -> bool:
        """Whether it has ended without a value."""
        return self._error is not None or (self._result is not None and self._result.error is not None)

    @property
    def is_running_command(self) -> bool:
        """Whether its command runs now."""
        return self.state == "running" and self.config.type == "exec"

    @property
    def gauges(self) -> Mapping[str, float]:
        """What it uses now; changes while it runs."""
        return self.stats.gauges

    async def wait(self) -> None:
        """Return when it has ended. Raises for trouble of the machinery."""
        if not self._end.done():
            await asyncio.shield(self._end)
        if self._error is not None:
            raise self._error

    async def result(self) -> ExecResult:
        """The outcome of the command. Asserts that it has ended."""
        if self._error is not None:
            raise self._error
        assert self._result is not None, "exec has not ended"
        return self._result

    async def inspect(self) -> ExecInspect:
        """What is known of it now."""
        commands = await self._owner.command_lines(self) if self.state == "running" else []
        end_s = self.ended_s or time.time()
        return ExecInspect(
            config=self.config,
            created=datetime.fromtimestamp(self.created_s, UTC),
            state=self.state,
            status=_STATUS[self.state],
            error=self._error,
            exec_error=None if self._result is None else self._result.error,
            profile=self.stats.profile(),
            gauges=dict(self.stats.gauges),
            commands=commands,
            runtime_s=max(0.0, end_s - self.started_s) if self.started_s else 0.0,
            stdout_path=self._saved("stdout"),
            stderr_path=self._saved("stderr"),
            directory=self.kept,
        )

    async def logs(self, *, stdout: bool, stderr: bool, follow: bool = False) -> AsyncIterator[bytes]:
        """Its output so far, stdout before stderr; with ``follow``, as it comes, until the exec ends."""
        if not stdout and not stderr:
            detail = "must specify at least one of stdout, stderr"
            raise ReflowError(Kind.INVALID, "logs", self.id, cause=detail)
        if self.state in ("initializing", "created"):
            raise ReflowError(Kind.PRECONDITION, "logs", self.id, cause="exec not yet started")
        wanted = [stream for stream, is_wanted in zip(STREAMS, (stdout, stderr), strict=True) if is_wanted]
        offsets = dict.fromkeys(wanted, 0)
        if self.state == "running":
            self._owner.tap(self)
        while True:
            has_ended = self._end.done()
            for stream in wanted:
                for chunk in _read_from(self.log_files[stream], offsets[stream]):
                    offsets[stream] += len(chunk)
                    yield chunk
            if has_ended or not follow:
                return
            await asyncio.wait([self._end], timeout=_FOLLOW_S)

    def _saved(self, stream: str) -> str:
        path = self.log_files[stream]
        return path if os.path.exists(path) else ""

    # For the executor.

    async def launch(self) -> None:
        """Return when it runs. Raises what kept it from that."""
        if not self._launch.done():
            await asyncio.shield(self._launch)
        if self._error is not None and not self.started_s:
            raise self._error

    def move_in(self, directory: ExecDir, executor: str) -> None:
        """Note, in its directory too, that it has one, and that it has not started."""
        self._directory = directory
        self.is_adopted = False
        self.pid = 0
        directory.note(self.tenant(executor))

    def tenant(self, executor: str) -> Tenant:
        """What is written down in its directory."""
        return Tenant(self.id.hex(), os.getpid(), executor, self.pid)

    def adopt(self, pid: int, started_s: float) -> None:
        """Take note of an exec that a dead run has started."""
        self.is_adopted = True
        self.launched(pid)
        self.started_s = started_s

    def launched(self, pid: int = 0) -> None:
        """Note that it runs now."""
        self.state = "running"
        self.started_s = time.time()
        if pid:
            self.note_pid(pid)
        self._owner.watch()
        if not self._launch.done():
            self._launch.set_result(None)

    def note_pid(self, pid: int) -> None:
        """Note its first process, which may be known later than that it runs."""
        self.pid = pid
        self.pids.add(pid)
        if self._directory is not None:
            self._directory.note_pid(pid)

    def attach(self, task: asyncio.Task[None]) -> None:
        """Take note of the task that runs it. One that is cancelled before it began says nothing itself."""
        self.task = task
        task.add_done_callback(self._note_end)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        if self._result is None and self._error is None:
            self.fail(ReflowError(Kind.CANCELED, "exec", self.id))

    def finish(self, result: ExecResult) -> None:
        """Note its outcome."""
        self._result = result
        self._settle()

    def fail(self, error: ReflowError) -> None:
        """Note that the machinery failed it."""
        self._error = error
        self._settle()

    def _settle(self) -> None:
        self.state = "complete"
        self.ended_s = self.ended_s or time.time()
        for future in (self._launch, self._end):
            if not future.done():
                future.set_result(None)


def _read_from(path: str, offset: int) -> Iterator[bytes]:
    """What a file has from an offset on; nothing when there is no file."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except FileNotFoundError:
        return


if TYPE_CHECKING:

    def _is_exec(running: LocalExec) -> Exec:
        return running
