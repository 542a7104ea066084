"""How long is searched: a little in CI, the same each time; ``REFLOW_FUZZ=long`` for a search of hours."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings

_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]

settings.register_profile(
    "ci",
    max_examples=150,
    deadline=timedelta(seconds=10),
    derandomize=True,
    database=None,
    suppress_health_check=_QUIET,
)
settings.register_profile(
    "long", max_examples=20_000, deadline=timedelta(seconds=30), suppress_health_check=_QUIET
)
settings.load_profile(os.environ.get("REFLOW_FUZZ", "ci"))


@pytest.fixture(autouse=True, scope="session")
def depth_of_the_command() -> Iterator[None]:
    """The recursion limit that the command has."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    yield
    sys.setrecursionlimit(limit)
