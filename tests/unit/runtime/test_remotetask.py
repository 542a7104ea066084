"""Interns and externs of buckets: what of them is recorded."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, InputArg
from reflow.core.fileset import File, Fileset
from reflow.pool import Exec
from reflow.runtime.remotetask import is_remote, run_remote
from reflow.sched import Task, TaskOutcome

if TYPE_CHECKING:
    from reflow.runtime.stores import Stores

FILES = Fileset.of_file(File(Digest.of(b"x"), 1))


class Moving:
    """Stores that move nothing."""

    def __init__(self, error: ReflowError | None = None) -> None:
        self.references = self
        self._error = error

    async def intern(self, url: str) -> Fileset:
        if self._error is not None:
            raise self._error
        return FILES

    async def extern(self, url: str, fileset: Fileset) -> Fileset:
        return fileset


async def run(config: ExecConfig, error: ReflowError | None = None) -> tuple[Exec, Task, TaskOutcome]:
    started: list[Exec] = []
    task = Task(id=Digest.random(), flow_id=Digest.of(b"f"), config=config, on_start=started.append)
    outcome = await run_remote(task, cast("Stores", Moving(error)))
    return started[0], task, outcome


async def test_an_intern_is_recorded_as_an_exec_of_a_machine() -> None:
    config = ExecConfig(type="intern", url="s3://b/k")
    assert is_remote(config)
    running, task, outcome = await run(config)
    assert re.fullmatch("[0-9a-f]{16}/" + task.id.hex(), running.uri)
    assert outcome.result is not None
    assert outcome.result.fileset is FILES
    assert outcome.inspect is not None
    assert (outcome.inspect.state, outcome.inspect.config) == ("complete", config)


async def test_an_extern_is_a_direct_transfer_named_by_what_it_moves() -> None:
    running, _, outcome = await run(ExecConfig(type="extern", url="s3://b/k", args=(InputArg(FILES),)))
    assert (running.uri, running.id, outcome.inspect) == ("local", FILES.digest, None)


async def test_what_cannot_be_moved_is_an_error() -> None:
    error = ReflowError(Kind.NOT_EXIST, "intern", "s3://b/k")
    _, _, outcome = await run(ExecConfig(type="intern", url="s3://b/k"), error)
    assert outcome.result is not None
    assert outcome.result.error is error
    assert outcome.inspect is not None
    assert outcome.inspect.state == "complete"
    _, _, outcome = await run(ExecConfig(type="extern", url="s3://b/k"))
    assert outcome.error is not None
    assert outcome.error.kind is Kind.PRECONDITION
