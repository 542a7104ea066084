from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.execs import Ground, ready


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with ready(tmp_path, "process") as ground:
        yield ground
