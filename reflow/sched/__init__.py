"""Tasks onto machines.

A `Task` is an exec, intern or extern that wants resources. A `Scheduler` runs it as soon as they can be
had, never committing more than there is, and says how it went.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.core.execconfig import ExecConfig, ExecInspect, ExecResult
from reflow.core.resources import Resources
from reflow.pool import Exec

__all__ = ["Scheduler", "Task", "TaskOutcome"]


@dataclass(slots=True, eq=False, kw_only=True)
class Task:
    """One attempt at some work. ``priority``: lower runs first.

    ``on_start`` is called when the exec exists, ``on_progress`` with (what, done bytes, all bytes) while
    inputs or images are fetched.
    """

    id: Digest
    flow_id: Digest
    config: ExecConfig
    attempt: int = 0
    priority: int = 0
    on_start: Callable[[Exec], None] | None = None
    on_progress: Callable[[str, int, int], None] | None = field(default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOutcome:
    """How a task ended: with a result (which may hold a failure), or with ``error`` of the machinery."""

    result: ExecResult | None = None
    inspect: ExecInspect | None = None
    error: ReflowError | None = None

    @property
    def has_succeeded(self) -> bool:
        """Whether there is a value."""
        return self.error is None and self.result is not None and self.result.error is None


class Scheduler(Protocol):
    """Runs tasks. Cancelling `run` ends the task: nothing of it is left running."""

    @property
    def resources(self) -> Resources:
        """The most that any one task can get."""
        ...

    async def run(self, task: Task) -> TaskOutcome:
        """Run a task to its end.

        Returns RESOURCES_EXHAUSTED, naming task, request and the closest fit, when it can never fit.
        """
        ...

    async def close(self, *, kill: bool = False) -> None:
        """Stop; with ``kill``, end what runs."""
        ...
