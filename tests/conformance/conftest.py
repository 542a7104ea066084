from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.execs import Ground, ready
from tests.executors import EXECUTORS


@pytest.fixture(params=EXECUTORS)
async def ground(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ground]:
    async with ready(tmp_path, request.param) as ground:
        yield ground
