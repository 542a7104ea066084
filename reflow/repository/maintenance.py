"""Removing objects of a file repository that nothing refers to.

An object's time of change of state (ctime) tells when it was last of use: it is set when the object is made,
linked into an exec's directory, or stored again (`ObjectDirectory.is_intact`). What was of use lately is
never removed, whatever refers to it: somebody may be about to.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container
from typing import NamedTuple

from reflow.core.digest import Digest
from reflow.repository.objectdir import ObjectDirectory

GRACE_S = 86400.0
"""How long everything stays that was of use."""


class Collected(NamedTuple):
    """How many objects there were, and how many of them (and bytes) were, or would be, removed."""

    objects: int
    removed: int
    removed_bytes: int


def collect_objects(
    directory: ObjectDirectory,
    live: Container[Digest],
    dead: Container[Digest],
    before_s: float,
    *,
    now_s: float,
    dry_run: bool,
) -> Collected:
    """Remove objects that are not live, and are dead or were of no use since ``before_s`` (Unix seconds).

    What was of use within a day before ``now_s`` stays. Blocks; may run while others use the repository.
    """
    grace_s = now_s - GRACE_S
    objects = removed = removed_bytes = 0
    for each in directory.objects():
        objects += 1
        if each.digest in live or each.changed_s > grace_s:
            continue
        if each.changed_s > before_s and each.digest not in dead:
            continue
        if dry_run or _remove_unused(directory, each.digest, grace_s):
            removed += 1
            removed_bytes += each.size
    if not dry_run:
        prune(directory)
    return Collected(objects, removed, removed_bytes)


def _remove_unused(directory: ObjectDirectory, digest: Digest, grace_s: float) -> bool:
    """Remove an object unless it is of use again by now."""
    try:
        if os.stat(directory.path(digest)).st_ctime > grace_s:
            return False
    except FileNotFoundError:
        return False
    return directory.remove(digest)


def prune(directory: ObjectDirectory) -> None:
    """Remove the directories of objects that are empty. One that is needed again is made again."""
    for first in range(256):
        with contextlib.suppress(OSError):
            os.rmdir(f"{directory.root}/{first:02x}")
