"""Repairing the cache: entries that it lacks for what it has under other keys.

A program is evaluated with nothing but the cache: every exec is looked up, and one that is found gets all the
keys that it has by now, its image as the registry knows it included. Nothing is executed; what depends on an
exec that is not found is looked up by its logical digest. Source: flow/repair.go.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from reflow.assoc import Assoc, AssocEntry, Key
from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, ExecInspect, ExecResult
from reflow.core.fileset import Fileset
from reflow.core.resources import Resources
from reflow.eval import CacheMode
from reflow.eval.evaluator import Evaluator
from reflow.flow.digest import digest
from reflow.flow.node import External
from reflow.runtime.config import Config
from reflow.runtime.evalconfig import eval_config
from reflow.runtime.localcluster import LocalCluster
from reflow.runtime.log import Log
from reflow.runtime.quietreport import QuietReport
from reflow.runtime.request import RunRequest
from reflow.runtime.stores import Stores
from reflow.sched import Scheduler, Task, TaskOutcome

if TYPE_CHECKING:
    from reflow.flow.data import LocalFile
    from reflow.lang.program import Program

_NOT_CACHED = "cannot recompute execs or interns"


class Repaired(NamedTuple):
    """How many entries were written, and how many execs were found."""

    entries: int
    found: int


class Repair:
    """Repairs what some programs have in the cache. `open`, then `repair` for each, then `close`."""

    def __init__(
        self, config: Config, log: Log, request: RunRequest, local_files: Callable[[], Sequence[LocalFile]]
    ) -> None:
        self._config = config
        self._log = log
        self._request = request
        self._stores = Stores(config, local_files, checks_contents=False)
        self._cluster = LocalCluster(config, request, self._stores, log)
        self._assoc: _CountingAssoc | None = None
        self._found = 0

    async def open(self, images: list[str]) -> None:
        """Open the stores and choose whose entries are repaired. Raises ReflowError."""
        if self._stores.assoc is None:
            raise ReflowError(
                Kind.PRECONDITION, "repair", cause="no cache is configured: the key assoc is empty"
            )
        self._assoc = _CountingAssoc(self._stores.assoc)
        await self._stores.assoc.open()
        await self._cluster.choose(images)

    async def repair(self, program: Program) -> None:
        """Repair the entries of one program; what is not cached is logged."""
        if program.is_immediate:
            return
        report = _RepairReport(self._log)
        config = eval_config(self._config, self._request, self._stores, self._cluster, report, program.images)
        config = replace(
            config,
            assoc=self._assoc,
            scheduler=_Nowhere(),
            cache=CacheMode.READWRITE,
            is_repair=True,
            keep_files=None,
        )
        evaluator = Evaluator(config)
        await evaluator.run(program.main)
        await evaluator.drain()
        self._found += evaluator.stats.cached

    async def close(self) -> Repaired:
        """Make everything durable; tell what was done."""
        await self._cluster.close()
        await self._stores.close()
        return Repaired(0 if self._assoc is None else self._assoc.written, self._found)


class _Nowhere:
    """Runs nothing. Externs have no value, and so are done at once."""

    @property
    def resources(self) -> Resources:
        return Resources()

    async def run(self, task: Task) -> TaskOutcome:
        if task.config.type == "extern":
            return TaskOutcome(result=ExecResult(fileset=Fileset()))
        return TaskOutcome(error=ReflowError(Kind.NOT_EXIST, cause=_NOT_CACHED))

    async def close(self, *, kill: bool = False) -> None:
        """Nothing is open."""


class _CountingAssoc:
    """An index that counts what is written to it."""

    def __init__(self, assoc: Assoc) -> None:
        self.written = 0
        self._assoc = assoc

    async def open(self) -> None:
        await self._assoc.open()

    async def get_many(self, keys: Collection[Key]) -> Mapping[Key, Digest | ReflowError]:
        return await self._assoc.get_many(keys)

    async def put_many(self, entries: Mapping[Key, Digest]) -> None:
        await self._assoc.put_many(entries)
        self.written += len(entries)

    async def expand(self, prefix: DigestPrefix) -> list[Digest]:
        return await self._assoc.expand(prefix)

    async def delete(self, key: Digest) -> None:
        await self._assoc.delete(key)

    def scan(self) -> AsyncIterator[AssocEntry]:
        return self._assoc.scan()

    async def count(self) -> int:
        return await self._assoc.count()

    async def close(self) -> None:
        await self._assoc.close()


class _RepairReport(QuietReport):
    """Logs what the cache has, and what it lacks."""

    def finished(
        self,
        flow: External,
        config: ExecConfig,
        task_id: Digest,
        value: Fileset | None,
        inspect: ExecInspect | None,
        error: ReflowError | None,
        keys: Sequence[Digest],
    ) -> None:
        """Say that it is not cached."""
        if error is not None:
            self._log.info(f"cannot write back {flow.ident or '?'} {digest(flow).short}: {_NOT_CACHED}")

    def cached(self, flow: External, value: Fileset, key: Digest) -> None:
        """Say that it is cached."""
        self._log.debug(f"found {flow.ident or '?'} {digest(flow).short}")


if TYPE_CHECKING:
    _assoc: type[Assoc] = _CountingAssoc
    _scheduler: type[Scheduler] = _Nowhere
