"""A sandbox executor in tests, and its launcher."""

from __future__ import annotations

from reflow.executor.sandbox import SandboxExecutor
from reflow.executor.sandbox_spawn import Launcher
from tests.execs import Ground

PLAIN = "without overlays"
"""The fixture ``ground`` without overlays."""


def launcher_of(ground: Ground) -> Launcher:
    """The executor's launcher, which lives."""
    assert isinstance(ground.executor, SandboxExecutor)
    launcher = ground.executor._launcher
    assert launcher is not None
    return launcher


def launcher_pid(ground: Ground) -> int:
    """The pid of the launcher."""
    process = launcher_of(ground)._process
    assert process is not None
    return process.pid
