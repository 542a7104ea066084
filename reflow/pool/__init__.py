"""Where work runs: executors and their execs; pools, what they offer, and allocs.

An `Executor` runs commands on one machine. It stages inputs from, and installs outputs into, the
repository it was made with. Ids of execs are chosen by the caller, and `put` is idempotent.

A `Pool` is a machine (or many) that others can have parts of: it makes `Offer`s, and who accepts one gets
an `Alloc`, an executor with a repository of its own, leased for as long as it is kept alive (`lease`).
A `Cluster` finds or makes pools for what is asked of it. `placement` has the decisions about offers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from reflow.core.digest import Digest
from reflow.core.execconfig import ExecConfig, ExecInspect, ExecResult, Profile
from reflow.core.fileset import Fileset
from reflow.core.resources import NO_RESOURCES, Requirements, Resources
from reflow.repository import Repository

__all__ = [
    "Alloc",
    "AllocExec",
    "AllocInspect",
    "AllocMeta",
    "Cluster",
    "Exec",
    "Executor",
    "FreeRoom",
    "InputLocator",
    "Offer",
    "Pool",
    "Progress",
    "Room",
    "RunInfo",
    "gauges_of",
    "was_noted",
]

Progress = Callable[[str, int, int], None]
"""Told (what is being done, bytes done, bytes in all or 0) while something is pulled or copied."""


class Room(Protocol):
    """What an exec's command takes of its machine. The executor enters it just before the command starts."""

    @property
    def is_held(self) -> bool:
        """Whether `enter` would return at once."""
        ...

    async def enter(self) -> None:
        """Return when the command may start; at once when its room is held already.

        Raises CANCELED when nothing may start any more.
        """
        ...

    def leave(self) -> None:
        """The command has ended, or there is something else to wait for."""
        ...


class FreeRoom:
    """Room for whoever has made sure of it already."""

    is_held = True

    async def enter(self) -> None:
        """It is there."""

    def leave(self) -> None:
        """Nobody waits for it."""


class InputLocator(Protocol):
    """Finds the file that has some contents: an object of the repository, or a user's own file.

    Methods block; call them from threads.
    """

    def locate(self, digest: Digest) -> tuple[str, bool]:
        """Return an absolute path and whether it is a user's own file (never to be linked or changed).

        Raises NOT_EXIST.
        """
        ...

    def check_unchanged(self, digest: Digest) -> None:
        """Raise INVALID naming the file, when a user's file is no longer what was hashed.

        For objects of the repository: raise INTEGRITY after setting an altered object aside.
        """
        ...

    def keep(self, digest: Digest) -> str:
        """Return the path of an object; when there is only a user's file, store a copy first.

        Raises NOT_EXIST, INVALID naming a user's file that is no longer what was hashed, RESOURCES_EXHAUSTED.
        """
        ...

    @property
    def epoch(self) -> int | None:
        """Another number when some object was set aside: links made before may lead to it.

        None: no link is to be trusted that was made for another exec.
        """
        ...


class Exec(Protocol):
    """One command, running or finished."""

    @property
    def id(self) -> Digest:
        """The id under which it was put."""
        ...

    @property
    def uri(self) -> str:
        """Names the exec globally: what ``reflow info`` and ``reflow logs`` take."""
        ...

    async def wait(self) -> None:
        """Return when it has ended. Raises for trouble of the machinery, not of the command."""
        ...

    async def result(self) -> ExecResult:
        """The outcome. Asserts that it has ended."""
        ...

    async def inspect(self) -> ExecInspect:
        """What is known of it now."""
        ...

    def logs(self, *, stdout: bool, stderr: bool, follow: bool = False) -> AsyncIterator[bytes]:
        """Its output so far; with ``follow`` until it ends."""
        ...


def gauges_of(running: Exec) -> Mapping[str, float]:
    """What an exec uses now, by name (``mem`` in bytes), as far as it knows at once; changes as it runs."""
    # Not by a Protocol that is checked at run time: that takes as long as all else that is done here.
    gauges: Mapping[str, float] = getattr(running, "gauges", {})
    return gauges


def was_noted(running: Exec) -> bool:
    """Whether an exec's value is one that another run had noted: then its command did not run for it."""
    return bool(getattr(running, "was_noted", False))


class Executor(Protocol):
    """A machine that runs execs, each in surroundings of its own."""

    @property
    def name(self) -> str:
        """docker, sandbox or process."""
        ...

    @property
    def resources(self) -> Resources:
        """All that this machine has to give."""
        ...

    async def start(self) -> None:
        """Get ready; remove what dead runs left behind. Raises with a reason a user can act on."""
        ...

    async def put(
        self, id: Digest, config: ExecConfig, progress: Progress | None = None, room: Room | None = None
    ) -> Exec:
        """Start an exec, or return the one with this id that runs or has succeeded.

        Its command runs in ``room``; without one the caller has made sure of the resources. Raises NOT_EXIST
        for an unknown image, UNAVAILABLE when the machinery does not answer, and so on: nothing here retries
        without a bound.
        """
        ...

    async def get(self, id: Digest) -> Exec:
        """An exec that was put. Raises NOT_EXIST."""
        ...

    async def remove(self, id: Digest) -> None:
        """Kill it if it runs and delete its directory."""
        ...

    async def close(self, *, kill: bool = False) -> None:
        """Stop; with ``kill``, end what runs: no container or process is left when this returns."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What an exec of an alloc left when it had ended; digests of what was stored of it, if it was."""

    runtime_s: float = 0.0
    profile: Profile = field(default_factory=dict)
    resources: Resources = NO_RESOURCES
    inspect: Digest | None = None
    stdout: Digest | None = None
    stderr: Digest | None = None


class AllocExec(Exec, Protocol):
    """An exec of an alloc: its results are set aside until they are promoted."""

    async def promote(self) -> None:
        """Move its results into the alloc's repository. May be repeated."""
        ...

    async def save(self, repository_url: str) -> RunInfo:
        """Have inspection, stdout and stderr stored in the repository at that URL.

        For an exec that has ended. Digests are absent for what could not be stored.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocMeta:
    """Who asks for an alloc, and for what."""

    want: Resources
    owner: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocInspect:
    """What is known of an alloc: expired when ``expires`` has passed. One that was freed has no times."""

    id: str
    resources: Resources
    meta: AllocMeta
    created: datetime | None
    last_keepalive: datetime | None
    expires: datetime | None
    taskdb_id: Digest | None = None


class Alloc(Protocol):
    """A part of one machine, leased: an executor with a repository of its own.

    Its errors: NET when it cannot be reached, FATAL or NOT_SUPPORTED when it is no more, others as they come.
    """

    @property
    def id(self) -> str:
        """Names the alloc globally."""
        ...

    @property
    def resources(self) -> Resources:
        """What it has to give, all in all."""
        ...

    @property
    def repository(self) -> Repository:
        """Where its inputs and promoted results are."""
        ...

    async def put(self, id: Digest, config: ExecConfig) -> AllocExec:
        """Start an exec, or return the one with this id. Inputs must have been loaded."""
        ...

    async def get(self, id: Digest) -> AllocExec:
        """An exec that was put. Raises NOT_EXIST."""
        ...

    async def remove(self, id: Digest) -> None:
        """End an exec and forget it. Raises NOT_EXIST, or NOT_ALLOWED by agents that cannot."""
        ...

    async def execs(self) -> Sequence[Digest]:
        """Ids of all its execs."""
        ...

    async def load(self, repository_url: str, fileset: Fileset) -> Fileset:
        """Bring files in, from the repository or, for references, from where they point.

        Returns the fileset with every file resolved. Each load is undone by one `unload`.
        """
        ...

    async def unload(self, fileset: Fileset) -> None:
        """Give up files that were loaded or promoted; the last one to do so frees the disk."""
        ...

    async def verify(self, fileset: Fileset) -> None:
        """Raise INTEGRITY when a loaded file is no longer what its digest says."""
        ...

    async def keepalive(self, interval_s: float) -> float:
        """Extend the lease from now on; the seconds granted, which may be fewer."""
        ...

    async def inspect(self) -> AllocInspect:
        """What is known of it now."""
        ...

    async def free(self) -> None:
        """End the lease and all that runs in it. May be repeated."""
        ...


class Offer(Protocol):
    """Resources that a pool can give."""

    @property
    def id(self) -> str:
        """Names the offer in its pool."""
        ...

    @property
    def available(self) -> Resources:
        """The most that can be asked of it."""
        ...

    async def accept(self, meta: AllocMeta) -> Alloc:
        """Take ``meta.want`` of it. Raises NOT_EXIST when somebody else was faster."""
        ...


class Pool(Protocol):
    """Machines that allocs are made on."""

    @property
    def id(self) -> str:
        """Names the pool."""
        ...

    async def offers(self) -> Sequence[Offer]:
        """What can be had now."""
        ...

    async def allocs(self) -> Sequence[Alloc]:
        """All allocs, expired ones too."""
        ...

    async def alloc(self, id: str) -> Alloc:
        """An alloc by its id. Raises NOT_EXIST."""
        ...


class Cluster(Protocol):
    """Where allocs come from."""

    @property
    def name(self) -> str:
        """Names the cluster in messages."""
        ...

    @property
    def resources(self) -> Resources:
        """The most that one alloc can have; empty when that is not known."""
        ...

    async def allocate(self, requirements: Requirements, labels: Mapping[str, str]) -> Alloc:
        """Return an alloc with the minimum at least; the width is a hint for its size.

        Waits for as long as there is hope. Raises UNAVAILABLE, or what else is the matter. When this is
        cancelled nothing stays allocated.
        """
        ...

    def refusal(self, resources: Resources) -> str:
        """Say why no alloc can ever have these resources; nothing when one can."""
        ...
