"""Interns from, and externs to, buckets: done by the run itself, without an executor.

In the record an intern is an exec of a machine and an extern is a direct transfer, as the original has them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, ExecInspect, ExecResult, InputArg
from reflow.core.fileset import EMPTY_FILESET, Fileset
from reflow.pool import Exec
from reflow.runtime.record import DIRECT_URI
from reflow.runtime.stores import Stores, is_local_url
from reflow.sched import Task, TaskOutcome

_MACHINE = os.urandom(8).hex()
"""What interns of this process name as the machine they ran on."""


def is_remote(config: ExecConfig) -> bool:
    """Whether something is moved from or to elsewhere."""
    return config.type in ("intern", "extern") and not is_local_url(config.url)


async def run_remote(task: Task, stores: Stores) -> TaskOutcome:
    """Move what a task wants moved."""
    is_direct = task.config.type == "extern"
    uri = DIRECT_URI if is_direct else f"{_MACHINE}/{task.id.hex()}"
    transfer = RemoteTransfer(_result_id(task), uri, task.config)
    if task.on_start is not None:
        task.on_start(transfer)
    try:
        fileset = await _moved(task.config, stores)
    except ReflowError as err:
        transfer.finish(EMPTY_FILESET, err)
        if is_direct:
            return TaskOutcome(error=err)
        # It is the intern that has failed, and not what it ran on.
        return TaskOutcome(result=ExecResult(error=err), inspect=await transfer.inspect())
    transfer.finish(fileset, None)
    inspect = None if is_direct else await transfer.inspect()
    return TaskOutcome(result=ExecResult(fileset=fileset), inspect=inspect)


def _result_id(task: Task) -> Digest:
    """What the record says the result is: that of an extern is known before it is written."""
    args = task.config.args
    if task.config.type == "extern" and len(args) == 1 and isinstance(args[0], InputArg):
        return args[0].fileset.digest
    return task.id


async def _moved(config: ExecConfig, stores: Stores) -> Fileset:
    if config.type == "intern":
        return await stores.references.intern(config.url)
    if len(config.args) != 1 or not isinstance(config.args[0], InputArg):
        detail = f"extern needs one argument, got {len(config.args)}"
        raise ReflowError(Kind.PRECONDITION, "extern", config.url, cause=detail)
    return await stores.references.extern(config.url, config.args[0].fileset)


class RemoteTransfer:
    """What stands for an exec while something is moved."""

    def __init__(self, id: Digest, uri: str, config: ExecConfig) -> None:
        self.id = id
        self.uri = uri
        self._config = config
        self._created = datetime.now(UTC)
        self._done = asyncio.Event()
        self._fileset = EMPTY_FILESET
        self._error: ReflowError | None = None

    def finish(self, fileset: Fileset, error: ReflowError | None) -> None:
        """Say how it went."""
        self._fileset, self._error = fileset, error
        self._done.set()

    async def wait(self) -> None:
        """Return when it has ended. Raises what went wrong."""
        await self._done.wait()
        if self._error is not None:
            raise self._error

    async def result(self) -> ExecResult:
        """The files that were moved."""
        return ExecResult(fileset=self._fileset)

    async def inspect(self) -> ExecInspect:
        """What is known of it now."""
        state = "complete" if self._done.is_set() else "running"
        return ExecInspect(config=self._config, created=self._created, state=state)

    async def logs(self, *, stdout: bool, stderr: bool, follow: bool = False) -> AsyncIterator[bytes]:
        """Nothing: no command runs."""
        nothing: tuple[bytes, ...] = ()
        for chunk in nothing:
            yield chunk


if TYPE_CHECKING:
    _: type[Exec] = RemoteTransfer
