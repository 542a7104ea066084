"""Fixtures of tests that run execs in sandboxes, or hold them at a gate."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from reflow.executor import sandbox
from tests.daemons import Gate
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
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open()
    made.close()
