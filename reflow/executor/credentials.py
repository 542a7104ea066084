"""AWS credentials for execs whose image asks for them (``$aws``)."""

from __future__ import annotations

import os

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError

_NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def from_environment(id: Digest) -> dict[str, str]:
    """The credentials in our own environment. Raises NOT_ALLOWED when there are none."""
    found = {name: os.environ[name] for name in _NAMES if os.environ.get(name)}
    if "AWS_ACCESS_KEY_ID" not in found or "AWS_SECRET_ACCESS_KEY" not in found:
        detail = "the image asks for AWS credentials ($aws): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        raise ReflowError(Kind.NOT_ALLOWED, "exec", id, cause=detail)
    return found
