"""Our client towards agents that answer as the original's did, or as no healthy one does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AGENT = ROOT.parent / "shared/conformance/wire/agent"
TLS = ROOT / "tests/data/tls"


@pytest.mark.conformance
@pytest.mark.parametrize("more", [[], ["--cert", str(TLS / "server.pem"), "--ca", str(TLS / "ca.pem")]])
def test_requests_and_what_becomes_of_answers(more: list[str]) -> None:
    if not AGENT.exists():
        pytest.skip("needs ../shared")
    client = f"{sys.executable} {ROOT / 'tests/adapters/wire_client.py'}"
    command = [sys.executable, str(AGENT), "--client", client, *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith(" passed, 0 failed")
