"""The original's answers to questions of scheduling, retries, prediction and arithmetic."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VECTORS = ROOT.parent / "shared/conformance/cluster"
ADAPTER = ROOT / "tests/adapters/cluster_vectors.py"


@pytest.mark.conformance
@pytest.mark.parametrize("name", ["sched", "taskstate", "predictor", "arithmetic"])
def test_vectors(name: str) -> None:
    if not VECTORS.exists():
        pytest.skip("needs ../shared")
    command = [sys.executable, str(VECTORS / "run"), "--cmd", f"{sys.executable} {ADAPTER}"]
    done = subprocess.run(
        [*command, str(VECTORS / f"{name}.jsonl")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
