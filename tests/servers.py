"""Real servers that tests of AWS services talk to: those of s3-up, dynamodb-up and aws-up (moto).

Buckets and tables are shared with all that runs on the machine: names are random, and taken away afterwards.
"""

from __future__ import annotations

import os
import socket
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import pytest

S3 = f"http://127.0.0.1:{os.environ.get('S3_PORT', 8890)}"
DYNAMODB = f"http://127.0.0.1:{os.environ.get('DYNAMODB_PORT', 4567)}"
MOTO = f"http://127.0.0.1:{os.environ.get('AWS_PORT', 5555)}"

REGION = "us-west-2"
ACCESS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
_OTHERS = (
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_DYNAMODB",
)


def environment(*, s3: str = S3, dynamodb: str = DYNAMODB, others: str = MOTO) -> dict[str, str]:
    """What a process needs in its environment to use these servers."""
    return {
        **ACCESS,
        "AWS_ENDPOINT_URL": others,
        "AWS_ENDPOINT_URL_S3": s3,
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb,
    }


def use(monkeypatch: pytest.MonkeyPatch, **endpoints: str) -> dict[str, str]:
    """Set the environment of this test; what was set."""
    for name in _OTHERS:
        monkeypatch.delenv(name, raising=False)
    variables = environment(**endpoints)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@cache
def missing(url: str, script: str) -> str:
    """Say what is not there; nothing when the server answers."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 80), timeout=5).close()
    except OSError as err:
        return f"no server at {url} ({script} starts it): {err}"
    return ""
