"""Where work runs: executors and their execs.

An `Executor` runs commands on one machine. It stages inputs from, and installs outputs into, the
repository it was made with. Ids of execs are chosen by the caller, and `put` is idempotent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from reflow.core.digest import Digest
from reflow.core.execconfig import ExecConfig, ExecInspect, ExecResult
from reflow.core.resources import Resources

__all__ = ["Exec", "Executor", "InputLocator", "Progress"]

Progress = Callable[[str, int, int], None]
"""Told (what is being done, bytes done, bytes in all or 0) while something is pulled or copied."""


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

    async def put(self, id: Digest, config: ExecConfig, progress: Progress | None = None) -> Exec:
        """Start an exec, or return the one with this id that runs or has succeeded.

        The caller has made sure of the resources. Raises NOT_EXIST for an unknown image, UNAVAILABLE
        when the machinery does not answer, and so on: nothing here retries without a bound.
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
