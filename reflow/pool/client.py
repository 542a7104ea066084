"""A machine that runs an agent, as a pool: its offers, allocs and their execs over HTTP.

Calls are made once; who keeps a lease or runs a task decides what is tried again. Ids of offers, allocs and
execs begin with the agent's ``HOST:PORT``.

Source: pool/client/client.go.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, ExecInspect, ExecResult
from reflow.core.fileset import Fileset
from reflow.core.filesetcodec import decode_fileset, encode_fileset
from reflow.core.gojson import fold
from reflow.core.resources import Resources
from reflow.core.wire import exec_config_to_json, exec_inspect_from_json, exec_result_from_json
from reflow.pool import Alloc, AllocExec, AllocInspect, AllocMeta, Offer, Pool, RunInfo
from reflow.pool.wire import (
    NANOSECONDS,
    alloc_from_json,
    digests_from_json,
    interval_from_json,
    meta_to_json,
    offer_from_json,
    run_info_from_json,
    url_to_json,
)
from reflow.repository.httprepo import HttpRepository
from reflow.rest import Rest

_LOGS = {(True, True): "logs", (True, False): "stdout", (False, True): "stderr"}


class RemoteLogs(NamedTuple):
    """Where else an exec's output is kept: ``type`` is ``cloudwatch``, or ``Unknown`` for nowhere."""

    type: str
    group: str
    stream: str


class AgentPool:
    """An agent's machine."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    @property
    def id(self) -> str:
        """``HOST:PORT``."""
        return self._rest.host

    async def config(self) -> str:
        """The agent's configuration, as YAML."""
        return str(await self._rest.ask("GET", "config"))

    async def offers(self) -> Sequence[AgentOffer]:
        """What can be had now."""
        rows = await self._rest.ask("GET", "offers/")
        return [AgentOffer(self._rest, *offer_from_json(row)) for row in rows or ()]

    async def offer(self, id: str) -> AgentOffer:
        """An offer by the last part of its id. Raises NOT_EXIST."""
        row = await self._rest.ask("GET", f"offers/{_quoted(id)}")
        return AgentOffer(self._rest, *offer_from_json(row))

    async def allocs(self) -> Sequence[AgentAlloc]:
        """All allocs, expired ones too."""
        rows = await self._rest.ask("GET", "allocs/")
        return [AgentAlloc(self._rest, alloc_from_json(row)) for row in rows or ()]

    async def alloc(self, id: str) -> AgentAlloc:
        """An alloc by its id, whole or without the agent's part. Raises NOT_EXIST."""
        name = id.rpartition("/")[2]
        row = await self._rest.ask("GET", f"allocs/{_quoted(name)}")
        return AgentAlloc(self._rest, alloc_from_json(row))

    async def close(self) -> None:
        """Let go of the connections."""
        await self._rest.close()


class AgentOffer:
    """Resources that an agent can give."""

    def __init__(self, rest: Rest, name: str, available: Resources) -> None:
        self._rest = rest
        self._name = name
        self._available = available

    @property
    def id(self) -> str:
        """``HOST:PORT/NAME``."""
        return f"{self._rest.host}/{self._name}"

    @property
    def available(self) -> Resources:
        """The most that can be asked of it."""
        return self._available

    async def accept(self, meta: AllocMeta) -> AgentAlloc:
        """Take a part of it. Raises NOT_EXIST when somebody else was faster."""
        row = await self._rest.ask("POST", f"offers/{_quoted(self._name)}", meta_to_json(meta))
        return AgentAlloc(self._rest, alloc_from_json(row))


class AgentAlloc:
    """A part of an agent's machine."""

    def __init__(self, rest: Rest, known: AllocInspect) -> None:
        self._rest = rest
        self._path = f"allocs/{_quoted(known.id)}"
        self._id = f"{rest.host}/{known.id}"
        self._resources = known.resources
        self._repository = HttpRepository(rest, f"{self._path}/repository/")

    @property
    def id(self) -> str:
        """``HOST:PORT/NAME``."""
        return self._id

    @property
    def resources(self) -> Resources:
        """What it has to give, all in all."""
        return self._resources

    @property
    def repository(self) -> HttpRepository:
        """Where its inputs and promoted results are."""
        return self._repository

    async def put(self, id: Digest, config: ExecConfig) -> AgentExec:
        """Start an exec, or return the one with this id. Inputs must have been loaded."""
        running = AgentExec(self._rest, self, id)
        await self._rest.tell("PUT", f"{running.path}/", exec_config_to_json(config))
        return running

    async def get(self, id: Digest) -> AgentExec:
        """An exec that was put. Raises NOT_EXIST."""
        running = AgentExec(self._rest, self, id)
        await self._rest.head(f"{running.path}/")
        return running

    async def remove(self, id: Digest) -> None:
        """End an exec and forget it; the original's agents refuse that as NOT_ALLOWED."""
        await self._rest.tell("DELETE", AgentExec(self._rest, self, id).path)

    async def execs(self) -> Sequence[Digest]:
        """Ids of all its execs."""
        return digests_from_json(await self._rest.ask("GET", f"{self._path}/execs"))

    async def load(self, repository_url: str, fileset: Fileset) -> Fileset:
        """Bring files in, from the repository or from where they point."""
        path = f"{self._path}/load?srcurl={_quoted(repository_url)}"
        return decode_fileset(await self._rest.send("POST", path, _encoded(fileset)))

    async def unload(self, fileset: Fileset) -> None:
        """Give up files that were loaded or promoted."""
        await self._rest.send("POST", f"{self._path}/unload", _encoded(fileset))

    async def verify(self, fileset: Fileset) -> None:
        """Raise INTEGRITY when a loaded file is no longer what its digest says."""
        await self._rest.send("POST", f"{self._path}/verify", _encoded(fileset))

    async def keepalive(self, interval_s: float) -> float:
        """Extend the lease from now on; the seconds granted."""
        asked = {"Interval": round(interval_s * NANOSECONDS)}
        return interval_from_json(await self._rest.ask("POST", f"{self._path}/keepalive", asked))

    async def inspect(self) -> AllocInspect:
        """What is known of it now."""
        return alloc_from_json(await self.inspect_json())

    async def inspect_json(self) -> Any:
        """What is known of it now, as the agent says it."""
        return await self._rest.ask("GET", self._path)

    async def free(self) -> None:
        """End the lease and all that runs in it. Agents refuse a second time as NOT_SUPPORTED."""
        await self._rest.tell("DELETE", self._path)


class AgentExec:
    """An exec of an agent's alloc."""

    def __init__(self, rest: Rest, alloc: AgentAlloc, id: Digest) -> None:
        self._rest = rest
        self._id = id
        self._uri = f"{alloc.id}/{id.hex()}"
        self.path = f"allocs/{_quoted(alloc.id.rpartition('/')[2])}/execs/{id}"

    @property
    def id(self) -> Digest:
        """The id under which it was put."""
        return self._id

    @property
    def uri(self) -> str:
        """``HOST:PORT/ALLOC/HEX``."""
        return self._uri

    async def wait(self) -> None:
        """Return when it has ended. Raises what broke it, which is not a failure of its command."""
        await self._rest.tell("GET", f"{self.path}/wait")

    async def result(self) -> ExecResult:
        """The outcome, when it has ended."""
        return exec_result_from_json(await self._rest.ask("GET", f"{self.path}/result"))

    async def promote(self) -> None:
        """Move its results into the alloc's repository. May be repeated."""
        await self._rest.tell("POST", f"{self.path}/promote")

    async def inspect(self) -> ExecInspect:
        """What is known of it now."""
        return exec_inspect_from_json(fold(await self.inspect_json()).get("inspect"))

    async def inspect_json(self) -> Any:
        """What is known of it now, as the agent says it."""
        return await self._rest.ask("GET", self.path)

    async def save(self, repository_url: str) -> RunInfo:
        """Have inspection, stdout and stderr stored in that repository, for an exec that has ended."""
        info = run_info_from_json(await self.save_json(repository_url))
        if info is None:
            raise ReflowError(Kind.PRECONDITION, "save", self._uri, cause="it has not ended")
        return info

    async def save_json(self, repository_url: str) -> Any:
        """What `save` returns, as the agent says it."""
        return await self._rest.ask("POST", self.path, url_to_json(repository_url))

    async def logs(self, *, stdout: bool, stderr: bool, follow: bool = False) -> AsyncIterator[bytes]:
        """Its output so far; with ``follow`` until it ends."""
        name = _LOGS.get((stdout, stderr))
        if name is None:
            cause = "at least one of stdout, stderr must be set"
            raise ReflowError(Kind.OTHER, "logs", self._uri, "false", "false", cause=cause)
        async for chunk in self._rest.stream(
            "GET", f"{self.path}/{name}" + ("?follow=true" if follow else "")
        ):
            yield chunk

    async def remote_logs(self, *, stdout: bool) -> RemoteLogs:
        """Where its output is kept when its machine is gone."""
        row = fold(await self._rest.ask("GET", f"{self.path}/{'stdout' if stdout else 'stderr'}loc"))
        return RemoteLogs(*(str(row.get(name) or "") for name in ("type", "loggroupname", "logstreamname")))

    def shell(self, typed: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """A shell beside its command: what it says (frames of Docker's stream) to what is typed."""
        return self._rest.stream("POST", f"{self.path}/shell", typed)


def _encoded(fileset: Fileset) -> bytes:
    return encode_fileset(fileset, with_assertions=False, with_references=True)


def _quoted(text: str) -> str:
    return quote(text, safe="")


if TYPE_CHECKING:
    _: tuple[type[Pool], type[Offer], type[Alloc], type[AllocExec]]
    _ = AgentPool, AgentOffer, AgentAlloc, AgentExec
