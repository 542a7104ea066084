"""How long is searched: a little in CI, the same each time; ``REFLOW_FUZZ=long`` for a search of hours."""

from __future__ import annotations

import os
from datetime import timedelta

from hypothesis import HealthCheck, settings

_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
_SHORT = settings(
    max_examples=150,
    deadline=timedelta(seconds=10),
    derandomize=True,
    database=None,
    suppress_health_check=_QUIET,
)
_LONG = settings(max_examples=20_000, deadline=timedelta(seconds=30), suppress_health_check=_QUIET)

SEARCH = _LONG if os.environ.get("REFLOW_FUZZ") == "long" else _SHORT
