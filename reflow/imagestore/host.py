"""Where this machine's Docker daemon is. Imported by every run: nothing but `os` is imported here."""

from __future__ import annotations

import os

DEFAULT_HOST = "unix:///var/run/docker.sock"


class UnsupportedHostError(Exception):
    """``DOCKER_HOST`` names a daemon that is not on this machine; the text says which."""


def socket_path() -> str:
    """Path of the daemon's socket, from ``DOCKER_HOST``. Raises UnsupportedHostError for a remote one."""
    host = os.environ.get("DOCKER_HOST") or DEFAULT_HOST
    if not host.startswith("unix://"):
        detail = "is not on this machine: files are handed over by path, so only unix:// will do"
        raise UnsupportedHostError(f"DOCKER_HOST={host} {detail}")
    return host.removeprefix("unix://")
