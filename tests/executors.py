"""The executors that suites run on."""

from __future__ import annotations

import pytest

EXECUTORS = [
    pytest.param("process", id="process"),
    pytest.param("docker", id="docker", marks=pytest.mark.docker),
    pytest.param("sandbox", id="sandbox", marks=pytest.mark.sandbox),
]
