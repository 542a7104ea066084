from __future__ import annotations

import pytest

from tests.evalbench import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()
