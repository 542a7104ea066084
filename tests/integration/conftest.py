"""Fixtures of tests that run execs in sandboxes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reflow.executor import sandbox
from tests.execs import Ground
from tests.sandboxground import PLAIN, launcher_of


@pytest.fixture(params=["with overlays", PLAIN])
async def ground(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ground]:
    if request.param == PLAIN:
        monkeypatch.setattr(sandbox, "_WAYS_OF_ROOT", ())
        monkeypatch.setattr(sandbox, "_WAYS_OF_ALL", ())
    ground = Ground(tmp_path, "sandbox")
    await ground.executor.start()
    assert bool(launcher_of(ground).way) == (request.param != PLAIN), launcher_of(ground).reasons
    yield ground
    await ground.executor.close(kill=True)


@pytest.fixture
async def overlaid(tmp_path: Path) -> AsyncIterator[Ground]:
    ground = Ground(tmp_path, "sandbox")
    await ground.executor.start()
    assert launcher_of(ground).way, launcher_of(ground).reasons
    yield ground
    await ground.executor.close(kill=True)


@pytest.fixture
def doze() -> str:
    """A command that takes a day, and that nobody else has."""
    return f"sleep 86400.{int.from_bytes(os.urandom(4)):010}"
