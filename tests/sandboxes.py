"""Ground for tests of sandboxes: as an ordinary user, where namespaces are banned, and what still runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_ORDINARY = ("unshare", "--user", "--map-user=60001", "--map-group=60001")
# Root of a namespace where no more can be made, and who has no rights in it.
_BANNED = (
    *("unshare", "--user", "--map-root-user", "sh", "-c"),
    'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all "$@"',
    "sh",
)


def as_ordinary_user(words: Sequence[str]) -> list[str]:
    """A command line that runs another as a user who is not root.

    For root that is a user of a user namespace, who has no right that an ordinary user does not have.
    """
    return [*(_ORDINARY if os.geteuid() == 0 else ()), *words]


def under_a_ban(words: Sequence[str]) -> list[str]:
    """A command line that runs another where making namespaces is not allowed."""
    return [*_BANNED, *words]


def python(*words: str) -> list[str]:
    """A command line for this Python."""
    return [sys.executable, *words]


def run(argv: Sequence[str], timeout_s: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
    """Run something from the project's root."""
    return subprocess.run(
        argv,
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
