"""Pools and clusters in memory: real ones, whose execs are calls of Python functions.

Every alloc has a repository of its own, counts what was loaded, sets results aside until they are promoted,
and asserts that it is not over-committed. ``faults`` are errors that its methods raise, first one first.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, ExecInspect, ExecResult, ProfileEntry
from reflow.core.fileset import Fileset
from reflow.core.resources import NO_RESOURCES, Requirements, Resources
from reflow.pool import Alloc, AllocExec, AllocInspect, AllocMeta, Cluster, Offer, Pool, RunInfo
from reflow.pool.allocate import allocate
from reflow.pool.lease import INTERVAL_S, granted_s
from reflow.pool.placement import Held, collect_for, offer_of
from reflow.repository import Repository
from reflow.repository.memory import MemoryRepository
from reflow.repository.transfer import copy_files
from tests.fakes import Program

GIB = float(1 << 30)
MACHINE = Resources(mem=16 * GIB, cpu=4.0, disk=100 * GIB)


class MemoryAllocExec:
    """A call of a program on an alloc."""

    def __init__(self, id: Digest, config: ExecConfig, alloc: MemoryAlloc) -> None:
        self._id = id
        self.config = config
        self._alloc = alloc
        self._result: ExecResult | None = None
        self._is_promoted = False
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        self._result = await self._alloc.program(self.config)

    @property
    def id(self) -> Digest:
        return self._id

    @property
    def uri(self) -> str:
        return f"{self._alloc.id}/{self._id.hex()}"

    async def wait(self) -> None:
        await self._alloc.answer("wait")
        death = asyncio.ensure_future(self._alloc.death.wait())
        try:
            await asyncio.wait([self.task, death], return_when=asyncio.FIRST_COMPLETED)
        finally:
            death.cancel()
        await self._alloc.answer("waited")
        if self.task.cancelled():
            raise ReflowError(Kind.UNAVAILABLE, "wait", self._id)
        self.task.result()

    async def result(self) -> ExecResult:
        await self._alloc.answer("result")
        assert self._result is not None
        return self._result

    async def promote(self) -> None:
        await self._alloc.answer("promote")
        assert self._result is not None
        if not self._is_promoted and self.config.type != "extern":
            self._alloc.hold(self._result.fileset)
        self._is_promoted = True

    async def inspect(self) -> ExecInspect:
        await self._alloc.answer("inspect")
        return ExecInspect(
            config=self.config, created=datetime.now(UTC), state="complete", profile=self._profile()
        )

    async def save(self, repository_url: str) -> RunInfo:
        await self._alloc.answer("save")
        (stdout,) = await self._alloc.homes[repository_url].put_bytes_many([b"stdout\n"])
        return RunInfo(runtime_s=2.0, profile=self._profile(), stdout=stdout)

    def _profile(self) -> dict[str, ProfileEntry]:
        return {"mem": ProfileEntry(1 << 20, 1 << 20, 0, 1)}

    async def logs(self, *, stdout: bool, stderr: bool, follow: bool = False) -> AsyncIterator[bytes]:
        await self._alloc.answer("logs")
        if stdout:
            yield b"stdout\n"


class MemoryAlloc:
    """A part of a machine in memory. ``held`` counts loads and promotions of each object."""

    def __init__(self, pool: MemoryPool, id: str, meta: AllocMeta) -> None:
        self._pool = pool
        self._id = id
        self.meta = meta
        self._repository = MemoryRepository()
        self.program = pool.make_program(self._repository)
        self.homes = pool.homes
        self.held: Counter[Digest] = Counter()
        self.calls: Counter[str] = Counter()
        self.faults: dict[str, list[ReflowError]] = defaultdict(list)
        self.death = asyncio.Event()
        self.is_freed = False
        self.created = datetime.now(UTC)
        self.last_keepalive = self.created
        self.lease_s = INTERVAL_S
        self.renewed = time.monotonic()
        self._execs: dict[Digest, MemoryAllocExec] = {}

    async def answer(self, call: str) -> None:
        """Count a call; raise what is the matter."""
        self.calls[call] += 1
        await asyncio.sleep(0)
        if self.death.is_set():
            raise ReflowError(Kind.NET, call, self._id, cause="connection refused")
        if self.is_freed:
            raise ReflowError(Kind.NOT_SUPPORTED, call, self._id, cause="zombie alloc")
        if self.faults[call]:
            raise self.faults[call].pop(0)

    def die(self) -> None:
        """Answer nothing any more."""
        self.death.set()
        for each in self._execs.values():
            each.task.cancel()

    def hold(self, fileset: Fileset) -> None:
        """Count the files of a fileset."""
        self.held.update([file.id for file in fileset.all_files() if file.id is not None])

    @property
    def id(self) -> str:
        return f"{self._pool.id}/{self._id}"

    @property
    def resources(self) -> Resources:
        return self.meta.want

    @property
    def repository(self) -> Repository:
        return self._repository

    @property
    def running(self) -> list[MemoryAllocExec]:
        """Execs that have not ended."""
        return [each for each in self._execs.values() if not each.task.done()]

    async def put(self, id: Digest, config: ExecConfig) -> AllocExec:
        await self.answer("put")
        if id in self._execs and not self._execs[id].task.cancelled():
            return self._execs[id]
        self._execs[id] = MemoryAllocExec(id, config, self)
        used = NO_RESOURCES
        for each in self.running:
            used = used + each.config.resources
        assert self.resources.fits(used), f"over-committed: {used} of {self.resources}"
        return self._execs[id]

    async def get(self, id: Digest) -> AllocExec:
        await self.answer("get")
        if id not in self._execs:
            raise ReflowError(Kind.NOT_EXIST, "get", id)
        return self._execs[id]

    async def remove(self, id: Digest) -> None:
        await self.answer("remove")
        if id not in self._execs:
            raise ReflowError(Kind.NOT_EXIST, "remove", id)
        task = self._execs.pop(id).task
        task.cancel()
        await asyncio.wait([task])

    async def execs(self) -> Sequence[Digest]:
        await self.answer("execs")
        return list(self._execs)

    async def load(self, repository_url: str, fileset: Fileset) -> Fileset:
        await self.answer("load")
        await copy_files(fileset.all_files(), self.homes[repository_url], self._repository)
        self.hold(fileset)
        return fileset

    async def unload(self, fileset: Fileset) -> None:
        await self.answer("unload")
        for file in fileset.all_files():
            assert file.id is not None
            assert self.held[file.id] > 0, f"{file} is unloaded, but was not loaded"
            self.held[file.id] -= 1

    async def verify(self, fileset: Fileset) -> None:
        await self.answer("verify")

    async def keepalive(self, interval_s: float) -> float:
        await self.answer("keepalive")
        self.lease_s = granted_s(interval_s)
        self.renewed = time.monotonic()
        self.last_keepalive = datetime.now(UTC)
        return self.lease_s

    @property
    def expired_for_s(self) -> float:
        """How long ago the lease ended; negative while it lasts."""
        return time.monotonic() - self.renewed - self.lease_s

    async def inspect(self) -> AllocInspect:
        await self.answer("inspect alloc")
        expires = self.last_keepalive + timedelta(seconds=self.lease_s)
        return AllocInspect(
            id=self._id,
            resources=self.resources,
            meta=self.meta,
            created=self.created,
            last_keepalive=self.last_keepalive,
            expires=expires,
        )

    async def free(self) -> None:
        if self.death.is_set():
            await self.answer("free")
        tasks = [each.task for each in self._execs.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self.is_freed = True
        self._pool.living.pop(self._id, None)


class MemoryOffer:
    """All that is free of a pool."""

    def __init__(self, pool: MemoryPool, available: Resources) -> None:
        self._pool = pool
        self._available = available

    @property
    def id(self) -> str:
        return "1"

    @property
    def available(self) -> Resources:
        return self._available

    async def accept(self, meta: AllocMeta) -> Alloc:
        return await self._pool.make(meta)


class MemoryPool:
    """A machine in memory. ``living`` has the allocs that were not freed, ``made`` all there ever were."""

    def __init__(
        self,
        id: str,
        make_program: Callable[[Repository], Program],
        homes: Mapping[str, Repository],
        total: Resources = MACHINE,
    ) -> None:
        self._id = id
        self.make_program = make_program
        self.homes = homes
        self.total = total
        self.living: dict[str, MemoryAlloc] = {}
        self.made: list[MemoryAlloc] = []
        self.is_dead = False

    @property
    def id(self) -> str:
        return self._id

    def _held(self) -> list[Held]:
        return [Held(id, alloc.resources, alloc.expired_for_s) for id, alloc in self.living.items()]

    async def offers(self) -> Sequence[Offer]:
        available = offer_of(self.total, self._held())
        return [] if available is None else [MemoryOffer(self, available)]

    async def allocs(self) -> Sequence[Alloc]:
        return list(self.living.values())

    async def alloc(self, id: str) -> Alloc:
        if id not in self.living:
            raise ReflowError(Kind.NOT_EXIST, "alloc", id)
        return self.living[id]

    async def make(self, meta: AllocMeta) -> Alloc:
        collected = collect_for(self.total, self._held(), meta.want)
        if collected is None:
            raise ReflowError(Kind.NOT_EXIST, "alloc", cause="offer expired")
        for id in collected:
            await self.living[id].free()
        alloc = MemoryAlloc(self, f"a{len(self.made)}", meta)
        self.living[alloc.id.rpartition("/")[2]] = alloc
        self.made.append(alloc)
        return alloc


class MemoryCluster:
    """Machines that are made as they are needed, ``limit`` of them at most; more have to wait.

    ``failures`` are what allocations fail with, first one first.
    """

    def __init__(
        self, make_program: Callable[[Repository], Program], home: Repository, *, limit: int = 3
    ) -> None:
        self.homes = {home.url: home}
        self.make_program = make_program
        self.limit = limit
        self.pools: list[MemoryPool] = []
        self.asked: list[Requirements] = []
        self.failures: list[ReflowError] = []
        self._numbers = itertools.count()

    @property
    def name(self) -> str:
        return "memory"

    @property
    def resources(self) -> Resources:
        return MACHINE

    @property
    def made(self) -> list[MemoryAlloc]:
        """All allocs there ever were, in order."""
        return [alloc for pool in self.pools for alloc in pool.made]

    @property
    def living(self) -> list[MemoryAlloc]:
        """Those that nobody freed."""
        return [alloc for pool in self._machines for alloc in pool.living.values()]

    def refusal(self, resources: Resources) -> str:
        return "" if MACHINE.fits(resources) else f"a machine has {MACHINE}"

    def drop(self, alloc: MemoryAlloc) -> None:
        """Let an alloc's machine die."""
        alloc.die()
        for pool in self.pools:
            pool.is_dead |= alloc in pool.living.values()

    @property
    def _machines(self) -> list[MemoryPool]:
        return [pool for pool in self.pools if not pool.is_dead]

    async def allocate(self, requirements: Requirements, labels: Mapping[str, str]) -> Alloc:
        self.asked.append(requirements)
        if self.failures:
            await asyncio.sleep(0)
            raise self.failures.pop(0)
        while True:
            for pool in self._machines:
                try:
                    return await allocate(pool, requirements, labels=labels)
                except ReflowError:
                    continue
            if len(self._machines) < self.limit:
                self.pools.append(MemoryPool(f"m{next(self._numbers)}", self.make_program, self.homes))
                continue
            await asyncio.sleep(0.005)


if TYPE_CHECKING:
    _exec: type[AllocExec] = MemoryAllocExec
    _alloc: type[Alloc] = MemoryAlloc
    _offer: type[Offer] = MemoryOffer
    _pool: type[Pool] = MemoryPool
    _cluster: type[Cluster] = MemoryCluster
